//! The order of the house, read from the sources. No control plane.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "these are tests, and so are the functions they share"
)]

#[path = "e2e/crd/cases.rs"]
#[allow(dead_code, reason = "shared with the tests of admission, which use more of it")]
mod cases;

mod house {
    //! Pure files stay pure, and arrows of use point one way.

    use std::fs;
    use std::path::{Path, PathBuf};

    /// No await, no client, no clock, no environment, no logging.
    const PURE: [&str; 32] = [
        "src/leadership/board.rs",
        "src/leadership/candidate.rs",
        "src/leadership/lease.rs",
        "src/leadership/shard.rs",
        "src/agent/rules",
        "src/agent/book.rs",
        "src/agent/session.rs",
        "src/controller/agent/plan.rs",
        "src/controller/agent/rules.rs",
        "src/controller/agent/said.rs",
        "src/capi/drain_rules.rs",
        "src/schedule",
        "src/api",
        "src/capi/duration.rs",
        "src/capi/encode.rs",
        "src/capi/machine.rs",
        "src/capi/version.rs",
        "src/capi/kinds/verdict.rs",
        "src/controller/decide",
        "src/controller/build.rs",
        "src/controller/conditions.rs",
        "src/controller/effect.rs",
        "src/controller/events.rs",
        "src/controller/hold/mod.rs",
        "src/controller/hold/said.rs",
        "src/controller/reclaim",
        "src/controller/parts.rs",
        "src/controller/report.rs",
        "src/controller/snapshot.rs",
        "src/controller/status.rs",
        "src/controller/target.rs",
        "src/controller/turn/line.rs",
    ];
    const IMPURE: [&str; 9] = [
        ".await",
        "async fn",
        "Timestamp::now",
        "Instant::now",
        "SystemTime",
        "std::env::",
        "tracing::",
        "kube::Client",
        "kube::Api",
    ];
    /// Who may not be named where: the lower floor on the left.
    const FLOORS: [(&str, &[&str]); 9] = [
        ("src/leadership", &["crate::schedule", "crate::capi", "crate::workload", "crate::controller"]),
        ("src/detector", &["crate::api", "crate::agent", "crate::controller", "crate::workload", "kube::"]),
        ("src/agent", &["crate::controller"]),
        (
            "src/api",
            &["crate::schedule::", "crate::capi", "crate::watch", "crate::workload", "crate::controller"],
        ),
        ("src/schedule", &["crate::capi", "crate::watch", "crate::workload", "crate::controller"]),
        ("src/capi", &["crate::schedule", "crate::workload", "crate::controller"]),
        ("src/watch", &["crate::schedule", "crate::capi", "crate::workload", "crate::controller"]),
        ("src/workload", &["crate::schedule", "crate::capi", "crate::controller"]),
        ("src/telemetry", &["crate::schedule", "crate::capi", "crate::workload", "crate::controller"]),
    ];

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    /// The Rust files at or below a path, without those that only test.
    fn sources(at: &str) -> Vec<PathBuf> {
        let path = root().join(at);
        let file = path.with_extension("rs");
        let mut found: Vec<PathBuf> = if file.is_file() { vec![file] } else { Vec::new() };
        let mut rest = vec![path];
        while let Some(dir) = rest.pop().filter(|dir| dir.is_dir()) {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
                if path.is_dir() {
                    rest.push(path);
                } else if !matches!(stem.as_str(), "tests" | "mock")
                    && !path.iter().any(|part| part == "tests")
                {
                    found.push(path);
                }
            }
        }
        found
    }

    /// What a file says outside of its tests and its comments.
    fn code(path: &Path) -> Vec<(usize, String)> {
        let text = fs::read_to_string(path).unwrap();
        let lines = text.lines().enumerate().take_while(|(_, line)| line.trim() != "#[cfg(test)]");
        let told = lines.filter(|(_, line)| !line.trim_start().starts_with("//"));
        told.map(|(number, line)| (number + 1, line.to_owned())).collect()
    }

    fn offences(at: &str, words: &[&str]) -> Vec<String> {
        let files = sources(at);
        assert!(!files.is_empty(), "{at} is no longer there: correct this test");
        let mut found = Vec::new();
        for file in files {
            for (number, line) in code(&file) {
                for word in words.iter().filter(|word| line.contains(**word)) {
                    found.push(format!(
                        "{}:{number} says {word}",
                        file.strip_prefix(root()).unwrap().display()
                    ));
                }
            }
        }
        found
    }

    #[test]
    fn pure_files_neither_wait_nor_look_around() {
        let found: Vec<String> = PURE.iter().flat_map(|at| offences(at, &IMPURE)).collect();
        assert!(found.is_empty(), "{found:#?}");
    }

    #[test]
    fn no_floor_leans_on_one_above_it() {
        let found: Vec<String> = FLOORS.iter().flat_map(|(at, above)| offences(at, above)).collect();
        assert!(found.is_empty(), "{found:#?}");
    }

    #[test]
    fn the_look_for_offences_finds_them() {
        assert!(!offences("src/controller/apply.rs", &IMPURE).is_empty());
        assert!(!offences("src/controller", &["crate::workload"]).is_empty());
    }
}

