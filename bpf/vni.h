/* SPDX-License-Identifier: GPL-2.0-only */
/* The VNI: counted for discovery, then checked against the accepted set. */
#ifndef VXLAN_VNI_H
#define VXLAN_VNI_H

#include "packet.h"

/* This CPU's slot for the VNI, or NULL if another VNI has it. */
static __always_inline struct vni_count *vni_slot(__u32 vni)
{
	__u32 index = vni & (VNI_SLOTS - 1);
	struct vni_slot *slot = bpf_map_lookup_elem(&vni_slots, &index);

	if (!slot)
		return NULL;
	if (!slot->taken) {
		slot->vni = vni;
		slot->taken = 1;
	}
	return slot->vni == vni ? &slot->count : NULL;
}

static __always_inline void count_vni(struct packet *pkt)
{
	struct vni_count *count = vni_slot(pkt->vni);
	__u32 bytes = pkt->inner_end - pkt->inner_off;

	if (!count)
		count = bpf_map_lookup_elem(&vni_seen, &pkt->vni);
	if (count) {
		count->packets++;
		count->bytes += bytes;
	} else {
		struct vni_count first = {
			.packets = 1,
			.bytes = bytes,
		};
		bpf_map_update_elem(&vni_seen, &pkt->vni, &first, BPF_NOEXIST);
	}
}

static __always_inline int check_vni(struct packet *pkt, const struct control *control)
{
	struct vni_key key = {
		.generation = control->vni_active,
		.vni = pkt->vni,
	};

	count_vni(pkt);
	if (key.generation == CONTROL_VNI_ANY || bpf_map_lookup_elem(&vni_map, &key))
		return CONTINUE;
	return config.vni_mismatch_pass ? VERDICT_PASSED_VNI : VERDICT_VNI_MISMATCH;
}

#endif
