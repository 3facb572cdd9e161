/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * ICMP and ICMPv6 errors about a translated flow (RFC 5508 section 4). They carry the
 * beginning of a packet of the flow; wherever that, or the error itself, has the
 * server's address, the target's takes its place. A router that sends an error keeps
 * its own address.
 */
#ifndef VXLAN_ICMP_ERROR_H
#define VXLAN_ICMP_ERROR_H

#include "translate.h"

/* The packet inside an ICMP error. */
struct embedded {
	__u32 l3_off;
	__u32 l4_off;
	__u32 end; /* of the bytes that are there */
	__u8 source[16];
	__u8 destination[16];
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 to_server; /* it went to the server, it is no reply */
	__u8 reserved[2];
};

static __always_inline int parse_embedded_ipv4(struct xdp_md *ctx, struct embedded *inside)
{
	struct iphdr *ip = header_at(ctx, inside->l3_off, sizeof(*ip));

	if (!ip || inside->l3_off + sizeof(*ip) > inside->end || ip->version != 4 || ip->ihl < 5)
		return -1;
	if (bpf_ntohs(ip->frag_off) & IPV4_OFFSET_MASK)
		return -1; /* no ports in it */
	inside->l4_off = inside->l3_off + ip->ihl * 4;
	inside->protocol = ip->protocol;
	__builtin_memcpy(inside->source, &ip->saddr, 4);
	__builtin_memcpy(inside->destination, &ip->daddr, 4);
	return 0;
}

static __always_inline int parse_embedded_ipv6(struct xdp_md *ctx, struct embedded *inside)
{
	struct ipv6hdr *ip = header_at(ctx, inside->l3_off, sizeof(*ip));
	struct ipv6_walk walk = {};

	if (!ip || inside->l3_off + sizeof(*ip) > inside->end || ip->version != 6)
		return -1;
	__builtin_memcpy(inside->source, &ip->saddr, 16);
	__builtin_memcpy(inside->destination, &ip->daddr, 16);
	walk.off = inside->l3_off + sizeof(*ip);
	walk.end = inside->end;
	walk.next = ip->nexthdr;
	if (ipv6_skip_extensions(ctx, &walk) || walk.fragment == FRAGMENT_LATER)
		return -1;
	inside->l4_off = walk.off;
	inside->protocol = walk.next;
	return 0;
}

/* The ports, or the identifier of an echo message, within the 8 bytes that every error has. */
static __always_inline int parse_embedded_ports(struct xdp_md *ctx, __u8 family,
						struct embedded *inside)
{
	struct icmp_header *transport = header_at(ctx, inside->l4_off, sizeof(*transport));

