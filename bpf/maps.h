/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Every map. The loader pins each as PIN_DIR/vxlan_<name>; sizes that depend on
 * configuration (the ring's) are set by it before loading.
 */
#ifndef VXLAN_MAPS_H
#define VXLAN_MAPS_H

#include "abi.h"

/* Counters, by enum stage, then verdict, note, side. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STATS_MAX);
	__type(key, __u32);
	__type(value, __u64);
} stats_map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct control);
} control_map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, INTERFACE_MAX);
	__type(key, __u32);
	__type(value, struct interface);
} interface_map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2 * MAX_ALLOWLIST_ENTRIES);
	__type(key, struct allowlist_key);
	__type(value, __u32);
} ip_allowlist SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2 * MAX_ALLOWLIST_ENTRIES);
	__type(key, struct allowlist_key_v6);
	__type(value, __u32);
} ip_allowlist_v6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2 * MAX_NAT_RULES + 1); /* before 6.13 replacing one takes room */
	__type(key, struct nat_key);
	__type(value, struct nat_value);
} nat_map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_NAT_TARGETS);
	__type(key, __u32);
	__type(value, struct nat_target);
} target_map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2 * MAX_NAT_RULES);
	__type(key, __u32);
	__type(value, struct maglev);
} maglev_map SEC(".maps");

/* Its size is CONNTRACK_SIZE. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct conntrack_key);
	__type(value, struct conntrack_value);
} conntrack_map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, NEXT_HOP_MAX);
	__type(key, __u32);
	__type(value, struct next_hop);
} next_hop_map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2 * MAX_TARGET_VNIS);
	__type(key, struct vni_key);
	__type(value, __u32);
} vni_map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VNI_SLOTS);
	__type(key, __u32);
	__type(value, struct vni_slot);
} vni_slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	__uint(max_entries, MAX_VNIS_SEEN);
	__type(key, __u32);
	__type(value, struct vni_count);
} vni_seen SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_TRACKED_FRAGMENTS);
	__type(key, struct fragment_key);
	__type(value, struct fragment_value);
} fragment_map SEC(".maps");

/* When an inner packet of this hash came first: CLOCK_MONOTONIC, nanoseconds. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_DEDUP_PACKETS);
	__type(key, __u64);
	__type(value, __u64);
} dedup_map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} event_ringbuf SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct event_budget);
} event_map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 * 1024 * 1024);
} packet_ringbuf SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct injector_state);
} injector_map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, WORKER_ENTRIES_MAX);
	__type(key, __u32);
	__type(value, struct worker_stats);
} worker_map SEC(".maps");

#endif
