/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Security events, for the loader to write to AUDIT_LOG. At most EVENT_RATE a second:
 * a flood of them costs one look at a shared word that nobody writes any more.
 */
#ifndef VXLAN_EVENT_H
#define VXLAN_EVENT_H

#include "count.h"
#include "packet.h"

#define SECOND_NS 1000000000ULL

/* Takes one event from the budget of the running second; all CPUs share it. */
static __always_inline int take_from_budget(void)
{
	__u64 now = bpf_ktime_get_coarse_ns(), end;
	struct event_budget *budget;
	__u32 key = 0;

	budget = bpf_map_lookup_elem(&event_map, &key);
	if (!budget)
		return 0;
	end = *(volatile __u64 *)&budget->end;
	if (now >= end && __sync_val_compare_and_swap(&budget->end, end, now + SECOND_NS) == end)
		budget->used = 0;
	if (*(volatile __u64 *)&budget->used >= config.event_rate)
		return 0;
	return __sync_fetch_and_add(&budget->used, 1) < config.event_rate;
}

/* Who sent the mirror packet. */
static __always_inline void read_mirror(struct xdp_md *ctx, const struct packet *pkt,
					struct event *event)
{
	if (pkt->outer_family == 4) {
		struct iphdr *ip = header_at(ctx, pkt->outer_l3_off, sizeof(*ip));

		if (ip)
			__builtin_memcpy(event->mirror, &ip->saddr, 4);
	} else {
		struct ipv6hdr *ip = header_at(ctx, pkt->outer_l3_off, sizeof(*ip));

		if (ip)
			__builtin_memcpy(event->mirror, &ip->saddr, 16);
	}
	event->mirror_family = pkt->outer_family;
}

/* A function of its own, so that the verifier proves it once. */
__noinline int report_event(struct xdp_md *ctx, struct packet *pkt, __u32 verdict)
{
	struct event event = {};

	if (!pkt)
		return 0;
	if (!take_from_budget()) {
		count(STATS_SIDE(SIDE_EVENTS_SUPPRESSED), 1);
		return 0;
	}
	event.time = bpf_ktime_get_ns();
	event.verdict = verdict;
	event.ifindex = ctx->ingress_ifindex;
	event.vni = pkt->inner_off ? pkt->vni : EVENT_NO_VNI;
	event.family = pkt->family;
	event.protocol = pkt->protocol;
	if (!pkt->icmp) {
		event.source_port = pkt->source_port;
		event.destination_port = pkt->destination_port;
	}
	__builtin_memcpy(event.source, pkt->source, 16);
	__builtin_memcpy(event.destination, pkt->destination, 16);
	read_mirror(ctx, pkt, &event);
	if (bpf_ringbuf_output(&event_ringbuf, &event, sizeof(event), 0))
		count(STATS_SIDE(SIDE_EVENTS_LOST), 1);
	else
		count(STATS_SIDE(SIDE_EVENTS_WRITTEN), 1);
	return 0;
}

#endif
