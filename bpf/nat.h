/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which target a packet gets: that of its flow, else of the most specific rule that
 * matches it. Rewriting is translate.h's.
 */
#ifndef VXLAN_NAT_H
#define VXLAN_NAT_H

#include "conntrack.h"
#include "hash.h"

/* Bitmap of the kinds of rule that there are for packets of this family, of control.nat_active. */
static __always_inline __u32 rule_shapes(const struct packet *pkt, __u64 active)
{
	__u32 shapes = active;

	return pkt->family == 6 ? shapes >> NAT_SHAPE_MAX : shapes & ((1u << NAT_SHAPE_MAX) - 1);
}

/* The rule for this packet, or NULL. */
static __always_inline struct nat_value *find_rule(struct packet *pkt, __u64 active)
{
	__u32 shapes = rule_shapes(pkt, active);
	struct nat_key key = {
		.prefixlen = NAT_KEY_FIXED_BITS + (pkt->family == 4 ? 32 : 128),
		.generation = active >> 32,
		.family = pkt->family,
		.port = pkt->icmp ? 0 : pkt->destination_port,
	};

	__builtin_memcpy(key.address, pkt->destination, 16);
	for (int shape = 0; shape < NAT_SHAPE_MAX; shape++) {
		int by_vni = shape == NAT_SHAPE_VNI_PROTOCOL || shape == NAT_SHAPE_VNI;
		int by_protocol = shape == NAT_SHAPE_VNI_PROTOCOL || shape == NAT_SHAPE_PROTOCOL;
		struct nat_value *value;

		if (!(shapes & (1u << shape)) || (pkt->icmp && !by_protocol))
			continue;
		key.vni = by_vni ? bpf_htonl(pkt->vni) : NAT_ANY_VNI;
		key.protocol = by_protocol ? pkt->protocol : 0;
		value = bpf_map_lookup_elem(&nat_map, &key);
		if (value)
			return value;
	}
	return NULL;
}

/* The rule's target for a new flow: key of target_map. */
static __always_inline int choose_target(const struct packet *pkt, const struct nat_value *rule,
					 __u32 *index)
{
	struct maglev *table;
	__u32 slot;

	*index = rule->target;
	if (!(rule->flags & NAT_FLAG_SEVERAL))
		return 0;
	table = bpf_map_lookup_elem(&maglev_map, index);
	if (!table)
		return -1;
	/* Without the VNI, which AWS draws for each session: instances must choose alike. */
	slot = (__u64)tuple_hash(pkt, 0) * MAGLEV_SLOTS >> 32;
	barrier_var(slot);
	if (slot >= MAGLEV_SLOTS)
		return -1;
	*index = table->slots[slot];
	return 0;
}

/*
 * Sets pkt->translate and pkt->target for a packet with ports. A function of its own,
 * so that the verifier proves it once.
 */
__noinline int find_target(struct packet *pkt)
{
	struct endpoint source, destination;
	struct conntrack_key key = {};
	struct conntrack_value *flow;
	struct nat_target *target;
	struct control *control;
	struct nat_value *rule;
	__u32 index = 0;
	int to_high;

	if (!pkt)
		return 0;
	source.address = pkt->source;
	source.port = pkt->source_port;
	destination.address = pkt->destination;
	destination.port = pkt->destination_port;
	to_high = flow_key(&key, pkt, pkt->protocol, source, destination);
	flow = bpf_map_lookup_elem(&conntrack_map, &key);
	if (flow && follow_flow(pkt, flow, to_high))
		return 0;
	control = bpf_map_lookup_elem(&control_map, &index);
	if (!control || pkt->icmp == ICMP_ECHO_ANSWER)
		return 0;
	/* Read once: generation and shapes belong together. */
	rule = find_rule(pkt, *(const volatile __u64 *)&control->nat_active);
	if (!rule || choose_target(pkt, rule, &index))
		return 0;
	target = bpf_map_lookup_elem(&target_map, &index);
	if (target)
		begin_flow(pkt, &key, flow != NULL, index, target->serial, to_high);
	return 0;
}

#endif
