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

/*
 * Equal for all packets of a flow, so that they take one way and keep their order:
 * also for its fragments, once the first of a datagram has been seen.
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

/* Spans up to this size are copied word by word: for them that beats the helper by far. */
#define MAX_WORDWISE_SPAN 128

/* Copies `size` (a constant) bytes of the outer frame from `off` into memory of the record. */
static __always_inline int copy_span(struct xdp_md *ctx, __u32 off, void *to, __u32 size)
{
	__u64 *from = NULL;

	if (size <= MAX_WORDWISE_SPAN)
		from = header_at(ctx, off, size);
	if (!from)
		return bpf_xdp_load_bytes(ctx, off, to, size);
	for (__u32 i = 0; i < size / sizeof(*from); i++)
		((__u64 *)to)[i] = from[i];
	return 0;
}

/*
 * Writes the record: its header and the frame. The verifier wants constant sizes
 * for the memory of a record, so a frame of any length is copied as two spans of
 * the largest power of two that fits, one from its beginning and one up to its
 * end, which may overlap.
 */
static __always_inline int write_spans(struct xdp_md *ctx, const struct packet *pkt,
				       struct bpf_dynptr *record, const struct frame_record *header,
				       __u32 len, __u32 size)
{
	struct frame_record *begin = bpf_dynptr_data(record, 0, sizeof(*begin) + size);
	void *end;

	if (!begin)
		return -1;
	*begin = *header;
	if (copy_span(ctx, pkt->inner_off, begin + 1, size))
		return -1;
	if (len == size)
		return 0;
	end = bpf_dynptr_data(record, sizeof(*begin) + len - size, size);
	return end ? copy_span(ctx, pkt->inner_end - size, end, size) : -1;
}

#define WRITE_AS_SPANS_OF(size) \
	if (len < 2 * (size))   \
		return write_spans(ctx, pkt, record, header, len, size);

static __always_inline int write_record(struct xdp_md *ctx, const struct packet *pkt,
					struct bpf_dynptr *record,
					const struct frame_record *header, __u32 len)
{
	WRITE_AS_SPANS_OF(8) /* a frame has at least the 14 bytes of an Ethernet header */
	WRITE_AS_SPANS_OF(16)
	WRITE_AS_SPANS_OF(32)
	WRITE_AS_SPANS_OF(64)
	WRITE_AS_SPANS_OF(128)
	WRITE_AS_SPANS_OF(256)
	WRITE_AS_SPANS_OF(512)
	WRITE_AS_SPANS_OF(1024)
	WRITE_AS_SPANS_OF(2048)
	WRITE_AS_SPANS_OF(4096)
	WRITE_AS_SPANS_OF(8192)
	WRITE_AS_SPANS_OF(16384)
	WRITE_AS_SPANS_OF(32768)
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
	if (write_record(ctx, pkt, &record, &header, len)) {
		bpf_ringbuf_discard_dynptr(&record, 0);
		return VERDICT_INTERNAL;
	}
	bpf_ringbuf_submit_dynptr(&record, 0);
	return VERDICT_QUEUED;
}

#endif
