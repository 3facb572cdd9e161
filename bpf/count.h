/* SPDX-License-Identifier: GPL-2.0-only */
/* Counters of stats_map. */
#ifndef VXLAN_COUNT_H
#define VXLAN_COUNT_H

#include "abi.h"

static __always_inline void count(__u32 key, __u64 amount)
{
	__u64 *counter = bpf_map_lookup_elem(&stats_map, &key);

	if (counter)
		*counter += amount;
}

#endif
