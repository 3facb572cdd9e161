/* SPDX-License-Identifier: GPL-2.0-only */
/* The hash of a flow. */
#ifndef VXLAN_HASH_H
#define VXLAN_HASH_H

#include "packet.h"

static __always_inline __u32 mix(__u32 hash, __u32 word)
{
	hash ^= word;
	hash *= 0x9e3779b1; /* 2^32 / golden ratio */
	return hash ^ (hash >> 15);
}

/* Over protocol, addresses and ports, on every machine alike. */
static __always_inline __u32 tuple_hash(const struct packet *pkt, __u32 seed)
{
	__u32 word, hash = mix(seed, pkt->protocol);
	int words = pkt->family == 6 ? 4 : 1;

	for (int i = 0; i < 4; i++) {
		if (i >= words)
			break;
		__builtin_memcpy(&word, pkt->source + 4 * i, 4);
		hash = mix(hash, bpf_ntohl(word));
		__builtin_memcpy(&word, pkt->destination + 4 * i, 4);
		hash = mix(hash, bpf_ntohl(word));
	}
	hash = mix(hash,
		   (__u32)bpf_ntohs(pkt->source_port) << 16 | bpf_ntohs(pkt->destination_port));
	return hash;
}

/*
 * Equal for all packets of a flow, so that they take one way and keep their order:
 * also for its fragments, once the first of a datagram has been seen.
 */
static __always_inline __u32 flow_hash(const struct packet *pkt)
{
	return tuple_hash(pkt, session_of(pkt));
}

#endif
