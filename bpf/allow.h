/* SPDX-License-Identifier: GPL-2.0-only */
/* Allowlist: longest-prefix match on the inner addresses. */
#ifndef VXLAN_ALLOW_H
#define VXLAN_ALLOW_H

#include "packet.h"

static __always_inline int is_listed(const __u8 *address, __u8 family, __u32 generation)
{
	if (family == 4) {
		struct allowlist_key key = {
			.prefixlen = 32 + 32,
			.generation = generation,
		};

		__builtin_memcpy(&key.address, address, 4);
		return bpf_map_lookup_elem(&ip_allowlist, &key) != NULL;
	} else {
		struct allowlist_key_v6 key = {
			.prefixlen = 32 + 128,
			.generation = generation,
		};

		__builtin_memcpy(key.address, address, 16);
		return bpf_map_lookup_elem(&ip_allowlist_v6, &key) != NULL;
	}
}

static __always_inline int check_allowlist(struct packet *pkt, const struct control *control)
{
	__u32 generation = control->allowlist_generation;
	int source = 0, destination = 0, allowed;

	if (!config.allowlist_enabled || !pkt->family)
		return CONTINUE;
	if (config.allowlist_match != ALLOWLIST_MATCH_DST)
		source = is_listed(pkt->source, pkt->family, generation);
	if (config.allowlist_match != ALLOWLIST_MATCH_SRC &&
	    !(config.allowlist_match == ALLOWLIST_MATCH_EITHER && source))
		destination = is_listed(pkt->destination, pkt->family, generation);
	if (config.allowlist_match == ALLOWLIST_MATCH_BOTH)
		allowed = source && destination;
	else
		allowed = source || destination;
	return allowed ? CONTINUE : VERDICT_NOT_ALLOWED;
}

#endif
