/* SPDX-License-Identifier: GPL-2.0-only */
/* The inner frame leaves into the ring: a record takes exactly what its frame needs. */
#ifndef VXLAN_EMIT_H
#define VXLAN_EMIT_H

#include "packet.h"

static __always_inline __u32 mix(__u32 hash, __u32 word)
{
	hash ^= word;
	hash *= 0x9e3779b1; /* 2^32 / golden ratio */
	return hash ^ (hash >> 15);
}

/* Equal for all packets of a flow, all fragments included: they take one way and keep their order.
 */
static __always_inline __u32 flow_hash(const struct packet *pkt)
{
	__u32 word, hash = mix(pkt->vni, pkt->protocol);
	int words = pkt->family == 6 ? 4 : 1;

	for (int i = 0; i < 4; i++) {
		if (i >= words)
			break;
		__builtin_memcpy(&word, pkt->source + 4 * i, 4);
		hash = mix(hash, word);
		__builtin_memcpy(&word, pkt->destination + 4 * i, 4);
		hash = mix(hash, word);
	}
	return mix(hash, (__u32)pkt->source_port << 16 | pkt->destination_port);
}

/*
 * Copies `size` (a constant) bytes of the frame to the same place of the record.
 * The verifier wants constant sizes for the memory of a record, so a frame of any
 * length is copied as two spans of the largest power of two that fits, one from
 * its beginning and one up to its end, which may overlap.
 */
static __always_inline int copy_span(struct xdp_md *ctx, struct packet *pkt,
				     struct bpf_dynptr *record, __u32 off, __u32 size)
{
	void *to = bpf_dynptr_data(record, sizeof(struct frame_record) + off, size);

	return to ? bpf_xdp_load_bytes(ctx, pkt->inner_off + off, to, size) : -1;
}

#define COPY_AS_SPANS_OF(size)                                                              \
	if (len < 2 * (size)) {                                                             \
		if (copy_span(ctx, pkt, record, 0, size))                                   \
			return -1;                                                          \
		return len == (size) ? 0 : copy_span(ctx, pkt, record, len - (size), size); \
	}

static __always_inline int copy_frame(struct xdp_md *ctx, struct packet *pkt,
				      struct bpf_dynptr *record, __u32 len)
{
	COPY_AS_SPANS_OF(8) /* a frame has at least the 14 bytes of an Ethernet header */
	COPY_AS_SPANS_OF(16)
	COPY_AS_SPANS_OF(32)
	COPY_AS_SPANS_OF(64)
	COPY_AS_SPANS_OF(128)
	COPY_AS_SPANS_OF(256)
	COPY_AS_SPANS_OF(512)
	COPY_AS_SPANS_OF(1024)
	COPY_AS_SPANS_OF(2048)
	COPY_AS_SPANS_OF(4096)
	COPY_AS_SPANS_OF(8192)
	COPY_AS_SPANS_OF(16384)
	COPY_AS_SPANS_OF(32768)
	return -1;
}

static __always_inline int emit_to_ring(struct xdp_md *ctx, struct packet *pkt)
{
	__u32 len = pkt->inner_end - pkt->inner_off;
	struct frame_record header = {
		.flow_hash = flow_hash(pkt),
		.frame_len = len,
	};
	struct bpf_dynptr record;

	if (bpf_ringbuf_reserve_dynptr(&packet_ringbuf, sizeof(header) + len, 0, &record)) {
		bpf_ringbuf_discard_dynptr(&record, 0);
		return VERDICT_RING_FULL;
	}
	if (bpf_dynptr_write(&record, 0, &header, sizeof(header), 0) ||
	    copy_frame(ctx, pkt, &record, len)) {
		bpf_ringbuf_discard_dynptr(&record, 0);
		return VERDICT_INTERNAL;
	}
	bpf_ringbuf_submit_dynptr(&record, 0);
	return VERDICT_QUEUED;
}

#endif
