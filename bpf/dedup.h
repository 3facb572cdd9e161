/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * De-duplication (DEDUP_WINDOW_MS), for users who mirror both ends of a flow: a packet
 * is a copy if everything from its IP header on is the same, but for what routers on
 * the way between the two mirrors change: TTL or hop limit, and the header checksum.
 * Neither link layer nor VNI count.
 *
 * Packets are compared by a keyed hash, SipHash-1-3 (Aumasson and Bernstein, 2012), so
 * that nobody can make a packet that hides another one.
 */
#ifndef VXLAN_DEDUP_H
#define VXLAN_DEDUP_H

#include "packet.h"

#define DEDUP_CHUNK 64

struct packet_hash {
	struct xdp_md *ctx;
	__u32 off;
	__u32 end;
	__u64 v0, v1, v2, v3;
};

static __always_inline __u64 rotate_left(__u64 word, int bits)
{
	return word << bits | word >> (64 - bits);
}

static __always_inline void sip_round(struct packet_hash *state)
{
	state->v0 += state->v1;
	state->v1 = rotate_left(state->v1, 13) ^ state->v0;
	state->v0 = rotate_left(state->v0, 32);
	state->v2 += state->v3;
	state->v3 = rotate_left(state->v3, 16) ^ state->v2;
	state->v0 += state->v3;
	state->v3 = rotate_left(state->v3, 21) ^ state->v0;
	state->v2 += state->v1;
	state->v1 = rotate_left(state->v1, 17) ^ state->v2;
	state->v2 = rotate_left(state->v2, 32);
}

static __always_inline void sip_begin(struct packet_hash *state)
{
	state->v0 = config.dedup_key[0] ^ 0x736f6d6570736575ULL;
	state->v1 = config.dedup_key[1] ^ 0x646f72616e646f6dULL;
	state->v2 = config.dedup_key[0] ^ 0x6c7967656e657261ULL;
	state->v3 = config.dedup_key[1] ^ 0x7465646279746573ULL;
}

static __always_inline void sip_word(struct packet_hash *state, __u64 word)
{
	state->v3 ^= word;
	sip_round(state);
	state->v0 ^= word;
}

/* `length`: bytes of all words. */
static __always_inline __u64 sip_end(struct packet_hash *state, __u64 length)
{
	sip_word(state, length << 56);
	state->v2 ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(state);
	return state->v0 ^ state->v1 ^ state->v2 ^ state->v3;
}

/* Called by bpf_loop() for each chunk; the last one is filled up with zeros. */
static long hash_chunk(__u64 index, struct packet_hash *state)
{
	__u64 chunk[DEDUP_CHUNK / 8] = {};
	__u32 size = state->end - state->off;

	if (state->off >= state->end)
		return 1;
	if (size > DEDUP_CHUNK)
		size = DEDUP_CHUNK;
	barrier_var(size);
	if (!size || size > DEDUP_CHUNK || bpf_xdp_load_bytes(state->ctx, state->off, chunk, size))
		return 1;
	for (int i = 0; i < DEDUP_CHUNK / 8; i++)
		sip_word(state, chunk[i]);
	state->off += DEDUP_CHUNK;
	return 0;
}

/* The IP header without what routers change. */
static __always_inline int hash_ip_header(struct packet *pkt, struct packet_hash *state)
{
	__u8 header[40] = {};
	__u64 word;

	if (pkt->family == 4) {
		if (bpf_xdp_load_bytes(state->ctx, pkt->l3_off, header, sizeof(struct iphdr)))
			return -1;
		header[8] = 0;		     /* TTL */
		header[10] = header[11] = 0; /* checksum */
		state->off = pkt->l3_off + sizeof(struct iphdr);
	} else {
		if (bpf_xdp_load_bytes(state->ctx, pkt->l3_off, header, sizeof(struct ipv6hdr)))
			return -1;
		header[7] = 0; /* hop limit */
		state->off = pkt->l3_off + sizeof(struct ipv6hdr);
	}
	for (int i = 0; i < 5; i++) {
		__builtin_memcpy(&word, header + 8 * i, 8);
		sip_word(state, word);
	}
	return 0;
}

/*
 * The hash of 40 bytes of IP header, of the rest in chunks, and of how long the packet
 * is; 0 if it can't be read.
 */
static __always_inline __u64 hash_packet(struct xdp_md *ctx, struct packet *pkt)
{
	__u32 begin;
	struct packet_hash state = {
		.ctx = ctx,
		.end = pkt->l3_off + pkt->ip_len,
	};

	if (state.end > pkt->inner_end)
		state.end = pkt->inner_end;
	sip_begin(&state);
	if (hash_ip_header(pkt, &state))
		return 0;
	begin = state.off;
	bpf_loop(0xffff / DEDUP_CHUNK + 1, hash_chunk, &state, 0);
	sip_word(&state, state.end - pkt->l3_off);
	return sip_end(&state, 40 + (state.off - begin) + 8);
}

/* A function of its own, so that the verifier proves it once. */
__noinline int is_duplicate(struct xdp_md *ctx, struct packet *pkt)
{
	__u64 hash, now, *seen, before;

	if (!pkt)
		return 0;
	hash = hash_packet(ctx, pkt);
	now = bpf_ktime_get_ns();
	if (!hash || !bpf_map_update_elem(&dedup_map, &hash, &now, BPF_NOEXIST))
		return 0;
	seen = bpf_map_lookup_elem(&dedup_map, &hash);
	if (!seen)
		return 0;
	before = *(volatile __u64 *)seen;
	/* Another CPU's clock reading may be later than ours. */
	if ((__s64)(now - before) < (__s64)config.dedup_window_ns)
		return 1;
	/* The window is over. Of two CPUs that see that, one has the first packet of the next. */
	return __sync_val_compare_and_swap(seen, before, now) != before;
}

static __always_inline int check_duplicate(struct xdp_md *ctx, struct packet *pkt)
{
	if (!config.dedup_window_ns || !pkt->family || !is_duplicate(ctx, pkt))
		return CONTINUE;
	return VERDICT_DUPLICATE;
}

#endif
