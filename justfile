# The schedule engine against the naive evaluator: every transition of every zone, and the past since 1850.
schedule-proof:
    cargo test --release --test schedule -- --ignored --nocapture

# What is_active and next_edge cost.
bench-schedule:
    cargo bench --bench schedule

# What is generated from the Rust types: the CRDs.
generate:
    cargo run --quiet -- crd print > target/definitions.yaml
    mv target/definitions.yaml manifests/crd/definitions.yaml
