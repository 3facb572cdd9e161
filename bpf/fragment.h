/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Inner IP fragments: only the first carries ports. What it is and what became of it is
 * remembered by what all fragments of a datagram share, so that the later ones follow
 * it. Those that come before it are held by the injector, which also sees whether
 * fragments overlap, and puts datagrams together (REASSEMBLE=1).
 */
#ifndef VXLAN_FRAGMENT_H
#define VXLAN_FRAGMENT_H

#include "nat.h"

/* Fragments of other protocols match no rule; in IPv6 only the first one's protocol counts. */
static __always_inline int may_carry_ports(const struct packet *pkt)
{
	return pkt->family == 6 || pkt->protocol == IPPROTO_UDP || pkt->protocol == IPPROTO_TCP ||
	       pkt->protocol == IPPROTO_ICMP;
}

static __always_inline void fragment_key(struct fragment_key *key, const struct packet *pkt)
{
	__builtin_memcpy(key->source, pkt->source, 16);
	__builtin_memcpy(key->destination, pkt->destination, 16);
	key->id = pkt->fragment_id;
	key->vni = session_of(pkt);
	key->family = pkt->family;
	key->protocol = pkt->family == 4 ? pkt->protocol : 0;
}

/*
 * Makes a later fragment part of its first one's flow, if that was seen. Returns whether.
 * A function of its own, like the next: their keys need much of the stack.
 */
__noinline int join_first_fragment(struct packet *pkt)
{
	struct fragment_value *first;
	struct fragment_key key = {};

	if (!pkt)
		return 0;
	fragment_key(&key, pkt);
	first = bpf_map_lookup_elem(&fragment_map, &key);
	if (!first || bpf_ktime_get_ns() - first->seen >= config.fragment_timeout_ns)
		return 0;
	pkt->source_port = first->source_port;
	pkt->destination_port = first->destination_port;
	pkt->protocol = first->protocol;
	pkt->translate = first->translate;
	pkt->target = first->target;
	pkt->serial = first->serial;
	return 1;
}

/* Notes for the later fragments what a first one is and what becomes of it. */
__noinline int note_first_fragment(struct packet *pkt)
{
	struct fragment_value value = {};
	struct fragment_key key = {};

	if (!pkt)
		return 0;
	value.seen = bpf_ktime_get_ns();
	value.source_port = pkt->source_port;
	value.destination_port = pkt->destination_port;
	value.protocol = pkt->protocol;
	value.translate = pkt->translate;
	/* Of an ICMP error: the addresses outside; what it carries ends in the first fragment. */
	if (pkt->translate == TRANSLATE_ERROR && pkt->info & INFO_SOURCE)
		value.translate = TRANSLATE_SOURCE;
	else if (pkt->translate == TRANSLATE_ERROR && pkt->info & INFO_DESTINATION)
		value.translate = TRANSLATE_DESTINATION;
	value.target = pkt->target;
	value.serial = pkt->serial;
	fragment_key(&key, pkt);
	return bpf_map_update_elem(&fragment_map, &key, &value, BPF_ANY);
}

/* A later fragment follows its first one, or has to wait for it. */
static __always_inline int follow_first_fragment(struct packet *pkt, const struct control *control)
{
	int joined = 0, has_rules;

	if (pkt->fragment == FRAGMENT_NONE)
		return CONTINUE;
	has_rules = rule_shapes(pkt, control->nat_active) != 0;
	/* Where nobody asks for ports, tiny fragments do no harm: a sensor wants to see them. */
	if ((has_rules || config.reassemble) &&
	    (pkt->tiny || (pkt->protocol == IPPROTO_TCP && pkt->fragment_offset == 1)))
		return VERDICT_FRAGMENT_TINY;
	if (config.reassemble)
		pkt->info |= INFO_FRAGMENT | INFO_REASSEMBLE;
	if (!may_carry_ports(pkt))
		return CONTINUE;
	if (pkt->fragment == FRAGMENT_LATER)
		joined = join_first_fragment(pkt);
	if (!has_rules)
		return CONTINUE;
	pkt->info |= INFO_FRAGMENT;
	if (pkt->fragment == FRAGMENT_LATER && !joined)
		pkt->info |= INFO_HOLD;
	return CONTINUE;
}

static __always_inline void remember_first_fragment(struct packet *pkt)
{
	if (pkt->fragment == FRAGMENT_FIRST && may_carry_ports(pkt))
		note_first_fragment(pkt);
}

#endif
