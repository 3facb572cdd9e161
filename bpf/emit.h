/* SPDX-License-Identifier: GPL-2.0-only */
/* The inner frame leaves into the ring: a record takes exactly what its frame needs. */
#ifndef VXLAN_EMIT_H
#define VXLAN_EMIT_H

#include "fragment.h"
#include "hash.h"
#include "rewrite.h"

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

/* Writes into the record what the injector must know of its frame. */
static __always_inline int write_info(struct packet *pkt, const struct interface *egress,
				      struct bpf_dynptr *record, __u32 off)
{
	struct frame_info *info = bpf_dynptr_data(record, off, sizeof(*info));

	if (!info)
		return -1;
	__builtin_memset(info, 0, sizeof(*info)); /* the record was another one before */
	fragment_key(&info->key, pkt);
	info->flags = pkt->info;
	info->l3_off = pkt->l3_off - pkt->inner_off;
	info->max_ip_len = max_ip_len(pkt, egress);
	info->df_clear_threshold = config.df_clear_threshold;
	return 0;
}

static __always_inline int emit_to_ring(struct xdp_md *ctx, struct packet *pkt,
					const struct interface *egress)
{
	__u32 len = pkt->inner_end - pkt->inner_off;
	struct frame_record header = {
		.flow_hash = flow_hash(pkt),
		.frame_len = len,
	};
	__u32 size = sizeof(header) + len;
	struct bpf_dynptr record;

	if (pkt->info & (INFO_FRAGMENT | INFO_OVERSIZED)) {
		header.flags = FRAME_HAS_INFO;
		size = (size + 7) / 8 * 8 + sizeof(struct frame_info);
	}
	if (bpf_ringbuf_reserve_dynptr(&packet_ringbuf, size, 0, &record)) {
		bpf_ringbuf_discard_dynptr(&record, 0);
		return VERDICT_RING_FULL;
	}
	if (write_record(ctx, pkt, &record, &header, len) ||
	    (header.flags && write_info(pkt, egress, &record, size - sizeof(struct frame_info)))) {
		bpf_ringbuf_discard_dynptr(&record, 0);
		return VERDICT_INTERNAL;
	}
	bpf_ringbuf_submit_dynptr(&record, 0);
	return VERDICT_QUEUED;
}

#endif
