/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Outer headers: is this VXLAN for us, and where does the inner frame stand?
 *
 * What is not UDP to the VXLAN port goes to the host. Once a packet is known to
 * be for that port it never reaches the host's stack, which would answer it with
 * ICMP out of the ingress interface: it is dropped by name.
 */
#ifndef VXLAN_OUTER_H
#define VXLAN_OUTER_H

#include "packet.h"

struct vxlan_header {
	__u8 flags;
	__u8 reserved1[3];
	__be32 vni; /* 24 bits, then 8 reserved */
};

#define VXLAN_FLAG_VNI 0x08 /* the I flag (RFC 7348 section 5) */

/* The outer IP header, whichever its family. */
struct outer_ip {
	__u32 udp_off;
	__u32 end;	/* offset behind the IP packet, by its length field */
	__u8 fragment;	/* enum fragment */
	__u8 no_length; /* length field is 0 */
};

static __always_inline int parse_outer_ipv4(struct xdp_md *ctx, __u32 off, struct outer_ip *outer)
{
	struct iphdr *ip = header_at(ctx, off, sizeof(*ip));
	__u32 total_length, fragment;

	if (!ip || ip->version != 4 || ip->ihl < 5 || ip->protocol != IPPROTO_UDP)
		return VERDICT_PASSED;
	fragment = bpf_ntohs(ip->frag_off);
	if (fragment & IPV4_OFFSET_MASK)
		return VERDICT_PASSED; /* no port in it; the host can't complete it either */
	total_length = bpf_ntohs(ip->tot_len);
	outer->udp_off = off + ip->ihl * 4;
	outer->end = off + total_length;
	outer->fragment = fragment & IPV4_MF ? FRAGMENT_FIRST : FRAGMENT_NONE;
	outer->no_length = !total_length;
	return CONTINUE;
}

static __always_inline int parse_outer_ipv6(struct xdp_md *ctx, __u32 off, struct outer_ip *outer)
{
	struct ipv6hdr *ip = header_at(ctx, off, sizeof(*ip));
	struct ipv6_walk walk = {};
	__u32 payload_length;

	if (!ip || ip->version != 6)
		return VERDICT_PASSED;
	payload_length = bpf_ntohs(ip->payload_len);
	outer->end = off + sizeof(*ip) + payload_length;
	outer->no_length = !payload_length;
	walk.off = off + sizeof(*ip);
	walk.end = MAX_HEADER_OFFSET;
	walk.next = ip->nexthdr;
	if (ip->nexthdr != IPPROTO_UDP && ipv6_skip_extensions(ctx, &walk))
		return VERDICT_PASSED;
	if (walk.next != IPPROTO_UDP || walk.fragment == FRAGMENT_LATER)
		return VERDICT_PASSED;
	outer->udp_off = walk.off;
	outer->fragment = walk.fragment;
	return CONTINUE;
}

/* Finds the UDP header of an IP packet at `off`. */
static __always_inline int parse_outer_ip(struct xdp_md *ctx, __u32 ethertype, __u32 off,
					  struct outer_ip *outer)
{
	if (ethertype == ETHERTYPE_IPV4)
		return parse_outer_ipv4(ctx, off, outer);
	if (ethertype == ETHERTYPE_IPV6)
		return parse_outer_ipv6(ctx, off, outer);
	return VERDICT_PASSED;
}

/* Checks the lengths of a UDP datagram that is for us. */
static __always_inline int check_datagram(struct xdp_md *ctx, const struct outer_ip *outer,
					  __u32 udp_length)
{
	if (outer->fragment != FRAGMENT_NONE)
		return VERDICT_OUTER_FRAGMENT;
	if (outer->no_length)
		return VERDICT_ZERO_LENGTH;
	if (!frame_reaches(ctx, outer->end) || udp_length < sizeof(struct udphdr) ||
	    outer->udp_off + udp_length > outer->end)
		return VERDICT_OUTER_LENGTH;
	return CONTINUE;
}

/* Finds the inner frame in a UDP datagram that is for the VXLAN port. */
static __always_inline int parse_vxlan(struct xdp_md *ctx, struct packet *pkt,
				       const struct outer_ip *outer, __u32 udp_length)
{
	__u32 vxlan_off = outer->udp_off + sizeof(struct udphdr);
	struct vxlan_header *vxlan;
	int verdict = check_datagram(ctx, outer, udp_length);

	if (verdict != CONTINUE)
		return verdict;
	if (udp_length < sizeof(struct udphdr) + VXLAN_HEADER_LEN)
		return VERDICT_VXLAN_SHORT;
	vxlan = header_at(ctx, vxlan_off, sizeof(*vxlan));
	if (!vxlan)
		return VERDICT_HEADERS_NOT_LINEAR;
	if (!(vxlan->flags & VXLAN_FLAG_VNI))
		return VERDICT_VXLAN_NO_VNI;
	pkt->vni = bpf_ntohl(vxlan->vni) >> 8;
	pkt->inner_off = vxlan_off + VXLAN_HEADER_LEN;
	pkt->inner_end = outer->udp_off + udp_length;
	return CONTINUE;
}

#include "geneve.h"

static __always_inline int parse_outer(struct xdp_md *ctx, struct packet *pkt)
{
	struct outer_ip outer = {};
	__u32 l3_off = 0, ethertype;
	struct udphdr *udp;
	int verdict;

	ethertype = skip_vlan_tags(ctx, 0, MAX_HEADER_OFFSET, &l3_off);
	verdict = parse_outer_ip(ctx, ethertype, l3_off, &outer);
	if (verdict != CONTINUE)
		return verdict;
	udp = header_at(ctx, outer.udp_off, sizeof(*udp));
	if (!udp)
		return VERDICT_PASSED;
	pkt->outer_l3_off = l3_off;
	pkt->outer_family = ethertype == ETHERTYPE_IPV4 ? 4 : 6;
	if (udp->dest == config.vxlan_port)
		return parse_vxlan(ctx, pkt, &outer, bpf_ntohs(udp->len));
	if (config.geneve && udp->dest == bpf_htons(GENEVE_PORT))
		return parse_geneve(ctx, pkt, &outer, bpf_ntohs(udp->len));
	return VERDICT_PASSED;
}

#endif
