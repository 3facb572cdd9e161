/* SPDX-License-Identifier: GPL-2.0-only */
/* The one exit: counts the verdict and what it implies, and turns it into the XDP action. */
#ifndef VXLAN_VERDICT_H
#define VXLAN_VERDICT_H

#include "event.h"
#include "packet.h"

enum verdict_class {
	CLASS_PASS,
	CLASS_FORWARD,
	CLASS_MALFORMED,
	CLASS_POLICY,
	CLASS_ERROR,
};

#define CLASS_OF(NAME, name, class, text) \
	case VERDICT_##NAME:              \
		return CLASS_##class;

static __always_inline enum verdict_class class_of(__u32 verdict)
{
	switch (verdict) {
		VERDICTS(CLASS_OF)
	}
	return CLASS_ERROR;
}

/* What the frame went through, counted when it is sure that the frame goes out. */
static __always_inline void count_forwarded(const struct packet *pkt)
{
	count(STAGE_FORWARDED, 1);
	count(STAGE_BYTES, pkt->inner_end - pkt->inner_off);
	if (!pkt->notes)
		return;
	if (pkt->notes & PACKET_NAT_APPLIED)
		count(STAGE_NAT_APPLIED, 1);
	if (pkt->notes & PACKET_DF_CLEARED)
		count(STAGE_DF_CLEARED, 1);
	for (int note = 0; note < NOTE_MAX; note++)
		if (pkt->notes & (1u << note))
			count(STATS_NOTE(note), 1);
}

/* What a security team wants to hear of: broken packets, and those that were kept out. */
static __always_inline int is_event(__u32 verdict, enum verdict_class class)
{
	return class == CLASS_MALFORMED || verdict == VERDICT_NOT_ALLOWED ||
	       verdict == VERDICT_VNI_MISMATCH;
}

static __always_inline int conclude(struct xdp_md *ctx, struct packet *pkt, __u32 verdict)
{
	enum verdict_class class = class_of(verdict);

	count(STATS_VERDICT(verdict), 1);
	if (config.event_rate && is_event(verdict, class))
		report_event(ctx, pkt, verdict);
	if (class == CLASS_FORWARD)
		count_forwarded(pkt);
	else if (class == CLASS_ERROR)
		count(STAGE_ERRORS, 1);
	return class == CLASS_PASS ? XDP_PASS : XDP_DROP;
}

#endif
