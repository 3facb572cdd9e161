/* SPDX-License-Identifier: GPL-2.0-only */
/* The first bytes of every generated UDP payload, big-endian. */
#ifndef LAB_STAMP_H
#define LAB_STAMP_H

#include <linux/types.h>

#define STAMP_MAGIC 0x564d4c42u /* "VMLB" */

struct stamp {
	__be32 magic;
	__be32 flow;
	__be64 sequence;
	/* CLOCK_MONOTONIC in nanoseconds; 0: not noted. */
	__be64 sent;
} __attribute__((packed));

#endif
