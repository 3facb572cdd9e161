// SPDX-License-Identifier: GPL-2.0-only
/*
 * Turns the empty frames of a BPF_PROG_TEST_RUN with live frames into mirrored traffic. A frame
 * comes back with its last user's bytes, so the headers are written whole every time.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "stamp.h"

#define MAX_SIZES 16

struct vxlan {
	__be32 flags;
	__be32 vni;
} __attribute__((packed));

struct headers {
	struct ethhdr outer_eth;
	struct iphdr outer_ip;
	struct udphdr outer_udp;
	struct vxlan vxlan;
	struct ethhdr eth;
	struct iphdr ip;
	struct udphdr udp;
	struct stamp stamp;
} __attribute__((packed));

#define HEADER_WORDS (sizeof(struct headers) / 4)
_Static_assert(sizeof(struct headers) % 4 == 0, "copied in words of 4 bytes");

/*
 * The headers of frames of one size, for flow 0: the low half of the inner source address, flow,
 * sequence and time are 0, and the checksums are right for that.
 */
struct size {
	__u32 length;
	__u32 header[HEADER_WORDS];
};

const volatile __u32 interface;
const volatile __u32 flow_count = 1;
const volatile __u32 size_count = 1;
/* 0: as many as there is time for. */
const volatile __u64 limit;
/* Time between two frames in 1/1024 ns; 0: as fast as possible. */
const volatile __u64 interval;
/* How far behind its schedule it may be and still catch up, in the same unit. */
const volatile __u64 slack;
const volatile __u8 note_time;
/* 0: the inner UDP checksum is left out. */
const volatile __u8 checksum = 1;

struct progress {
	__u64 frames;
	/* When the first frame was made, and the last (without a clock at hand: about the last). */
	__u64 first;
	__u64 last;
	__u64 sequence;
	__u64 due;
	__u32 flow;
	__u32 size;
};

struct progress progress;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_SIZES);
	__type(key, __u32);
	__type(value, struct size);
} sizes SEC(".maps");

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static __always_inline __u64 halves(__u64 value)
{
	return (value & 0xffffffff) + (value >> 32);
}

/* Returns 0 if it is too early for the next frame. */
static __always_inline int is_due(__u64 now)
{
	__u64 scaled = now << 10;

	if (!interval)
		return 1;
	if (!progress.due)
		progress.due = scaled;
	if (scaled < progress.due)
		return 0;
	if (scaled - progress.due > slack)
		progress.due = scaled - slack;
	progress.due += interval;
	return 1;
}

static __always_inline void write_headers(struct headers *h, const struct size *size, __u64 now)
{
	__u32 *to = (void *)h;
	__be16 half = bpf_htons(progress.flow);
	__u64 sum;
	__u32 i;

#pragma unroll
	for (i = 0; i < HEADER_WORDS; i++)
		to[i] = size->header[i];
	h->outer_udp.source = bpf_htons(49152 + ((progress.flow * 2654435761u) >> 18));
	h->ip.saddr |= bpf_htonl(progress.flow);
	sum = (__u16)~h->ip.check + (__u64)half;
	h->ip.check = ~fold(sum);
	h->stamp.flow = bpf_htonl(progress.flow);
	h->stamp.sequence = bpf_cpu_to_be64(progress.sequence);
	h->stamp.sent = note_time ? bpf_cpu_to_be64(now) : 0;
	if (checksum) {
		sum = (__u16)~h->udp.check + (__u64)half + h->stamp.flow +
		      halves(h->stamp.sequence) + halves(h->stamp.sent);
		h->udp.check = ~fold(sum);
		if (!h->udp.check)
			h->udp.check = 0xffff;
	}
}

static __always_inline void advance(__u64 now)
{
	if (now)
		progress.last = now;
	else if (progress.frames % 16 == 0)
		progress.last = bpf_ktime_get_ns();
	if (!progress.frames)
		progress.first = progress.last;
	progress.frames++;
	if (++progress.size >= size_count)
		progress.size = 0;
	if (++progress.flow >= flow_count) {
		progress.flow = 0;
		progress.sequence++;
	}
}

SEC("xdp")
int generator(struct xdp_md *ctx)
{
	__u64 now = interval || note_time ? bpf_ktime_get_ns() : 0;
	__u32 key = progress.size;
	struct size *size;
	void *data, *end;
	int excess;

	if (limit && progress.frames >= limit)
		return XDP_DROP;
	if (!is_due(now))
		return XDP_DROP;
	size = bpf_map_lookup_elem(&sizes, &key);
	if (!size)
		return XDP_ABORTED;
	excess = (long)ctx->data_end - (long)ctx->data - size->length;
	if (excess && bpf_xdp_adjust_tail(ctx, -excess))
		return XDP_ABORTED;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + sizeof(struct headers) > end)
		return XDP_ABORTED;
	write_headers(data, size, now);
	advance(now);
	return bpf_redirect(interface, 0);
}

char _license[] SEC("license") = "GPL";
