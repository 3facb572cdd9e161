/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the stages know about the packet at hand, and how they reach its bytes.
 *
 * Offsets count from the start of the outer frame. A stage gets a pointer to a
 * header by header_at(), which is NULL when the bytes are not there, and returns
 * CONTINUE or the packet's verdict.
 */
#ifndef VXLAN_PACKET_H
#define VXLAN_PACKET_H

#include "abi.h"

#define CONTINUE -1

/* Headers further in than this are not looked at; far beyond what real packets have. */
#define MAX_HEADER_OFFSET 1023

#define MAX_VLAN_TAGS	    2
#define MAX_IPV6_EXTENSIONS 8
#define VXLAN_HEADER_LEN    8
#define ETHERTYPE_IPV4	    0x0800
#define ETHERTYPE_IPV6	    0x86dd
#define ETHERTYPE_8021Q	    0x8100
#define ETHERTYPE_8021AD    0x88a8
#define ETHERTYPE_SPLIT	    0x10000 /* none: see skip_vlan_tags() */
#define IPV4_DF		    0x4000
#define IPV4_MF		    0x2000
#define IPV4_OFFSET_MASK    0x1fff
#define IPV6_OFFSET_MASK    0xfff8
#define IPV6_MF		    0x0001

/* What follows the ethertype of a tagged frame (IEEE 802.1Q). */
struct vlan_tag {
	__be16 tci;
	__be16 ethertype;
};

/* Fragment header (RFC 8200 section 4.5). */
struct frag_hdr {
	__u8 nexthdr;
	__u8 reserved;
	__be16 frag_off;
	__be32 identification;
};

/* ICMP (RFC 792) and ICMPv6 (RFC 4443) up to the identifier of echo; linux/icmp.h needs a libc. */
struct icmp_header {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be16 id;
	__be16 rest;
};

/* ICMP types, and those of ICMPv6, where errors are below 128. */
enum {
	ICMP_TYPE_ECHO_REPLY = 0,
	ICMP_TYPE_UNREACHABLE = 3,
	ICMP_TYPE_SOURCE_QUENCH = 4,
	ICMP_TYPE_REDIRECT = 5,
	ICMP_TYPE_ECHO_REQUEST = 8,
	ICMP_TYPE_TIME_EXCEEDED = 11,
	ICMP_TYPE_PARAMETER_PROBLEM = 12,
	ICMPV6_TYPE_INFORMATIONAL = 128,
	ICMPV6_TYPE_ECHO_REQUEST = 128,
	ICMPV6_TYPE_ECHO_REPLY = 129,
};

enum fragment {
	FRAGMENT_NONE,
	FRAGMENT_FIRST,
	FRAGMENT_LATER,
};

/* What an ICMP or ICMPv6 message is to us. */
enum icmp {
	ICMP_NONE, /* not ICMP, or another message */
	ICMP_ECHO_REQUEST,
	ICMP_ECHO_ANSWER,
	ICMP_ERROR, /* carries the beginning of the packet that it is about */
};

/* Which address of the packet becomes the target's. */
enum translate {
	TRANSLATE_NONE,
	TRANSLATE_DESTINATION,
	TRANSLATE_SOURCE, /* a reply */
	TRANSLATE_ERROR,  /* the embedded header's, see icmp_error.h */
};

struct packet {
	__u32 inner_off; /* inner Ethernet header; 0: VXLAN was not read yet */
	__u32 inner_end; /* by the outer UDP length, never outer padding */
	__u32 vni;
	__u32 outer_l3_off; /* outer IP header, of outer_family */
	__u32 l3_off;	    /* inner IP header */
	__u32 l4_off;	    /* inner transport header, if has_ports or icmp */
	__u32 ip_len;	    /* inner IP packet, bytes, as its header says */
	__u32 fragment_id;
	__u32 notes;	    /* bitmap of enum note and PACKET_* */
	__u32 target;	    /* key of target_map, if translate */
	__u32 serial;	    /* of the target */
	__be16 source_port; /* the identifier of ICMP echo is both ports */
	__be16 destination_port;
	__u16 fragment_offset; /* in units of 8 bytes */
	__u16 info;	       /* INFO_*: what the injector must know */
	__u8 outer_family;     /* 4, 6, or 0: not IP */
	__u8 family;	       /* of the inner packet, likewise */
	__u8 protocol;	       /* IPPROTO_*, behind extension headers */
	__u8 fragment;	       /* enum fragment */
	__u8 icmp;	       /* enum icmp */
	__u8 has_ports;	       /* whole TCP or UDP header is there, or ICMP echo's */
	__u8 tiny;	       /* a first fragment without its whole transport header */
	__u8 tagged;	       /* first inner tag is 802.1Q */
	__u8 split;	       /* an inner header is there, but not in the first buffer */
	__u8 translate;	       /* enum translate */
	__u8 reserved[2];
	__u8 source[16]; /* IPv4 in the first four bytes */
	__u8 destination[16];
};

