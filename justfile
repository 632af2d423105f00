# Lists the recipes.
default:
    @just --list --unsorted

# Real control planes, the controller, a window opening and closing. `just demo --keep` leaves them running.
demo *args:
    cargo demo -- {{args}}

# Everything, control planes included.
test:
    cargo test

# What CI runs.
ci:
    bash .ci/run

# Formatting and lints.
lint:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings

# Licences, bans and sources of dependencies.
deny:
    cargo deny check bans licenses sources

# Known vulnerabilities; needs the network for its database.
advisories:
    cargo deny check advisories

# What is generated from the code: the CRDs, and the tables of metrics, settings and fields.
generate:
    cargo build --quiet
    cargo run --quiet -- crd print > manifests/crd/definitions.yaml
    REGENERATE=1 cargo test --quiet --test architecture metrics
    REGENERATE=1 cargo test --quiet --test documents generated

# The schedule engine against the naive evaluator: every transition of every zone, and the past since 1850.
schedule-proof:
    SCHEDULE_PROOF=whole cargo test --release --test schedule transitions -- --nocapture

# What is_active and next_edge cost.
bench-schedule:
    cargo bench --bench schedule

# From the edge to the API server's audit log, over a hundred edges; 36 minutes on an idle machine.
edge-lag:
    cargo bench --bench edge_lag

# From the end of a window to the Machine's end, with ten pods on its Node, against the same Machine deleted plainly.
drain:
    DRAIN_FIGURE=asserted cargo test --test e2e ten_pods -- --nocapture

# Ten minutes of exec storm with 200 of the owner's programs hidden in it; as root.
soak-agent:
    AGENT_SOAK=ten-minutes cargo test --test agent lost_in_a_storm -- --nocapture

# From exec to match, idle and in a storm, and what listening and walking cost; as root, five minutes.
bench-detect:
    cargo bench --bench detect

# From the start of an owner's program to the end of the Machine, 120 times, and what an agent costs at rest; as root, ten minutes.
time-to-owner:
    cargo bench --bench time_to_owner

# The election, model-checked with one fault more than `cargo test` has: five million states and more, minutes.
election-proof:
    ELECTION_PROOF=whole cargo test --test leadership -- --nocapture

# Fifty times the leader ends while machines come and go, every other time by SIGKILL; a quarter of an hour.
rollovers:
    ROLLOVERS=50 cargo test --test e2e rollovers -- --nocapture

# The real image, built twice from nothing; the two must be one. Downloads its two bases.
image-twice:
    podman build --timestamp 0 --no-cache -t localhost/5spot:first .
    podman build --timestamp 0 --no-cache -t localhost/5spot:second .
    test "$(podman image inspect -f '{{ '{{.Id}}' }}' localhost/5spot:first)" = "$(podman image inspect -f '{{ '{{.Id}}' }}' localhost/5spot:second)"