mod names {
    //! Every name that crosses a process border is spelled once, in `api::names`.

    use std::fs;
    use std::path::{Path, PathBuf};

    use fivespot::api::names;

    const KNOWN: [&str; 20] = [
        names::LABEL_ELECTION,
        names::LABEL_SHARDS,
        names::ANNOTATION_ASKED_FOR,
        names::LABEL_RECLAIM_AGENT,
        names::ANNOTATION_RECLAIM_REQUESTED,
        names::ANNOTATION_RECLAIM_REASON,
        names::ANNOTATION_RECLAIM_REQUESTED_AT,
        names::ANNOTATION_AGENT_DETECTOR,
        names::ANNOTATION_AGENT_FALLBACK,
        names::ANNOTATION_AGENT_RULES,
        names::TAINT_EJECTING,
        names::LABEL_SCHEDULED_BY,
        names::API_VERSION,
        names::FINALIZER,
        names::LABEL_SCHEDULED_MACHINE,
        names::LABEL_SCHEDULED_MACHINE_UID,
        names::ANNOTATION_APPLIED_TAINTS,
        names::ANNOTATION_CORDONED_BY,
        names::ANNOTATION_MANAGED_BY,
        names::ANNOTATION_TEMPLATE_HASH,
    ];

    /// Words of a text that begin with our group and a slash.
    fn ours(text: &str) -> Vec<String> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        let words = text.split(|c: char| !is_part(c));
        let prefix = format!("{}/", names::GROUP);
        words.filter(|word| word.starts_with(&prefix) && *word != prefix).map(str::to_owned).collect()
    }

    fn files_below(dir: &Path) -> Vec<PathBuf> {
        let (mut found, mut rest) = (Vec::new(), vec![dir.to_path_buf()]);
        while let Some(dir) = rest.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { &mut rest } else { &mut found }.push(path);
            }
        }
        found
    }

    #[test]
    fn manifests_and_documents_use_no_name_that_the_program_does_not_know() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = vec![root.join("README.md")];
        files.extend(["manifests", "docs"].into_iter().flat_map(|dir| files_below(&root.join(dir))));
        let mut seen = 0;
        for file in files {
            for word in ours(&fs::read_to_string(&file).unwrap()) {
                seen += 1;
                let word = word.trim_end_matches(['.', '/']);
                assert!(KNOWN.contains(&word), "{} says {word}", file.display());
            }
        }
        assert!(seen > 40, "only {seen} names found: the look for them is broken");
    }
}

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

mod metrics {
    //! The page on metrics is what the controller shows at its first scrape.

    use std::path::Path;

    use fivespot::controller::census::Census;
    use fivespot::telemetry::metrics::{Calls, ControllerMetrics, Registry, page};
    use fivespot::workload::Workloads;
    use kube::runtime::reflector::store;
    use tower::service_fn;

    fn today() -> String {
        let mut registry = Registry::default();
        ControllerMetrics::register(&mut registry, env!("CARGO_PKG_VERSION"), "0");
        let calls = Calls::register(&mut registry);
        let nobody = service_fn(|_: http::Request<kube::client::Body>| async {
            Err::<http::Response<kube::client::Body>, _>(tower::BoxError::from("nobody is there"))
        });
        let (notices, _) = tokio::sync::mpsc::unbounded_channel();
        let (workloads, _) = Workloads::new(kube::Client::new(nobody, "default"), notices, calls);
        let resource = fivespot::controller::watch::scheduled_machine_resource();
        let objects = store::Writer::new(resource).as_reader();
        Census::new(objects, workloads).register(&mut registry);
        page::table(&registry).unwrap()
    }

