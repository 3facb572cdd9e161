/* SPDX-License-Identifier: GPL-2.0-only */
/* What the egress asks of every frame: the DF bit and the MTU. */
#ifndef VXLAN_REWRITE_H
#define VXLAN_REWRITE_H

#include "csum.h"
#include "packet.h"

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

/* What packet_snd() in net/packet/af_packet.c accepts: one 802.1Q tag goes on top of the MTU. */
static __always_inline int check_mtu(struct packet *pkt, const struct interface *egress)
{
	__u32 limit = egress->mtu + sizeof(struct ethhdr);

	if (pkt->tagged)
		limit += sizeof(struct vlan_tag);
	return pkt->inner_end - pkt->inner_off > limit ? VERDICT_TOO_BIG : CONTINUE;
}

#endif
