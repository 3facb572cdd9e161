#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Installs what this machine lacks to build, run and test the pipeline (Debian and Ubuntu).
#
#   scripts/prepare.sh [--check] [build] [test] [lint]
#
# build: compilers and libraries (the default); test: what tests compare with besides;
# lint: checkers. --check installs nothing, says what is missing, and exits with 1 if anything is.
set -euo pipefail

RUST_NEEDED=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")
BUILD=(gcc make clang libelf-dev zlib1g-dev pkg-config iproute2 ethtool ca-certificates curl)
TEST=(tshark python3-scapy tcpdump nftables)
LINT=(clang-format shellcheck)

check_only=false
wanted=()
for argument in "$@"; do
	case $argument in
	--check) check_only=true ;;
	build) wanted+=("${BUILD[@]}") ;;
	test) wanted+=("${TEST[@]}") ;;
	lint) wanted+=("${LINT[@]}") ;;
	*)
		echo "prepare.sh: unknown argument $argument; see the first lines of $0" >&2
		exit 2
		;;
	esac
done
[ ${#wanted[@]} -gt 0 ] || wanted=("${BUILD[@]}")

is_installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Whether version $1 is at least version $2.
is_at_least() {
	[ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]
}

rust_version() {
	PATH="$PATH:$HOME/.cargo/bin" cargo --version 2>/dev/null | cut -d' ' -f2
}

install_packages() {
	local missing=()
	for package in "${wanted[@]}"; do
		is_installed "$package" || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	if $check_only; then
		echo "missing packages: ${missing[*]}"
		return 1
	fi
	echo "installing: ${missing[*]}"
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

install_rust() {
	local found
	found=$(rust_version || true)
	if [ -n "$found" ] && is_at_least "$found" "$RUST_NEEDED"; then
		return 0
	fi
	if $check_only; then
		echo "missing: Rust $RUST_NEEDED or later (found: ${found:-none})"
		return 1
	fi
	echo "installing Rust (found: ${found:-none}, needed: $RUST_NEEDED) from rustup.rs for $USER"
	curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
		sh -s -- -y --profile minimal -c rustfmt -c clippy --no-modify-path
}

if ! command -v apt-get >/dev/null; then
	echo "prepare.sh: this script knows Debian and Ubuntu; elsewhere install the equivalents of:" >&2
	echo "  ${wanted[*]}, and Rust $RUST_NEEDED or later" >&2
	exit 1
fi
if ! $check_only && [ "$(id -u)" != 0 ]; then
	echo "prepare.sh: installing packages needs root: sudo $0 $*" >&2
	exit 1
fi
USER=${USER:-$(id -un)}
status=0
install_packages || status=1
install_rust || status=1
exit $status
