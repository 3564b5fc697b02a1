#!/usr/bin/env bash
# Installs what is missing, and only that; silent and quick when nothing is.
#
#   setup.sh build   what the build needs: Debian packages; for plugins the rustup target wasm32-unknown-unknown, or
#                    Debian's rustc-web where rustup cannot get it
#   setup.sh test    also: Java, Maven, Python clients, cargo-deny, Apache Kafka, test certificates
#
# Environment:
#   MEDIATION_CACHE   where everything that is not a Debian package goes (default ~/.cache/mediation-engine)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${MEDIATION_CACHE:-$HOME/.cache/mediation-engine}
deny_version=0.20.2

say() { echo "setup: $*" >&2; }
fail() { say "$*"; exit 1; }

# package <Debian package>...: those whose file or command is missing are installed in one go.
missing=()
want() { # <Debian package> <test command...>
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || missing+=("$package")
}
installed() { dpkg-query -W -f '${Status}' "$1" | grep -q ' installed$'; }

install_missing() {
  [ ${#missing[@]} -gt 0 ] || return 0
  local sudo=()
  command -v apt-get >/dev/null || fail "these are needed and apt-get is not here, so install them yourself: ${missing[*]}"
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fail "not root and no sudo: run as root: apt-get install ${missing[*]}"
    sudo=(sudo)
  fi
  say "installing Debian packages: ${missing[*]}"
  local log
  log=$(mktemp)
  if ! { "${sudo[@]}" apt-get update && "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    fail "apt-get failed (above); full output in $log"
  fi
  rm -f "$log"
  missing=()
}

rust() {
  command -v cargo >/dev/null || fail "cargo is not in PATH: install Rust 1.95 or later with rustup, then run this again"
  local have
  have=$(rustc --version | sed -E 's/rustc ([0-9]+)\.([0-9]+).*/\1\2/')
  [ "$have" -ge 195 ] || fail "$(rustc --version) is too old: 1.95 or later is needed (rustup update stable)"
}

# What plugins are compiled with, see scripts/guests.sh: the target's std by rustup, else from Debian's source of it.
wasm_target() {
  local target=wasm32-unknown-unknown
  [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ] && return
  if ! installed rust-web-src 2>/dev/null && command -v rustup >/dev/null; then
    say "the Rust target $target, by rustup"
    timeout 120 rustup target add "$target" >/dev/null 2>&1 && return
  fi
  want rustc-web installed rustc-web
  want cargo-web installed cargo-web
  want rust-web-src installed rust-web-src
}

build() {
  rust
  # librdkafka's configure wants a C and a C++ compiler, make, and OpenSSL's headers, found by pkg-config.
  want gcc command -v gcc
  want g++ command -v g++
  want libc6-dev installed libc6-dev
  want make command -v make
  want pkg-config command -v pkg-config
  want libssl-dev installed libssl-dev
  wasm_target
  install_missing
}

components() {
  local part
  for part in clippy rustfmt; do
    cargo "${part/rust/}" --version >/dev/null 2>&1 && continue
    command -v rustup >/dev/null && rustup component add "$part" && continue
    fail "the Rust component $part is missing: rustup component add $part"
  done
}

python_clients() {
  local venv=$cache/venv want
  want=$(sha256sum <"$here/tests/python/requirements.txt")
  [ "$(cat "$venv/.done" 2>/dev/null)" = "$want" ] && return
  say "Python clients into $venv"
  rm -rf "$venv"
  /usr/bin/python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/tests/python/requirements.txt" ||
    fail "pip could not install tests/python/requirements.txt (above)"
  echo "$want" >"$venv/.done"
}

cargo_deny() {
  local tools=$cache/tools
  [ "$("$tools/bin/cargo-deny" --version 2>/dev/null)" = "cargo-deny $deny_version" ] && return
  say "cargo-deny $deny_version into $tools (compiled once, some minutes)"
  # Unoptimised: it compiles in half the time, and checks in seconds either way.
  (cd "$cache" && env -u CARGO_TARGET_DIR CARGO_PROFILE_DEV_DEBUG=0 \
    cargo install cargo-deny --version "$deny_version" --locked --debug --quiet --root "$tools") ||
    fail "cargo install cargo-deny failed (above)"
}

tests() {
  want openjdk-17-jre-headless java_17
  want maven command -v mvn
  want python3-venv /usr/bin/python3 -c 'import ensurepip, venv'
  want curl command -v curl
  want openssl command -v openssl
  want util-linux command -v setpriv
  want iproute2 command -v ip # network namespaces: hosts that vanish
  install_missing
  components
  mkdir -p "$cache"
  (
    flock 9 # runs that start side by side install once
    python_clients
    cargo_deny
    "$here/tests/brokers/kafka.sh" install
  ) 9>"$cache/setup.lock"
}
java_17() { java -version 2>&1 | head -n 1 | grep -qE '"(1[7-9]|[2-9][0-9])'; }

case ${1:-} in
build) build ;;
test) build && tests ;;
*) sed -n '2,/^set -e/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2; exit 2 ;;
esac
