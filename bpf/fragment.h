/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Inner IP fragments: only the first carries ports. They are remembered by what
 * all fragments of a datagram share, so that the later ones match the same rule
 * and count to the same flow.
 */
#ifndef VXLAN_FRAGMENT_H
#define VXLAN_FRAGMENT_H

#include "nat.h"

/* As long as Linux waits for the rest of a datagram (net.ipv4.ipfrag_time); IDs come again. */
#define FRAGMENT_LIFETIME_NS (30ULL * 1000 * 1000 * 1000)

/* Fragments of other protocols match no rule; behind IPv6 extension headers there may be any. */
static __always_inline int may_carry_ports(const struct packet *pkt)
{
	return pkt->protocol == IPPROTO_UDP || pkt->protocol == IPPROTO_TCP ||
	       (pkt->family == 6 &&
		(pkt->protocol == IPPROTO_DSTOPTS || pkt->protocol == IPPROTO_ROUTING ||
		 pkt->protocol == IPPROTO_HOPOPTS));
}

static __always_inline int track_fragment(struct packet *pkt, const struct control *control)
{
	struct fragment_value *first, value = {};
	struct fragment_key key = {};

	if (pkt->fragment == FRAGMENT_NONE || !may_carry_ports(pkt))
		return CONTINUE;
	__builtin_memcpy(key.source, pkt->source, 16);
	__builtin_memcpy(key.destination, pkt->destination, 16);
	key.id = pkt->fragment_id;
	key.vni = pkt->vni;
	key.family = pkt->family;
	key.protocol = pkt->family == 4 ? pkt->protocol : 0;
	value.seen = bpf_ktime_get_ns();
	if (pkt->fragment == FRAGMENT_FIRST) {
		if (!pkt->has_ports) {
			/* Whatever stands there is of an older datagram with the same ID. */
			bpf_map_delete_elem(&fragment_map, &key);
			return CONTINUE;
		}
		value.source_port = pkt->source_port;
		value.destination_port = pkt->destination_port;
		value.protocol = pkt->protocol;
		bpf_map_update_elem(&fragment_map, &key, &value, BPF_ANY);
		return CONTINUE;
	}
	first = bpf_map_lookup_elem(&fragment_map, &key);
	if (first && value.seen - first->seen < FRAGMENT_LIFETIME_NS) {
		pkt->source_port = first->source_port;
		pkt->destination_port = first->destination_port;
		pkt->protocol = first->protocol;
		return CONTINUE;
	}
	/* Without rules no port is needed. */
	return rule_shapes(pkt, control->nat_active) ? VERDICT_FRAGMENT_UNTRACKED : CONTINUE;
}

#endif
