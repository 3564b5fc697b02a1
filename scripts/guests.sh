#!/usr/bin/env bash
# Builds the Wasm components: bundled plugins to plugins/NAME.wasm, the tests' guests to $MEDIATION_GUESTS/NAME.wasm.
# Called by the Makefile and scripts/test.sh. Does nothing, quickly, when nothing changed.
#
#   guests.sh [plugins | all]     default: all
#
# Uses the rustup target wasm32-unknown-unknown where it is installed, else Debian's rustc-web with std built from its
# source (once, about a minute). scripts/setup.sh installs either.
#
# Environment:
#   MEDIATION_CACHE    target folder is its guests/ (default ~/.cache/mediation-engine)
#   MEDIATION_GUESTS   where the tests' guests go (default $MEDIATION_CACHE/guests/out)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export CARGO_TARGET_DIR=${MEDIATION_CACHE:-$HOME/.cache/mediation-engine}/guests
guests=${MEDIATION_GUESTS:-$CARGO_TARGET_DIR/out}
target=wasm32-unknown-unknown

fail() { echo "guests: $*" >&2; exit 1; }

# The linker that makes components comes with the rustup toolchain, also when Debian's compiler is used.
sysroot=$(rustc --print sysroot)
tools=$sysroot/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin
[ -x "$tools/wasm-component-ld" ] || fail "no wasm-component-ld in $tools: install Rust 1.95 or later with rustup"
export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$tools/wasm-component-ld
export PATH=$tools/gcc-ld:$PATH

build() { # <cargo arguments...>
  local cargo=(cargo build) std=()
  if [ ! -d "$sysroot/lib/rustlib/$target" ]; then
    [ -d /usr/lib/rust-web ] || [ -x /usr/bin/rustc ] || fail "no $target: rustup target add $target, or run scripts/setup.sh build"
    export RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc RUSTC_BOOTSTRAP=1
    cargo=(/usr/bin/cargo build)
    std=(-Zbuild-std=std,panic_abort)
  fi
  "${cargo[@]}" -q --manifest-path "$here/plugins/Cargo.toml" --locked --release --target "$target" "${std[@]}" "$@"
}

# In one step, so that whoever watches the folder never sees half a file; and only what differs.
place() { # <from> <to>
  cmp -s "$1" "$2" && return
  cp "$1" "${2%/*}/.${2##*/}.$$"
  mv "${2%/*}/.${2##*/}.$$" "$2"
}

built=$CARGO_TARGET_DIR/$target/release

plugins() {
  local folder name
  for folder in "$here"/plugins/*/Cargo.toml; do
    name=$(basename "${folder%/Cargo.toml}")
    [ "$name" = sdk ] || place "$built/${name//-/_}.wasm" "$here/plugins/$name.wasm"
  done
}

# The guests' names are those of their files, with dashes.
guests() {
  local file name
  mkdir -p "$guests"
  for file in "$here"/tests/guests/*.rs; do
    name=$(basename "$file" .rs)
    case $name in lib | build) continue ;; esac
    place "$built/examples/$name.wasm" "$guests/${name//_/-}.wasm"
  done
  # Not a component: a module with nothing in it.
  printf '\0asm\1\0\0\0' >"$built/core-module.wasm"
  place "$built/core-module.wasm" "$guests/core-module.wasm"
}

case ${1:-all} in
plugins) build --workspace --exclude mediation-guests --lib && plugins ;;
all) build --workspace --lib --examples && plugins && guests ;;
*) sed -n '2,/^set -e/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2; exit 2 ;;
esac
