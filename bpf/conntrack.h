/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Translated flows. A flow begins with the first packet that a rule matches; from then
 * on it keeps its target as long as its rule has that target, and its replies are
 * translated back. Both directions have one entry, under the flow's endpoints.
 */
#ifndef VXLAN_CONNTRACK_H
#define VXLAN_CONNTRACK_H

#include "count.h"
#include "packet.h"

/* One side of a flow. */
struct endpoint {
	const __u8 *address; /* 16 bytes */
	__be16 port;
};

/* Whether `a` comes before `b`: any order will do, if it is always the same. */
static __always_inline int endpoint_before(struct endpoint a, struct endpoint b, __u8 family)
{
	__u32 one, two;

	for (int i = 0; i < 4; i++) {
		if (i > 0 && family == 4)
			break;
		__builtin_memcpy(&one, a.address + 4 * i, 4);
		__builtin_memcpy(&two, b.address + 4 * i, 4);
		if (one != two)
			return one < two;
	}
	return a.port <= b.port;
}

/*
 * Fills in the key of a packet from `source` to `destination`; returns whether the
 * destination is its higher side.
 */
static __always_inline int flow_key(struct conntrack_key *key, const struct packet *pkt,
				    __u8 protocol, struct endpoint source,
				    struct endpoint destination)
{
	int in_order = endpoint_before(source, destination, pkt->family);

	key->vni = bpf_htonl(session_of(pkt));
	key->family = pkt->family;
	key->protocol = protocol;
	__builtin_memcpy(in_order ? key->low_address : key->high_address, source.address, 16);
	__builtin_memcpy(in_order ? key->high_address : key->low_address, destination.address, 16);
	key->low_port = in_order ? source.port : destination.port;
	key->high_port = in_order ? destination.port : source.port;
	return in_order;
}

/* The target of a flow, or NULL if its rule does not have it any more. */
static __always_inline struct nat_target *live_target(__u32 index, __u32 serial)
{
	struct nat_target *target = bpf_map_lookup_elem(&target_map, &index);

	return target && target->serial == serial ? target : NULL;
}

/* A target and its serial, which are read as one word. */
struct flow_target {
	__u32 target;
	__u32 serial;
};

static __always_inline struct flow_target flow_target(const struct conntrack_value *flow)
{
	__u64 word = *(const volatile __u64 *)&flow->target;
	struct flow_target found;

	__builtin_memcpy(&found, &word, sizeof(found));
	return found;
}

/*
 * Makes the packet one of a known flow, if that has its target still. `to_high`: the
 * packet goes to the flow's higher side. Returns whether.
 */
static __always_inline int follow_flow(struct packet *pkt, struct conntrack_value *flow,
				       int to_high)
{
	struct flow_target found = flow_target(flow);

	if (!live_target(found.target, found.serial))
		return 0;
	flow->seen = bpf_ktime_get_coarse_ns();
	pkt->target = found.target;
	pkt->serial = found.serial;
	pkt->translate = flow->server_is_high == to_high ? TRANSLATE_DESTINATION : TRANSLATE_SOURCE;
	count(STATS_SIDE(SIDE_CONNTRACK_HIT), 1);
	return 1;
}

/* A rule gave the packet a target: its flow begins, or an old one goes on with another target. */
static __always_inline void begin_flow(struct packet *pkt, const struct conntrack_key *key,
				       int old_target_is_gone, __u32 index, __u32 serial,
				       int to_high)
{
	struct conntrack_value flow = {
		.created = bpf_ktime_get_coarse_ns(),
		.target = index,
		.serial = serial,
		.server_is_high = to_high,
	};
	struct conntrack_value *known;

	flow.seen = flow.created;
	pkt->target = index;
	pkt->serial = serial;
	pkt->translate = TRANSLATE_DESTINATION;
	if (old_target_is_gone) {
		bpf_map_update_elem(&conntrack_map, key, &flow, BPF_ANY);
		return;
	}
	if (!bpf_map_update_elem(&conntrack_map, key, &flow, BPF_NOEXIST)) {
		count(STATS_SIDE(SIDE_CONNTRACK_CREATED), 1);
		return;
	}
	/* Another CPU was faster, perhaps with a packet of the other direction. */
	known = bpf_map_lookup_elem(&conntrack_map, key);
	if (known)
		follow_flow(pkt, known, to_high);
}

#endif
