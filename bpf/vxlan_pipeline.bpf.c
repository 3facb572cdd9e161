// SPDX-License-Identifier: GPL-2.0-only
/*
 * The XDP program: terminates VXLAN, filters by inner address, translates the
 * destination, and hands the inner frame to the egress. This file is the list of
 * stages and the one exit; each stage is the header of its name.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/types.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#ifndef NULL
#define NULL ((void *)0)
#endif

#include "abi.h"
#include "maps.h"

/* Set by the loader before loading. */
const volatile struct config config = {};

/* Puts types that no map or variable has into the object's type information. */
const struct frame_record *frame_record_type __attribute__((unused));
const struct frame_info *frame_info_type __attribute__((unused));
const struct event *event_type __attribute__((unused));

#include "packet.h"
#include "outer.h"
#include "vni.h"
#include "inner.h"
#include "allow.h"
#include "dedup.h"
#include "fragment.h"
#include "icmp_error.h"
#include "rewrite.h"
#include "emit.h"
#include "verdict.h"

#define STAGE(call)                      \
	do {                             \
		int verdict = (call);    \
		if (verdict != CONTINUE) \
			return verdict;  \
	} while (0)

static __always_inline int process(struct xdp_md *ctx, struct packet *pkt)
{
	__u32 control_key = 0, egress_key = INTERFACE_EGRESS;
	const struct interface *egress = bpf_map_lookup_elem(&interface_map, &egress_key);
	const struct control *control = bpf_map_lookup_elem(&control_map, &control_key);

	if (!egress || !control)
		return VERDICT_INTERNAL; /* an array has all its entries; the verifier asks */
	STAGE(parse_outer(ctx, pkt));
	STAGE(check_vni(pkt, control));
	count(STAGE_VXLAN, 1);
	STAGE(parse_inner(ctx, pkt));
	STAGE(check_allowlist(pkt, control));
	STAGE(check_duplicate(ctx, pkt));
	STAGE(follow_first_fragment(pkt, control));
	count(STAGE_INNER, 1);
	STAGE(choose_translation(ctx, pkt, control));
	remember_first_fragment(pkt);
	STAGE(translate(ctx, pkt));
	STAGE(rewrite_link_layer(ctx, pkt, egress));
	STAGE(clear_df(ctx, pkt));
	STAGE(check_mtu(ctx, pkt, egress));
	return emit_to_ring(ctx, pkt, egress);
}

SEC("xdp.frags")
int vxlan_pipeline(struct xdp_md *ctx)
{
	struct packet pkt = {};

	count(STAGE_TOTAL, 1);
	return conclude(ctx, &pkt, process(ctx, &pkt));
}

char LICENSE[] SEC("license") = "GPL";