/*
 * The VNI as part of what tells flows and datagrams apart. Who has copies dropped mirrors
 * a flow in several sessions, of which either may bring a packet first.
 */
static __always_inline __u32 session_of(const struct packet *pkt)
{
	return config.dedup_window_ns ? 0 : pkt->vni;
}

/* Further bits of packet.notes, behind those of enum note. */
#define PACKET_NAT_APPLIED (1u << 30)
#define PACKET_DF_CLEARED  (1u << 31)

/* Pointer to `size` bytes at `off`, or NULL if the first buffer does not hold them. */
static __always_inline void *header_at(struct xdp_md *ctx, __u32 off, __u32 size)
{
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;
	void *header;

	barrier_var(off); /* the register that is checked must be the one that is used */
	if (off > MAX_HEADER_OFFSET)
		return NULL;
	header = data + off;
	if (header + size > data_end)
		return NULL;
	return header;
}

/* Whether the frame, all its buffers together, has `end` bytes. The helper is for the rare case. */
static __always_inline int frame_reaches(struct xdp_md *ctx, __u32 end)
{
	return end <= ctx->data_end - ctx->data || end <= bpf_xdp_get_buff_len(ctx);
}

struct ipv6_walk {
	__u32 off; /* in: first byte behind the fixed header; out: transport header */
	__u32 end; /* bytes of the packet end here */
	__u32 fragment_id;
	__u8 next;	       /* in and out: protocol number of what stands at off */
	__u8 fragment;	       /* out: enum fragment */
	__u8 split;	       /* out: the chain goes on, but not in the first buffer */
	__u8 cut;	       /* out: the chain goes on behind the end */
	__u32 fragment_offset; /* out: in units of 8 bytes */
};

/*
 * Walks IPv6 extension headers (RFC 8200 section 4): hop-by-hop, routing,
 * destination options, one fragment header. AH and ESP count as transport. Returns 0,
 * or -1 when the chain can't be followed to its end. A function of its own, so that the
 * verifier proves it once.
 */
__noinline int ipv6_skip_extensions(struct xdp_md *ctx, struct ipv6_walk *walk)
{
	int fragment_headers = 0;

	if (!walk)
		return -1;
	/* Once more than there may be, to see what follows the last one. */
	for (int i = 0; i <= MAX_IPV6_EXTENSIONS; i++) {
		__u8 next = walk->next;
		__u32 off = walk->off;
		struct ipv6_opt_hdr *option;

		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS &&
		    next != IPPROTO_FRAGMENT)
			return 0;
		option = header_at(ctx, off, 8);
		if (!option) {
			walk->split = off <= MAX_HEADER_OFFSET && off + 8 <= walk->end;
			walk->cut = off + 8 > walk->end;
			return -1;
		}
		if (off + 8 > walk->end) {
			walk->cut = 1;
			return -1;
		}
		walk->next = option->nexthdr;
		if (next == IPPROTO_FRAGMENT) {
			struct frag_hdr *fragment = (void *)option;
			__u16 offset = bpf_ntohs(fragment->frag_off);

			if (fragment_headers++)
				return -1; /* which of them would count? */
			walk->off = off + 8;
			walk->fragment_id = fragment->identification;
			walk->fragment_offset = offset >> 3;
			if (offset & IPV6_OFFSET_MASK) {
				walk->fragment = FRAGMENT_LATER;
				return 0;
			}
			if (offset & IPV6_MF)
				walk->fragment = FRAGMENT_FIRST;
		} else {
			walk->off = off + (option->hdrlen + 1) * 8;
		}
	}
	return -1;
}

/*
 * Skips up to two VLAN tags behind the Ethernet header at `off`. Returns the
 * ethertype (host order) behind them, its payload's offset in *l3_off; 0 when the
 * frame ends before it, ETHERTYPE_SPLIT when only its first buffer does.
 */
static __always_inline __u32 skip_vlan_tags(struct xdp_md *ctx, __u32 off, __u32 end, __u32 *l3_off)
{
	struct ethhdr *eth = header_at(ctx, off, sizeof(*eth));
	__u32 ethertype;

	if (!eth)
		return 0;
	ethertype = bpf_ntohs(eth->h_proto);
	off += sizeof(*eth);
	for (int i = 0; i < MAX_VLAN_TAGS; i++) {
		struct vlan_tag *tag;

		if (ethertype != ETHERTYPE_8021Q && ethertype != ETHERTYPE_8021AD)
			break;
		tag = header_at(ctx, off, sizeof(*tag));
		if (off + sizeof(*tag) > end)
			return 0;
		if (!tag)
			return ETHERTYPE_SPLIT;
		ethertype = bpf_ntohs(tag->ethertype);
		off += sizeof(*tag);
	}
	*l3_off = off;
	return ethertype;
}

#endif
