# What a person types is what CI runs.

# Everything CI checks.
check:
    .ci/run

# Installs what tests need, and runs them.
test *NAMES:
    ./tests/run {{NAMES}}

# The whole system on its embedded default.
up *ARGS:
    cargo run --release -- up {{ARGS}}

fmt:
    cargo fmt --all

deny:
    cargo deny check bans licenses sources

# What durability costs, as ratios against floors in the same run (about two minutes).
bench *ARGS:
    cargo build --release --locked -p millhand -p millhand-tests
    ./target/release/bench {{ARGS}}
