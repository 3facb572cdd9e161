// SPDX-License-Identifier: GPL-2.0-only
/*
 * Counts stamped frames by flow and checks their order, then drops them. Looks behind VLAN tags
 * and one layer of VXLAN. Frames without a stamp go on to the kernel, so that ARP works.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "stamp.h"

#define MAX_TAGS 2
#define WINDOW	 1024
#define BUCKETS	 1024

const volatile __u16 vxlan_port = 4789;
/* Not 0: stamped frames go on to the kernel, too. */
const volatile __u8 pass;

struct totals {
	__u64 frames;
	__u64 bytes;
	__u64 stamped;
	__u64 unknown_flow;
};

struct flow {
	struct bpf_spin_lock lock;
	__u32 reserved;
	/* One more than the highest sequence number seen. */
	__u64 next;
	__u64 received;
	__u64 gaps;
	__u64 late;
	__u64 duplicates;
	__u64 stale;
	/* Slot n: one more than the last sequence number that fell on it (low 32 bits). */
	__u32 window[WINDOW];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct totals);
} totals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct flow);
} flows SEC(".maps");

/* Delay from stamp to sink: 16 buckets for each power of two of nanoseconds. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, BUCKETS);
	__type(key, __u32);
	__type(value, __u64);
} delays SEC(".maps");

struct tag {
	__be16 tci;
	__be16 next;
} __attribute__((packed));

/* Returns the UDP header of the frame that starts at `at`, or NULL. */
static __always_inline struct udphdr *find_udp(void *at, void *end)
{
	struct ethhdr *eth = at;
	struct udphdr *udp;
	__be16 type;
	int i;

	if ((void *)(eth + 1) > end)
		return NULL;
	type = eth->h_proto;
	at = eth + 1;
#pragma unroll
	for (i = 0; i < MAX_TAGS; i++) {
		struct tag *tag = at;

		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(tag + 1) > end)
			return NULL;
		type = tag->next;
		at = tag + 1;
	}
	if (type == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = at;

		if ((void *)(ip + 1) > end || ip->protocol != IPPROTO_UDP)
			return NULL;
		/* Later fragments carry no UDP header. */
		if (ip->frag_off & bpf_htons(0x1fff))
			return NULL;
		at += ip->ihl * 4;
	} else if (type == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = at;

		if ((void *)(ip + 1) > end || ip->nexthdr != IPPROTO_UDP)
			return NULL;
		at = ip + 1;
	} else {
		return NULL;
	}
	udp = at;
	if ((void *)(udp + 1) > end)
		return NULL;
	return udp;
}

static __always_inline __u32 bucket(__u64 value)
{
	__u32 exponent = 0;
	__u64 rest = value;

	if (value < 16)
		return value;
	if (rest >> 32) {
		exponent += 32;
		rest >>= 32;
	}
	if (rest >> 16) {
		exponent += 16;
		rest >>= 16;
	}
	if (rest >> 8) {
		exponent += 8;
		rest >>= 8;
	}
	if (rest >> 4) {
		exponent += 4;
		rest >>= 4;
	}
	if (rest >> 2) {
		exponent += 2;
		rest >>= 2;
	}
	exponent += rest >> 1;
	return (exponent - 3) * 16 + ((value >> (exponent - 4)) & 15);
}

static __always_inline void note_delay(__u64 sent)
{
	__u64 now = bpf_ktime_get_ns();
	__u32 key = bucket(now > sent ? now - sent : 0);
	__u64 *count = bpf_map_lookup_elem(&delays, &key);

	if (count)
		*count += 1;
}

static __always_inline void note_sequence(struct flow *flow, __u64 sequence)
{
	__u32 mark = (__u32)sequence + 1;
	__u32 slot = sequence & (WINDOW - 1);

	bpf_spin_lock(&flow->lock);
	flow->received++;
	if (sequence >= flow->next) {
		if (sequence > flow->next)
			flow->gaps++;
		flow->next = sequence + 1;
		flow->window[slot] = mark;
	} else if (flow->next - sequence > WINDOW) {
		flow->stale++;
	} else if (flow->window[slot] == mark) {
		flow->duplicates++;
	} else {
		flow->late++;
		flow->window[slot] = mark;
	}
	bpf_spin_unlock(&flow->lock);
}

/* Returns false if the frame has no stamp. */
static __always_inline bool note(struct totals *total, void *data, void *end)
{
	struct udphdr *udp = find_udp(data, end);
	struct flow *flow;
	struct stamp *stamp;
	__u32 key;

	if (udp && udp->dest == bpf_htons(vxlan_port))
		udp = find_udp((void *)(udp + 1) + 8, end);
	if (!udp)
		return false;
	stamp = (void *)(udp + 1);
	if ((void *)(stamp + 1) > end || stamp->magic != bpf_htonl(STAMP_MAGIC))
		return false;
	total->stamped++;
	key = bpf_ntohl(stamp->flow);
	flow = bpf_map_lookup_elem(&flows, &key);
	if (!flow) {
		total->unknown_flow++;
		return true;
	}
	if (stamp->sent)
		note_delay(bpf_be64_to_cpu(stamp->sent));
	note_sequence(flow, bpf_be64_to_cpu(stamp->sequence));
	return true;
}

SEC("xdp.frags")
int sink(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct totals *total;
	__u32 key = 0;

	total = bpf_map_lookup_elem(&totals, &key);
	if (!total)
		return XDP_ABORTED;
	total->frames++;
	total->bytes += bpf_xdp_get_buff_len(ctx);
	return note(total, data, end) && !pass ? XDP_DROP : XDP_PASS;
}

char _license[] SEC("license") = "GPL";
