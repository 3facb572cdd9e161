/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Destination NAT: the most specific rule that matches gives the target; address,
 * port and checksums are rewritten in place, in the packet that is dropped anyway
 * once its inner frame has been copied out.
 */
#ifndef VXLAN_NAT_H
#define VXLAN_NAT_H

#include "csum.h"
#include "packet.h"

/* Bitmap of the kinds of rule that there are for packets of this family, of control.nat_active. */
static __always_inline __u32 rule_shapes(const struct packet *pkt, __u64 active)
{
	__u32 shapes = active;

	return pkt->family == 6 ? shapes >> NAT_SHAPE_MAX : shapes & ((1u << NAT_SHAPE_MAX) - 1);
}

/* The rule for this packet, or NULL. */
static __always_inline struct nat_value *find_rule(struct packet *pkt,
						   const struct control *control)
{
	/* Read once: generation and shapes belong together. */
	__u64 active = *(const volatile __u64 *)&control->nat_active;
	__u32 shapes = rule_shapes(pkt, active);
	struct nat_key key = {
		.prefixlen = NAT_KEY_FIXED_BITS + (pkt->family == 4 ? 32 : 128),
		.generation = active >> 32,
		.family = pkt->family,
		.port = pkt->destination_port,
	};

	__builtin_memcpy(key.address, pkt->destination, 16);
	for (int shape = 0; shape < NAT_SHAPE_MAX; shape++) {
		int by_vni = shape == NAT_SHAPE_VNI_PROTOCOL || shape == NAT_SHAPE_VNI;
		int by_protocol = shape == NAT_SHAPE_VNI_PROTOCOL || shape == NAT_SHAPE_PROTOCOL;
		struct nat_value *value;

		if (!(shapes & (1u << shape)))
			continue;
		key.vni = by_vni ? bpf_htonl(pkt->vni) : NAT_ANY_VNI;
		key.protocol = by_protocol ? pkt->protocol : 0;
		value = bpf_map_lookup_elem(&nat_map, &key);
		if (value)
			return value;
	}
	return NULL;
}

/* Writes target port and checksum into the transport header, if this packet carries it. */
static __always_inline int translate_transport(struct xdp_md *ctx, struct packet *pkt,
					       const struct nat_value *target)
{
	int words = pkt->family == 4 ? 2 : 8;
	__u32 sum;

	if (pkt->fragment == FRAGMENT_LATER)
		return CONTINUE;
	if (pkt->protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = header_at(ctx, pkt->l4_off, sizeof(*tcp));

		if (!tcp)
			return VERDICT_HEADERS_NOT_LINEAR;
		sum = csum_begin(tcp->check);
		sum = csum_replace(sum, pkt->destination, target->address, words);
		sum = csum_replace16(sum, tcp->dest, target->port);
		tcp->check = csum_end(sum);
		tcp->dest = target->port;
	} else {
		struct udphdr *udp = header_at(ctx, pkt->l4_off, sizeof(*udp));

		if (!udp)
			return VERDICT_HEADERS_NOT_LINEAR;
		if (udp->check) { /* 0: the sender computed none (RFC 768) */
			sum = csum_begin(udp->check);
			sum = csum_replace(sum, pkt->destination, target->address, words);
			sum = csum_replace16(sum, udp->dest, target->port);
			udp->check = csum_end(sum) ?: 0xffff;
		}
		udp->dest = target->port;
	}
	return CONTINUE;
}

static __always_inline int translate_address(struct xdp_md *ctx, struct packet *pkt,
					     const struct nat_value *target)
{
	if (pkt->family == 4) {
		struct iphdr *ip = header_at(ctx, pkt->l3_off, sizeof(*ip));
		__u32 sum;

		if (!ip)
			return VERDICT_HEADERS_NOT_LINEAR;
		sum = csum_begin(ip->check);
		sum = csum_replace(sum, &ip->daddr, target->address, 2);
		ip->check = csum_end(sum);
		__builtin_memcpy(&ip->daddr, target->address, 4);
	} else {
		struct ipv6hdr *ip = header_at(ctx, pkt->l3_off, sizeof(*ip));

		if (!ip)
			return VERDICT_HEADERS_NOT_LINEAR;
		__builtin_memcpy(&ip->daddr, target->address, 16);
	}
	return CONTINUE;
}

/* A translated frame leaves from the egress interface towards the target's next hop. */
static __always_inline int rewrite_link_layer(struct xdp_md *ctx, struct packet *pkt,
					      const __u8 *source, const __u8 *destination)
{
	struct ethhdr *eth = header_at(ctx, pkt->inner_off, sizeof(*eth));

	if (!eth)
		return VERDICT_HEADERS_NOT_LINEAR;
	__builtin_memcpy(eth->h_dest, destination, 6);
	__builtin_memcpy(eth->h_source, source, 6);
	return CONTINUE;
}

static __always_inline int apply_nat(struct xdp_md *ctx, struct packet *pkt,
				     const struct control *control, const struct interface *egress)
{
	struct nat_value *target = NULL;
	int verdict;

	if ((pkt->has_ports || pkt->fragment == FRAGMENT_LATER) &&
	    (pkt->protocol == IPPROTO_TCP || pkt->protocol == IPPROTO_UDP))
		target = find_rule(pkt, control);
	if (!target)
		return config.unmatched_drop && pkt->family ? VERDICT_UNMATCHED : CONTINUE;
	if (!(target->flags & NAT_FLAG_RESOLVED))
		return VERDICT_NEXT_HOP_UNRESOLVED;
	verdict = translate_transport(ctx, pkt, target);
	if (verdict != CONTINUE)
		return verdict;
	verdict = translate_address(ctx, pkt, target);
	if (verdict != CONTINUE)
		return verdict;
	pkt->notes |= PACKET_NAT_APPLIED;
	return rewrite_link_layer(ctx, pkt, egress->mac, target->mac);
}

#endif
