/* SPDX-License-Identifier: GPL-2.0-only */
/* What the egress asks of every frame: link layer, the DF bit and the MTU. */
#ifndef VXLAN_REWRITE_H
#define VXLAN_REWRITE_H

#include "csum.h"
#include "packet.h"

/* The smallest MTU of IPv4 (RFC 791 section 3.2): 8 bytes fit behind any header. */
#define IPV4_MIN_MTU 68

/* The next hop of the packet, or one without NEXT_HOP_RESOLVED. */
static __always_inline struct next_hop next_hop_of(const struct packet *pkt)
{
	struct next_hop *found = NULL, hop = {};
	struct nat_target *target;
	__u32 key;
	__u64 word;

	if (pkt->translate) {
		target = bpf_map_lookup_elem(&target_map, &pkt->target);
		if (target)
			found = &target->next_hop;
	} else {
		key = pkt->family == 6 ? NEXT_HOP_IPV6 : NEXT_HOP_IPV4;
		found = bpf_map_lookup_elem(&next_hop_map, &key);
		if (!pkt->family && found && !(found->flags & NEXT_HOP_RESOLVED)) {
			key = NEXT_HOP_IPV6;
			found = bpf_map_lookup_elem(&next_hop_map, &key);
		}
	}
	if (found) {
		word = *(const volatile __u64 *)found; /* userspace changes it at once */
		__builtin_memcpy(&hop, &word, sizeof(hop));
	}
	return hop;
}

/*
 * A translated frame leaves from the egress interface towards its next hop, the others
 * if REWRITE_L2=all.
 */
static __always_inline int rewrite_link_layer(struct xdp_md *ctx, struct packet *pkt,
					      const struct interface *egress)
{
	struct ethhdr *eth;
	struct next_hop hop;

	if (!pkt->translate && (!config.rewrite_l2_all || pkt->info & INFO_HOLD))
		return CONTINUE;
	hop = next_hop_of(pkt);
	if (!(hop.flags & NEXT_HOP_RESOLVED))
		return VERDICT_NEXT_HOP_UNRESOLVED;
	eth = header_at(ctx, pkt->inner_off, sizeof(*eth));
	if (!eth)
		return VERDICT_HEADERS_NOT_LINEAR;
	__builtin_memcpy(eth->h_dest, hop.mac, 6);
	__builtin_memcpy(eth->h_source, egress->mac, 6);
	pkt->info |= INFO_REWRITTEN;
	return CONTINUE;
}

static __always_inline int clear_df(struct xdp_md *ctx, struct packet *pkt)
{
	struct iphdr *ip;
	__be16 cleared;

	if (pkt->family != 4 || pkt->ip_len <= config.df_clear_threshold)
		return CONTINUE;
	ip = header_at(ctx, pkt->l3_off, sizeof(*ip));
	if (!ip)
		return VERDICT_HEADERS_NOT_LINEAR;
	if (!(ip->frag_off & bpf_htons(IPV4_DF)))
		return CONTINUE;
	cleared = ip->frag_off & bpf_htons((__u16)~IPV4_DF);
	ip->check = csum_end(csum_replace16(csum_begin(ip->check), ip->frag_off, cleared));
	ip->frag_off = cleared;
	pkt->notes |= PACKET_DF_CLEARED;
	return CONTINUE;
}

/*
 * Longest frame that the egress takes: packet_snd() in net/packet/af_packet.c allows one
 * 802.1Q tag on top of the MTU.
 */
static __always_inline __u32 max_frame_len(const struct packet *pkt, const struct interface *egress)
{
	return egress->mtu + sizeof(struct ethhdr) + (pkt->tagged ? sizeof(struct vlan_tag) : 0);
}

/* Longest IP packet that fits behind this frame's link layer. */
static __always_inline __u32 max_ip_len(const struct packet *pkt, const struct interface *egress)
{
	__u32 link_layer = pkt->l3_off - pkt->inner_off, limit = max_frame_len(pkt, egress);

	return limit > link_layer ? limit - link_layer : 0;
}

/* Whether the injector may fragment this packet: whole, IPv4, without DF. */
static __always_inline int may_be_fragmented(struct xdp_md *ctx, struct packet *pkt)
{
	struct iphdr *ip;

	if (pkt->family != 4 || pkt->notes & (1u << NOTE_TRUNCATED))
		return 0;
	ip = header_at(ctx, pkt->l3_off, sizeof(*ip));
	return ip && !(ip->frag_off & bpf_htons(IPV4_DF));
}

/* Frames that are too long for the egress are fragmented by the injector, if they may be. */
static __always_inline int check_mtu(struct xdp_md *ctx, struct packet *pkt,
				     const struct interface *egress)
{
	__u32 limit;

	if (pkt->inner_end - pkt->inner_off <= max_frame_len(pkt, egress))
		return CONTINUE;
	limit = max_ip_len(pkt, egress);
	if (limit < IPV4_MIN_MTU || pkt->ip_len <= limit || !may_be_fragmented(ctx, pkt))
		return VERDICT_TOO_BIG;
	pkt->info |= INFO_OVERSIZED;
	pkt->notes |= 1u << NOTE_OVERSIZED;
	return CONTINUE;
}

#endif
