//! The order of the house, read from the sources. No control plane.

mod generated {
    //! Generated files are committed, and fresh.

    use std::path::Path;

    use fivespot::api::crd;

    #[test]
    fn the_committed_definitions_are_those_of_the_types() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/crd/definitions.yaml");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        let today = crd::render(&crd::definitions(), crd::Format::Yaml).unwrap();
        // Compared here and not by assert_eq, which would print both, each of two thousand lines.
        let differs = committed.lines().zip(today.lines()).position(|(old, new)| old != new);
        let line = differs.unwrap_or_else(|| committed.lines().count().min(today.lines().count())) + 1;
        assert!(
            committed == today,
            "manifests/crd/definitions.yaml is stale from line {line} on: run `just generate`"
        );
    }
}
