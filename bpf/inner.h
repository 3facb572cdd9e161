/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Inner frame: which addresses, protocol and ports does it carry? Nothing is read
 * behind the end that the outer UDP length gives, and nothing is repaired.
 */
#ifndef VXLAN_INNER_H
#define VXLAN_INNER_H

#include "packet.h"

/* A header inside the inner frame, or NULL if the frame ends before or the driver split it. */
static __always_inline void *inner_header_at(struct xdp_md *ctx, struct packet *pkt, __u32 off,
					     __u32 size)
{
	void *header;

	if (off + size > pkt->inner_end)
		return NULL;
	header = header_at(ctx, off, size);
	if (!header && off <= MAX_HEADER_OFFSET)
		pkt->split = 1;
	return header;
}

/* The verdict on a frame that is not IP. */
static __always_inline int not_ip(struct packet *pkt)
{
	pkt->family = 0;
	return config.non_ip_forward ? CONTINUE : VERDICT_NON_IP;
}

/*
 * The verdict on badly broken IP: it goes the way of frames that are not IP, but
 * not past an allowlist, which its addresses might not be on.
 */
static __always_inline int malformed(struct packet *pkt)
{
	pkt->family = 0;
	if (config.non_ip_forward && !config.allowlist_enabled)
		return CONTINUE;
	return VERDICT_INNER_MALFORMED;
}

/* Messages that carry the packet they are about (RFC 792, RFC 1122 section 3.2.2). */
static __always_inline int is_icmpv4_error(__u8 type)
{
	return type == ICMP_TYPE_UNREACHABLE || type == ICMP_TYPE_SOURCE_QUENCH ||
	       type == ICMP_TYPE_REDIRECT || type == ICMP_TYPE_TIME_EXCEEDED ||
	       type == ICMP_TYPE_PARAMETER_PROBLEM;
}

/* Tells what an ICMP or ICMPv6 message is; the identifier of echo stands for its ports. */
static __always_inline void parse_icmp(struct xdp_md *ctx, struct packet *pkt, __u32 end)
{
	struct icmp_header *icmp;
	int v6 = pkt->family == 6;

	if (pkt->l4_off + sizeof(*icmp) > end)
		return;
	icmp = inner_header_at(ctx, pkt, pkt->l4_off, sizeof(*icmp));
	if (!icmp)
		return;
	if (icmp->type == (v6 ? ICMPV6_TYPE_ECHO_REQUEST : ICMP_TYPE_ECHO_REQUEST))
		pkt->icmp = ICMP_ECHO_REQUEST;
	else if (icmp->type == (v6 ? ICMPV6_TYPE_ECHO_REPLY : ICMP_TYPE_ECHO_REPLY))
		pkt->icmp = ICMP_ECHO_ANSWER;
	else if (v6 ? icmp->type < ICMPV6_TYPE_INFORMATIONAL : is_icmpv4_error(icmp->type))
		pkt->icmp = ICMP_ERROR;
	if (pkt->icmp != ICMP_ECHO_REQUEST && pkt->icmp != ICMP_ECHO_ANSWER)
		return;
	pkt->source_port = icmp->id;
	pkt->destination_port = icmp->id;
	pkt->has_ports = 1;
}

/*
 * Reads the ports when the whole TCP or UDP header is there; `ip_end` is where the IP
 * packet ends, `end` where the bytes of it end that the mirror left.
 */
static __always_inline void parse_ports(struct xdp_md *ctx, struct packet *pkt, __u32 ip_end,
					__u32 end)
{
	__u32 size = pkt->protocol == IPPROTO_TCP ? sizeof(struct tcphdr) : sizeof(struct udphdr);
	struct udphdr *ports; /* TCP's begin at the same place */

	if (pkt->fragment == FRAGMENT_LATER)
		return;
	if (pkt->protocol == (pkt->family == 6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP)) {
		parse_icmp(ctx, pkt, end);
		return;
	}
	if (pkt->protocol != IPPROTO_TCP && pkt->protocol != IPPROTO_UDP)
		return;
	if (pkt->l4_off + size > ip_end && pkt->fragment == FRAGMENT_FIRST)
		pkt->tiny = 1;
	if (pkt->l4_off + size > end)
		return;
	ports = inner_header_at(ctx, pkt, pkt->l4_off, sizeof(*ports));
	if (!ports)
		return;
	pkt->source_port = ports->source;
	pkt->destination_port = ports->dest;
	pkt->has_ports = 1;
}