	if (!transport || inside->l4_off + sizeof(*transport) > inside->end)
		return -1;
	if (inside->protocol == IPPROTO_UDP || inside->protocol == IPPROTO_TCP) {
		struct udphdr *ports = (void *)transport;

		inside->source_port = ports->source;
		inside->destination_port = ports->dest;
		return 0;
	}
	if (inside->protocol != (family == 6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
		return -1;
	if (family == 6 ? transport->type != ICMPV6_TYPE_ECHO_REQUEST &&
				  transport->type != ICMPV6_TYPE_ECHO_REPLY
			: transport->type != ICMP_TYPE_ECHO_REQUEST &&
				  transport->type != ICMP_TYPE_ECHO_REPLY)
		return -1;
	inside->source_port = transport->id;
	inside->destination_port = transport->id;
	return 0;
}

/* Finds the flow that the error is about; sets pkt->translate and pkt->target. */
__noinline int find_embedded(struct xdp_md *ctx, struct packet *pkt, struct embedded *inside)
{
	struct endpoint source, destination;
	struct conntrack_key key = {};
	struct conntrack_value *flow;
	struct flow_target found;
	int to_high;

	if (!pkt || !inside)
		return -1;
	inside->l3_off = pkt->l4_off + sizeof(struct icmp_header);
	inside->end = pkt->l3_off + pkt->ip_len;
	if (inside->end > pkt->inner_end)
		inside->end = pkt->inner_end;
	if (pkt->family == 4 ? parse_embedded_ipv4(ctx, inside) : parse_embedded_ipv6(ctx, inside))
		return -1;
	if (parse_embedded_ports(ctx, pkt->family, inside))
		return -1;
	source.address = inside->source;
	source.port = inside->source_port;
	destination.address = inside->destination;
	destination.port = inside->destination_port;
	to_high = flow_key(&key, pkt, inside->protocol, source, destination);
	flow = bpf_map_lookup_elem(&conntrack_map, &key);
	if (!flow)
		return -1;
	found = flow_target(flow);
	if (!live_target(found.target, found.serial))
		return -1;
	inside->to_server = flow->server_is_high == to_high;
	pkt->target = found.target;
	pkt->serial = found.serial;
	pkt->translate = TRANSLATE_ERROR;
	return 0;
}

/*
 * Writes the target's port and the checksum into the embedded transport header, as far
 * as that is there; returns the ICMP checksum's sum with these changes.
 */
__noinline __u32 translate_embedded_transport(struct xdp_md *ctx, const struct embedded *inside,
					      const struct nat_target *target, __u32 icmp_sum)
{
	struct udphdr *transport;
	const __u8 *from;
	int words, has_ports = 0;
	__sum16 *check = NULL, old;
	__be16 *port;
	__u32 sum;

	if (!inside || !target)
		return icmp_sum;
	transport = header_at(ctx, inside->l4_off, sizeof(*transport));
	if (!transport)
		return icmp_sum;
	from = inside->to_server ? inside->destination : inside->source;
	words = WORDS(target->family);
	port = inside->to_server ? &transport->dest : &transport->source;
	if (inside->protocol == IPPROTO_UDP) {
		has_ports = 1;
		check = transport->check ? &transport->check : NULL;
	} else if (inside->protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = header_at(ctx, inside->l4_off, sizeof(*tcp));

		has_ports = 1;
		if (tcp && inside->l4_off + sizeof(*tcp) <= inside->end)
			check = &tcp->check;
	} else if (target->family == 6) {
		check = &((struct icmp_header *)transport)->checksum;
	}
	if (check) {
		old = *check;
		sum = csum_replace(csum_begin(old), from, target->address, words);
		if (has_ports)
			sum = csum_replace16(sum, *port, target->port);
		*check = csum_end(sum);
		if (inside->protocol == IPPROTO_UDP && !*check)
			*check = 0xffff;
		icmp_sum = csum_replace16(icmp_sum, old, *check);
	}
	if (has_ports) {
		icmp_sum = csum_replace16(icmp_sum, *port, target->port);
		*port = target->port;
	}
	return icmp_sum;
}

/* The same for the embedded IP header. */
static __always_inline __u32 translate_embedded_address(struct xdp_md *ctx, __u8 family,
							const struct embedded *inside,
							const struct nat_target *target,
							__u32 icmp_sum)
{
	const __u8 *from = inside->to_server ? inside->destination : inside->source;
	struct iphdr *ip = header_at(ctx, inside->l3_off, sizeof(*ip));
	__sum16 old = 0;

	if (family == 4 && ip)
		old = ip->check;
	if (translate_address(ctx, inside->l3_off, target, !inside->to_server) != CONTINUE)
		return icmp_sum;
	if (family == 4 && ip)
		icmp_sum = csum_replace16(icmp_sum, old, ip->check);
	return csum_replace(icmp_sum, from, target->address, WORDS(family));
}

/* Whether an address of the error itself is the server's. */
static __always_inline int is_server(const __u8 *address, const __u8 *server, __u8 family)
{
	__u32 one, two;

	for (int i = 0; i < 4; i++) {
		if (i > 0 && family == 4)
			break;
		__builtin_memcpy(&one, address + 4 * i, 4);
		__builtin_memcpy(&two, server + 4 * i, 4);
		if (one != two)
			return 0;
	}
	return 1;
}

/* A function of its own, so that the verifier proves it once; errors are the rare case. */
__noinline int translate_error(struct xdp_md *ctx, struct packet *pkt)
{
	int verdict = CONTINUE, from_server, to_server;
	struct embedded inside = {};
	struct nat_target *target;
	const __u8 *server;
	struct icmp_header *icmp;
	__u32 sum;

	if (!pkt || find_embedded(ctx, pkt, &inside))
		return CONTINUE;
	target = live_target(pkt->target, pkt->serial);
	icmp = header_at(ctx, pkt->l4_off, sizeof(*icmp));
	if (!target) /* it went away a moment ago */
		return VERDICT_NEXT_HOP_UNRESOLVED;
	if (!icmp)
		return VERDICT_HEADERS_NOT_LINEAR;
	server = inside.to_server ? inside.destination : inside.source;
	from_server = is_server(pkt->source, server, pkt->family);
	to_server = is_server(pkt->destination, server, pkt->family);
	sum = csum_begin(icmp->checksum);
	sum = translate_embedded_transport(ctx, &inside, target, sum);
	sum = translate_embedded_address(ctx, pkt->family, &inside, target, sum);
	if (pkt->family == 6 && (from_server || to_server))
		sum = csum_replace(sum, server, target->address, 8);
	icmp->checksum = csum_end(sum);
	if (from_server) {
		verdict = translate_address(ctx, pkt->l3_off, target, 1);
		pkt->info |= INFO_SOURCE;
	} else if (to_server) {
		verdict = translate_address(ctx, pkt->l3_off, target, 0);
		pkt->info |= INFO_DESTINATION;
	}
	pkt->notes |= 1u << NOTE_ICMP_ERROR;
	return verdict;
}

/* Decides what becomes of the packet's addresses; errors about a flow are translated at once. */
static __always_inline int choose_translation(struct xdp_md *ctx, struct packet *pkt,
					      const struct control *control)
{
	if (!pkt->family || !rule_shapes(pkt, control->nat_active))
		return CONTINUE;
	if (pkt->icmp == ICMP_ERROR)
		return translate_error(ctx, pkt);
	if (pkt->has_ports)
		find_target(pkt);
	return CONTINUE;
}

/* Translates the packet as it was decided. */
static __always_inline int translate(struct xdp_md *ctx, struct packet *pkt)
{
	if (pkt->translate == TRANSLATE_NONE) {
		if (config.unmatched_drop && pkt->family && !(pkt->info & INFO_HOLD))
			return VERDICT_UNMATCHED;
		return CONTINUE;
	}
	pkt->notes |= PACKET_NAT_APPLIED;
	if (pkt->translate == TRANSLATE_ERROR)
		return CONTINUE;
	return translate_packet(ctx, pkt);
}

#endif
