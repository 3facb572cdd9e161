/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Translation: the target takes the server's place, as destination of the packets that
 * go to the server and as source of its replies. Address, port and checksums are
 * rewritten in place, in the packet that is dropped anyway once its inner frame has
 * been copied out.
 */
#ifndef VXLAN_TRANSLATE_H
#define VXLAN_TRANSLATE_H

#include "csum.h"
#include "nat.h"

#define WORDS(family) ((family) == 4 ? 2 : 8) /* 16-bit words of an address */

/* Writes the target's port and the checksum into the transport header. */
static __always_inline int translate_transport(struct xdp_md *ctx, struct packet *pkt,
					       const struct nat_target *target, const __u8 *from)
{
	int words = WORDS(pkt->family), is_source = pkt->translate == TRANSLATE_SOURCE;
	__be16 port = target->port;
	__u32 sum;

	if (pkt->protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = header_at(ctx, pkt->l4_off, sizeof(*tcp));

		if (!tcp)
			return VERDICT_HEADERS_NOT_LINEAR;
		sum = csum_replace(csum_begin(tcp->check), from, target->address, words);
		sum = csum_replace16(sum, is_source ? tcp->source : tcp->dest, port);
		tcp->check = csum_end(sum);
		if (is_source)
			tcp->source = port;
		else
			tcp->dest = port;
	} else if (pkt->protocol == IPPROTO_UDP) {
		struct udphdr *udp = header_at(ctx, pkt->l4_off, sizeof(*udp));

		if (!udp)
			return VERDICT_HEADERS_NOT_LINEAR;
		if (udp->check) { /* 0: the sender computed none (RFC 768) */
			sum = csum_replace(csum_begin(udp->check), from, target->address, words);
			sum = csum_replace16(sum, is_source ? udp->source : udp->dest, port);
			udp->check = csum_end(sum) ?: 0xffff;
		}
		if (is_source)
			udp->source = port;
		else
			udp->dest = port;
	} else if (pkt->family == 6) { /* echo: ICMPv6 has a pseudo-header, ICMP none */
		struct icmp_header *icmp = header_at(ctx, pkt->l4_off, sizeof(*icmp));

		if (!icmp)
			return VERDICT_HEADERS_NOT_LINEAR;
		sum = csum_replace(csum_begin(icmp->checksum), from, target->address, words);
		icmp->checksum = csum_end(sum);
	}
	return CONTINUE;
}

/*
 * Writes the target's address into the IP header at `off`. A function of its own, like
 * those that call it, so that the verifier proves it once.
 */
__noinline int translate_address(struct xdp_md *ctx, __u32 off, const struct nat_target *target,
				 int is_source)
{
	if (!target)
		return VERDICT_INTERNAL;
	if (target->family == 4) {
		struct iphdr *ip = header_at(ctx, off, sizeof(*ip));
		__be32 *field;
		__u32 sum;

		if (!ip)
			return VERDICT_HEADERS_NOT_LINEAR;
		field = is_source ? &ip->saddr : &ip->daddr;
		sum = csum_replace(csum_begin(ip->check), field, target->address, 2);
		ip->check = csum_end(sum);
		__builtin_memcpy(field, target->address, 4);
	} else {
		struct ipv6hdr *ip = header_at(ctx, off, sizeof(*ip));

		if (!ip)
			return VERDICT_HEADERS_NOT_LINEAR;
		__builtin_memcpy(is_source ? &ip->saddr : &ip->daddr, target->address, 16);
	}
	return CONTINUE;
}

/*
 * A packet of a translated flow, or a fragment of one. A function of its own, so that
 * the verifier proves it once.
 */
__noinline int translate_packet(struct xdp_md *ctx, struct packet *pkt)
{
	int is_source, verdict = CONTINUE;
	struct nat_target *target;

	if (!pkt)
		return VERDICT_INTERNAL;
	target = live_target(pkt->target, pkt->serial);
	if (!target) /* its rule went away a moment ago */
		return VERDICT_NEXT_HOP_UNRESOLVED;
	is_source = pkt->translate == TRANSLATE_SOURCE;
	if (pkt->fragment != FRAGMENT_LATER)
		verdict = translate_transport(ctx, pkt, target,
					      is_source ? pkt->source : pkt->destination);
	if (verdict != CONTINUE)
		return verdict;
	pkt->info |= is_source ? INFO_SOURCE : INFO_DESTINATION;
	if (is_source)
		pkt->notes |= 1u << NOTE_REPLY;
	return translate_address(ctx, pkt->l3_off, target, is_source);
}

#endif
