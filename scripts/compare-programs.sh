#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Nanoseconds that the XDP program takes for a plain UDP packet, before and after: the bpf/ of a
# commit and that of this checkout, run in turn. As root; needs clang, bpftool and a built workspace.
#
#   scripts/compare-programs.sh COMMIT [ROUNDS]
set -euo pipefail
cd "$(dirname "$0")/.."
commit=${1:?usage: $0 COMMIT [ROUNDS]}
rounds=${2:-15}
runs=100000 # fewer than fill the ring, for a full one would make them cheap

work=$(mktemp -d)
pins=/sys/fs/bpf/compare-$$
trap 'rm -rf "$work" "$pins"' EXIT
helpers=$(find "${CARGO_HOME:-$HOME/.cargo}/registry/src" -path '*libbpf-sys-*/libbpf/src/bpf_helpers.h' | head -1)
ln -s "$(dirname "$helpers")" "$work/bpf"

compile() { # NAME: from $work/NAME to $work/NAME.o, with the default settings (port 4789)
    sed -i 's/config config = {}/config config = {.vxlan_port = 0xb512, .df_clear_threshold = 1400}/' \
        "$work/$1/vxlan_pipeline.bpf.c"
    clang -O2 -g -mcpu=v3 -idirafter "/usr/include/$(uname -m)-linux-gnu" -I "$work" -target bpf \
        -c "$work/$1/vxlan_pipeline.bpf.c" -o "$work/$1.o"
}

run() { # NAME: prints nanoseconds
    mkdir "$pins"
    bpftool prog load "$work/$1.o" "$pins/program" type xdp pinmaps "$pins"
    # Any VNI; an egress interface with an MTU of 1,500.
    local value
    value=$(bpftool -j map show pinned "$pins/control_map" | sed 's/.*"bytes_value":\([0-9]*\).*/\1/')
    # shellcheck disable=SC2046 # bpftool takes each byte as an argument
    bpftool map update pinned "$pins/control_map" key 0 0 0 0 value \
        $(for ((i = 0; i < value; i++)); do ((i >= 12 && i < 16)) && echo 255 || echo 0; done)
    bpftool map update pinned "$pins/interface_map" key 1 0 0 0 value 2 0 0 0 220 5 0 0 2 2 2 2 2 2 0 0
    bpftool -j prog run pinned "$pins/program" data_in "$work/packet" repeat "$runs" |
        sed 's/.*"duration":\([0-9]*\).*/\1/'
    rm -r "$pins"
}

mkdir "$work/before" "$work/after"
git archive "$commit" bpf | tar -x -C "$work/before" --strip-components=1
cp bpf/* "$work/after/"
compile before
compile after
{ # 198.18.0.1 -> 198.18.0.2, VXLAN 100, 198.19.0.1:40000 -> 192.0.2.95:31765, 64 bytes
    printf '\2\2\2\2\2\2\4\4\4\4\4\4\10\0\x45\0\0\x8e\0\1\0\0\x40\x11\xee\x3a\xc6\x12\0\1\xc6\x12\0\2'
    printf '\xc3\x50\x12\xb5\0\x7a\0\0\10\0\0\0\0\0\x64\0'
    printf '\2\2\2\2\2\2\4\4\4\4\4\4\10\0\x45\0\0\x5c\0\1\0\0\x40\x11\xf2\x0d\xc6\x13\0\1\xc0\0\2\x5f'
    printf '\x9c\x40\x7c\x15\0\x48\0\0%064d' 0
} >"$work/packet"

for ((round = 0; round < rounds; round++)); do
    for name in before after; do run "$name" >>"$work/$name.ns"; done
done
for name in before after; do
    sort -n "$work/$name.ns" | awk -v name="$name" '
        { ns[NR] = $1 } END { printf "%-7s fastest %d ns, median %d ns\n", name, ns[1], ns[int((NR + 1) / 2)] }'
done
