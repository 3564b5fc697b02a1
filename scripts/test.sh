#!/usr/bin/env bash
# Runs the checks and tests, each step with its seconds, and ends with the slowest tests. Called by the Makefile.
#
#   test.sh quick | all | soak [FILTER]
#
# Environment: MEDIATION_CACHE, CARGO_TARGET_DIR (set by the Makefile).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export MEDIATION_CACHE=${MEDIATION_CACHE:-$HOME/.cache/mediation-engine}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$MEDIATION_CACHE/target}
export MEDIATION_GUESTS=${MEDIATION_GUESTS:-$MEDIATION_CACHE/guests/out} # guests.sh builds them there
export RUST_BACKTRACE=${RUST_BACKTRACE:-1}
mode=${1:?quick, all or soak}
filter=${2:-}
times=$(mktemp)
trap 'rm -f "$times"' EXIT
steps=()

step() { # <name> <command...>
  local name=$1 start=$SECONDS
  shift
  echo "==> $name"
  if ! "$@"; then
    echo "==> $name FAILED after $((SECONDS - start)) s: $*" >&2
    exit 1
  fi
  steps+=("$(printf '%5d s  %s' $((SECONDS - start)) "$name")")
}

suite() {
  local soak=()
  [ "$mode" != soak ] || soak=(MEDIATION_SOAK=1)
  env "${soak[@]}" MEDIATION_TEST_TIMES="$times" MEDIATION_ENGINE="$CARGO_TARGET_DIR/debug/mediation-engine" \
    cargo test -q -p mediation-tests --test suite -- --test-threads 4 ${filter:+"$filter"}
}

# The Kafka endpoint's own tests, on a real Kafka of theirs.
live() {
  local data port=0 broker
  data=$(mktemp -d)
  port=$(python3 -c 'import random,socket
while True:
  base=random.randrange(20000,30000,10)
  try:
    [socket.create_server(("127.0.0.1",p)).close() for p in range(base,base+6)]; print(base); break
  except OSError: pass')
  setpriv --pdeathsig KILL tests/brokers/kafka.sh start "$port" "$data" >"$data.log" 2>&1 &
  broker=$!
  tests/brokers/ready.sh "$port" 60 "$broker" || { cat "$data.log"; return 1; }
  MEDIATION_TEST_KAFKA=127.0.0.1:$port MEDIATION_TEST_KAFKA_PID=$broker \
    cargo test -q --workspace --exclude mediation-tests --lib -- kafka::live_tests --test-threads 2
  local rc=$?
  kill -9 "$broker" 2>/dev/null
  wait "$broker" 2>/dev/null || true
  rm -rf "$data" "$data.log"
  return $rc
}

# Shows that `make bench` works; its figures mean nothing.
bench() {
  MEDIATION_ENGINE="$CARGO_TARGET_DIR/debug/mediation-engine" cargo run -q -p mediation-bench -- --smoke
}

# The plugins are a workspace of their own; natively here, as components by guests.sh.
of_plugins() { # <cargo command> <arguments...>
  local command=$1
  shift
  CARGO_TARGET_DIR=$MEDIATION_CACHE/guests cargo "$command" --manifest-path plugins/Cargo.toml "$@"
}
deny() {
  local manifest
  for manifest in Cargo.toml plugins/Cargo.toml; do
    "$MEDIATION_CACHE/tools/bin/cargo-deny" --log-level warn --config deny.toml --manifest-path "$manifest" \
      check --allow license-not-encountered licenses bans sources || return
  done
}

step "format" cargo fmt --all --check
step "format of plugins" of_plugins fmt --all --check
step "lints" cargo clippy -q --workspace --all-targets -- -D warnings
step "lints of plugins" of_plugins clippy -q --workspace --all-targets -- -D warnings
case $mode in
quick)
  step "unit tests of plugins" of_plugins test -q --workspace --exclude mediation-guests
  step "unit and property tests" cargo test -q --workspace --exclude mediation-tests
  ;;
all | soak)
  step "licenses, bans, sources" deny
  step "build the guests" scripts/guests.sh
  step "unit tests of plugins" of_plugins test -q --workspace --exclude mediation-guests
  [ "$mode" = all ] || export PROPTEST_CASES=${PROPTEST_CASES:-100000}
  step "unit and property tests" cargo test -q --workspace --exclude mediation-tests
  [ -n "$filter" ] || step "the Kafka endpoint on a real Kafka" live
  step "build the engine" cargo build -q --bin mediation-engine
  step "conformance and end-to-end tests" suite
  [ -n "$filter" ] || step "the benchmark works" bench
  ;;
*) echo "test.sh: $mode? quick, all or soak" >&2; exit 2 ;;
esac

if [ -s "$times" ]; then
  echo "==> slowest tests (seconds)"
  sort -rn "$times" | head -n 15
fi
echo "==> steps"
printf '%s\n' "${steps[@]}"
echo "==> all passed in $((SECONDS / 60)) min $((SECONDS % 60)) s"
