# What a person types is what CI runs.

# Everything CI checks.
check:
    .ci/run

# Installs what tests need, and runs them.
test *NAMES:
    ./tests/run {{NAMES}}

# The whole system in one process, on its embedded default.
run *ARGS:
    cargo run --release -- up {{ARGS}}

# A cluster of plain processes on loopback, until Ctrl-C: `just cluster rabbitmq --port 8000`.
cluster *ARGS:
    cargo build --release --locked
    compose/cluster {{ARGS}}

# The cluster in containers: `just up rabbitmq --scale worker=5`.
up broker="rabbitmq" *ARGS:
    COMPOSE_PROFILES={{broker}} docker compose -f compose/millhand.yaml up --build --detach --wait {{ARGS}}
    COMPOSE_PROFILES={{broker}} docker compose -f compose/millhand.yaml run --rm --no-deps sample

# Prometheus, Alertmanager and Grafana beside it, at http://127.0.0.1:3000: `just watch kafka`.
watch broker="rabbitmq":
    COMPOSE_PROFILES={{broker}} docker compose -f compose/millhand.yaml --profile {{broker}} --profile watch up --detach --wait prometheus alertmanager grafana

# Stops it, whichever broker it has; `just down --volumes` drops what it kept.
down *ARGS:
    COMPOSE_PROFILES=kafka docker compose -f compose/millhand.yaml --profile '*' down {{ARGS}}

fmt:
    cargo fmt --all

deny:
    cargo deny check bans licenses sources

# What durability costs, as ratios against floors in the same run (about two minutes).
bench *ARGS:
    cargo build --release --locked -p millhand -p millhand-tests
    ./target/release/bench {{ARGS}}

# The same for a cluster on each broker, with takeovers (about five minutes): `just bench-cluster kafka`.
bench-cluster *ARGS:
    ./tests/run --install
    cargo build --release --locked -p millhand -p millhand-tests
    ./target/release/bench cluster {{ARGS}}

# Eight workers on a limited provider, against common policies (about fourteen minutes): `just bench-quota bucket`.
bench-quota *ARGS:
    ./tests/run --install
    cargo build --release --locked -p millhand -p millhand-tests
    ./target/release/bench quota {{ARGS}}

# Ten times as many jobs as can be done, and a quiet tenant beside them (about three minutes).
bench-overload *ARGS:
    ./tests/run --install
    cargo build --release --locked -p millhand -p millhand-tests
    ./target/release/bench overload {{ARGS}}

# Every fault under load on real servers until the numbers mean something: `just chaos kafka 1`.
chaos *ARGS:
    ./tests/run --install
    cargo build --release --locked -p millhand -p millhand-tests
    ./target/release/chaos {{ARGS}}

# The scaler beside others in virtual time; writes docs/scaling.md and its pictures anew.
simulate:
    UPDATE_DOCS=1 cargo test --locked -p millhand-common --features testing --test scale the_page

# A scripted day with all that happens on one, from an older binary to this one (under ten minutes): its page is printed.
day *ARGS:
    ./tests/run --install
    ./tests/older
    cargo build --release --locked -p millhand -p millhand-tests
    ./target/release/day {{ARGS}}