    #[tokio::test]
    async fn the_committed_page_is_what_the_first_scrape_shows() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
        let committed = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = committed.split_once("<!-- generated -->\n").unwrap();
        let (_, after) = rest.split_once("<!-- end -->").unwrap();
        let today = format!("{before}<!-- generated -->\n{}<!-- end -->{after}", today());
        if std::env::var_os("REGENERATE").is_some() {
            std::fs::write(&path, &today).unwrap();
        } else {
            assert!(committed == today, "docs/metrics.md is stale: run `just generate`");
        }
    }
}

mod verdicts {
    //! Admission and the controller say the same of an object. The API server's half is in `e2e/crd`, on the same tables.

    use std::fs;
    use std::path::Path;

    use fivespot::controller::hold::Entry;
    use fivespot::controller::target::Target;
    use kube::core::DynamicObject;
    use serde_json::Value;

    use crate::cases::{self, Case};

    fn faults(object: &Value) -> Vec<(String, String)> {
        if is_scheduled_machine(object) {
            let found = Target::read(&object["spec"]).faults();
            return found.into_iter().map(|fault| (fault.path, fault.message)).collect();
        }
        let hold: DynamicObject = serde_json::from_value(object.clone()).unwrap();
        // In one sentence, which begins with the field.
        let fault = Entry::read(&hold).content.err();
        fault.into_iter().map(|words| ("spec".to_owned(), words)).collect()
    }

    fn is_scheduled_machine(object: &Value) -> bool {
        object["kind"] == "ScheduledMachine"
    }

    fn table(text: &str) -> Vec<(Case, Value)> {
        let with_object = |case: Case| {
            let object = case.object();
            (case, object)
        };
        cases::read(text).into_iter().map(with_object).collect()
    }

    /// One names the field, or what contains it; keys of maps are written in two ways.
    fn agree(one: &str, other: &str) -> bool {
        let plain =
            |path: &str| path.replace("[\"", ".").replace("\"]", "").replace('[', ".").replace(']', "");
        let (one, other) = (plain(one), plain(other));
        one.starts_with(&other) || other.starts_with(&one)
    }

    #[test]
    fn the_controller_finds_no_fault_in_any_example() {
        let mut examples = 0;
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/examples")).unwrap() {
            let path = entry.unwrap().path();
            let documents: Vec<Value> =
                serde_saphyr::from_multiple(&fs::read_to_string(&path).unwrap()).unwrap();
            for object in &documents {
                assert_eq!(faults(object), [], "{}", path.display());
                examples += 1;
            }
        }
        assert!(examples >= 9, "{examples} examples");
    }

    #[test]
    fn the_controller_finds_no_fault_in_what_admission_takes_but_for_what_it_alone_can_know() {
        let mut alone = 0;
        for (case, object) in table(include_str!("e2e/crd/accepted.yaml")) {
            let found = faults(&object);
            if case.only.as_deref() == Some("controller") {
                let [(path, message)] = &found[..] else { panic!("{}: {found:?}", case.name) };
                assert!(*path == case.field && message.contains(&case.says), "{}: {found:?}", case.name);
                alone += 1;
            } else {
                assert_eq!(found, [], "{}", case.name);
            }
        }
        assert_eq!(alone, 2, "rows that the controller alone can know");
    }

    #[test]
    fn the_controller_finds_the_fault_in_what_admission_refuses_but_for_what_that_alone_can_know() {
        let (mut wrong, mut both) = (Vec::new(), 0);
        for (case, object) in table(include_str!("e2e/crd/refused.yaml")) {
            let found = faults(&object);
            match case.only.as_deref() {
                Some("admission") if found.is_empty() => {}
                None => {
                    let field = case.controller.as_ref().unwrap_or(&case.field);
                    if found.iter().any(|(path, _)| agree(path, field)) {
                        both += 1;
                    } else {
                        wrong.push(format!("{} at {field}: {found:?}", case.name));
                    }
                }
                only => wrong.push(format!("{} at {} ({only:?}): {found:?}", case.name, case.field)),
            }
        }
        assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
        assert!(both >= 160, "{both} rows are read both ways");
    }
}