static __always_inline int parse_inner_ipv4(struct xdp_md *ctx, struct packet *pkt)
{
	struct iphdr *ip = inner_header_at(ctx, pkt, pkt->l3_off, sizeof(*ip));
	__u32 fragment;

	if (!ip || ip->version != 4 || ip->ihl < 5)
		return malformed(pkt);
	pkt->ip_len = bpf_ntohs(ip->tot_len);
	if (!pkt->ip_len)
		return VERDICT_ZERO_LENGTH;
	if (pkt->ip_len < ip->ihl * 4)
		return malformed(pkt);
	pkt->family = 4;
	pkt->protocol = ip->protocol;
	pkt->l4_off = pkt->l3_off + ip->ihl * 4;
	pkt->fragment_id = ip->id;
	__builtin_memcpy(pkt->source, &ip->saddr, 4);
	__builtin_memcpy(pkt->destination, &ip->daddr, 4);
	fragment = bpf_ntohs(ip->frag_off);
	pkt->fragment_offset = fragment & IPV4_OFFSET_MASK;
	if (pkt->fragment_offset)
		pkt->fragment = FRAGMENT_LATER;
	else if (fragment & IPV4_MF)
		pkt->fragment = FRAGMENT_FIRST;
	return CONTINUE;
}

static __always_inline int parse_inner_ipv6(struct xdp_md *ctx, struct packet *pkt)
{
	struct ipv6hdr *ip = inner_header_at(ctx, pkt, pkt->l3_off, sizeof(*ip));
	struct ipv6_walk walk = {};
	__u32 payload_length;

	if (!ip || ip->version != 6)
		return malformed(pkt);
	payload_length = bpf_ntohs(ip->payload_len);
	if (!payload_length && ip->nexthdr != IPPROTO_NONE)
		return VERDICT_ZERO_LENGTH;
	pkt->family = 6;
	pkt->ip_len = sizeof(*ip) + payload_length;
	__builtin_memcpy(pkt->source, &ip->saddr, 16);
	__builtin_memcpy(pkt->destination, &ip->daddr, 16);
	walk.off = pkt->l3_off + sizeof(*ip);
	walk.end = pkt->l3_off + pkt->ip_len;
	if (walk.end > pkt->inner_end)
		walk.end = pkt->inner_end;
	walk.next = ip->nexthdr;
	if (ip->nexthdr != IPPROTO_UDP && ip->nexthdr != IPPROTO_TCP &&
	    ipv6_skip_extensions(ctx, &walk))
		walk.next = IPPROTO_NONE; /* chain is cut or too long: no transport to look at */
	pkt->split = walk.split;
	/* The whole chain belongs into the first fragment (RFC 7112 section 5). */
	pkt->tiny = walk.cut && walk.fragment == FRAGMENT_FIRST &&
		    pkt->l3_off + pkt->ip_len <= pkt->inner_end;
	pkt->l4_off = walk.off;
	pkt->protocol = walk.next;
	pkt->fragment = walk.fragment;
	pkt->fragment_id = walk.fragment_id;
	pkt->fragment_offset = walk.fragment_offset;
	return CONTINUE;
}

/* A function of its own, so that the verifier proves it once and not for each outer shape. */
__noinline int parse_inner(struct xdp_md *ctx, struct packet *pkt)
{
	__u32 l3_off = 0, ethertype, ip_end, end;
	struct ethhdr *eth;
	int verdict;

	if (!pkt)
		return VERDICT_INNER_SHORT;
	if (pkt->inner_off + sizeof(*eth) > pkt->inner_end)
		return VERDICT_INNER_SHORT;
	eth = header_at(ctx, pkt->inner_off, sizeof(*eth));
	if (!eth)
		return VERDICT_HEADERS_NOT_LINEAR;
	pkt->tagged = eth->h_proto == bpf_htons(ETHERTYPE_8021Q);
	ethertype = skip_vlan_tags(ctx, pkt->inner_off, pkt->inner_end, &l3_off);
	pkt->l3_off = l3_off;
	if (ethertype == ETHERTYPE_IPV4)
		verdict = parse_inner_ipv4(ctx, pkt);
	else if (ethertype == ETHERTYPE_IPV6)
		verdict = parse_inner_ipv6(ctx, pkt);
	else if (ethertype == ETHERTYPE_SPLIT)
		return VERDICT_HEADERS_NOT_LINEAR;
	else
		return not_ip(pkt);
	if (pkt->split)
		return VERDICT_HEADERS_NOT_LINEAR;
	if (verdict != CONTINUE || !pkt->family)
		return verdict;
	end = ip_end = pkt->l3_off + pkt->ip_len;
	if (end > pkt->inner_end) {
		if (config.truncated_drop)
			return VERDICT_TRUNCATED;
		pkt->notes |= 1u << NOTE_TRUNCATED;
		end = pkt->inner_end;
	}
	if (pkt->fragment != FRAGMENT_NONE)
		pkt->notes |= 1u << NOTE_FRAGMENT;
	parse_ports(ctx, pkt, ip_end, end);
	return pkt->split ? VERDICT_HEADERS_NOT_LINEAR : CONTINUE;
}

#endif
