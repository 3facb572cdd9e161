/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * VXLAN inside GENEVE (RFC 8926): what a Gateway Load Balancer endpoint sends. The
 * GENEVE header is stripped with its options; what it carries must be VXLAN for the
 * VXLAN port. What is not is dropped by name, like broken VXLAN.
 */
#ifndef VXLAN_GENEVE_H
#define VXLAN_GENEVE_H

#include "packet.h"

struct geneve_header {
	__u8 version_options; /* 2 bits version, 6 bits length of the options in 4 bytes */
	__u8 flags;
	__be16 protocol; /* ethertype of the payload */
	__be32 vni;	 /* 24 bits, then 8 reserved; the VXLAN header's VNI counts */
};

#define GENEVE_PORT	     6081
#define GENEVE_FLAG_CONTROL  0x80   /* the O bit */
#define GENEVE_FLAG_CRITICAL 0x40   /* the C bit */
#define ETHERTYPE_TEB	     0x6558 /* Ethernet frame (transparent Ethernet bridging) */

/* Finds VXLAN in the payload of a GENEVE packet, which ends at `end`. */
static __always_inline int parse_geneve_payload(struct xdp_md *ctx, struct packet *pkt,
						__u32 ethertype, __u32 off, __u32 end)
{
	struct outer_ip inside = {};
	struct udphdr *udp;

	if (ethertype == ETHERTYPE_TEB)
		ethertype = skip_vlan_tags(ctx, off, end, &off);
	if (ethertype == ETHERTYPE_SPLIT)
		return VERDICT_HEADERS_NOT_LINEAR;
	if (parse_outer_ip(ctx, ethertype, off, &inside) != CONTINUE)
		return VERDICT_GENEVE_NOT_VXLAN;
	udp = header_at(ctx, inside.udp_off, sizeof(*udp));
	if (!udp || udp->dest != config.vxlan_port)
		return VERDICT_GENEVE_NOT_VXLAN;
	if (inside.end > end)
		return VERDICT_OUTER_LENGTH;
	return parse_vxlan(ctx, pkt, &inside, bpf_ntohs(udp->len));
}

/* A function of its own, so that the verifier proves it once; GENEVE is the rare case. */
__noinline int parse_geneve(struct xdp_md *ctx, struct packet *pkt, struct outer_ip *outer,
			    __u32 udp_length)
{
	struct geneve_header *geneve;
	__u32 off, end;
	int verdict;

	if (!pkt || !outer)
		return VERDICT_INTERNAL;
	verdict = check_datagram(ctx, outer, udp_length);
	if (verdict != CONTINUE)
		return verdict;
	off = outer->udp_off + sizeof(struct udphdr);
	end = outer->udp_off + udp_length;
	if (off + sizeof(*geneve) > end)
		return VERDICT_GENEVE_MALFORMED;
	geneve = header_at(ctx, off, sizeof(*geneve));
	if (!geneve)
		return VERDICT_HEADERS_NOT_LINEAR;
	off += sizeof(*geneve) + (geneve->version_options & 0x3f) * 4;
	if (geneve->version_options >> 6 || off > end)
		return VERDICT_GENEVE_MALFORMED;
	if (geneve->flags & GENEVE_FLAG_CONTROL)
		return VERDICT_GENEVE_CONTROL;
	if (geneve->flags & GENEVE_FLAG_CRITICAL)
		return VERDICT_GENEVE_CRITICAL;
	return parse_geneve_payload(ctx, pkt, bpf_ntohs(geneve->protocol), off, end);
}

#endif
