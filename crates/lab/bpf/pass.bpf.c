// SPDX-License-Identifier: GPL-2.0-only
/* Hands everything to the kernel: a veth takes redirected frames only if its peer has XDP. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp.frags")
int pass(struct xdp_md *ctx __attribute__((unused)))
{
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
