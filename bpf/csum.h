/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Incremental update of Internet checksums, RFC 1624 equation 3:
 * HC' = ~(~HC + ~m + m'). Words that do not change are skipped (erratum 4782), so
 * that a translation to the same address leaves the checksum as it is. A checksum
 * that was wrong stays wrong by as much. All words in network byte order.
 */
#ifndef VXLAN_CSUM_H
#define VXLAN_CSUM_H

#include "abi.h"

static __always_inline __u32 csum_begin(__sum16 check)
{
	return (__u16)~check;
}

/* Without a branch: the verifier would follow each side, for every word of an IPv6 address. */
static __always_inline __u32 csum_replace16(__u32 sum, __u16 from, __u16 to)
{
	__u32 same = from ^ to;

	same = (same - 1) >> 31; /* 1 or 0 */
	barrier_var(same);
	return sum + (((__u16)~from + (__u32)to) & (same - 1));
}

/* `words` 16-bit words, at any alignment. */
static __always_inline __u32 csum_replace(__u32 sum, const void *from, const void *to, int words)
{
	for (int i = 0; i < words; i++) {
		__u16 old, new;

		__builtin_memcpy(&old, from + 2 * i, 2);
		__builtin_memcpy(&new, to + 2 * i, 2);
		sum = csum_replace16(sum, old, new);
	}
	return sum;
}

static __always_inline __sum16 csum_end(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__sum16)~sum;
}

#endif
