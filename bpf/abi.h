/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Everything that the XDP program and userspace share: counters, verdicts, map
 * keys and values, the ring record. Rust gets the structs from the object's BTF
 * and the lists through the C preprocessor (crates/dataplane/build.rs), so that
 * nothing here has a second definition.
 *
 * A change of any struct or list that reaches a pinned map needs a new
 * ABI_VERSION: a loader refuses to take over pins of another one.
 */
#ifndef VXLAN_ABI_H
#define VXLAN_ABI_H

#define ABI_MAGIC   0x56584c4e /* "VXLN" */
#define ABI_VERSION 1

/*
 * Limits of the tables. The maps of lists that are replaced while traffic flows
 * have room for two generations (see struct control).
 */
#define MAX_NAT_RULES	      4096
#define MAX_ALLOWLIST_ENTRIES 131072
#define MAX_TARGET_VNIS	      4096
#define MAX_VNIS_SEEN	      4096
#define VNI_SLOTS	      1024 /* a power of two */
#define MAX_TRACKED_FRAGMENTS 16384
#define MAX_WORKERS	      64

/*
 * Stages of a packet's way: the first keys of stats_map, by number.
 *   X(NAME, name, description)
 */
#define STAGE_COUNTERS(X)                                                                \
	X(TOTAL, total, "packets that reached the XDP program")                          \
	X(VXLAN, vxlan, "VXLAN packets of an accepted VNI")                              \
	X(INNER, inner, "inner frames past the inner checks and allowlist")              \
	X(NAT_APPLIED, nat_applied, "forwarded frames whose destination was translated") \
	X(DF_CLEARED, df_cleared, "forwarded frames that lost their DF bit")             \
	X(FORWARDED, forwarded, "frames handed to the egress: queued and redirected")    \
	X(REDIRECTED, redirected, "frames redirected in the kernel, without the ring")   \
	X(ERRORS, errors, "packets dropped because the pipeline could not do its work")  \
	X(BYTES, bytes, "bytes of the forwarded frames")

/*
 * Every packet gets one verdict, counted once, at the one exit.
 *   X(NAME, name, CLASS, description)
 * PASS hands the packet to the host stack, FORWARD to the egress; MALFORMED,
 * POLICY and ERROR are drops: by the packet's fault, by configuration, by ours.
 */
#define VERDICTS(X)                                                                           \
	X(PASSED, passed, PASS, "not for this pipeline: handed to the host unchanged")        \
	X(PASSED_VNI, passed_vni, PASS, "foreign VNI handed to the host (VNI_MISMATCH=pass)") \
	X(QUEUED, queued, FORWARD, "inner frame written to the ring")                         \
	X(OUTER_FRAGMENT, outer_fragment, MALFORMED,                                          \
	  "first fragment of an outer datagram: the inner frame is cut")                      \
	X(OUTER_LENGTH, outer_length, MALFORMED,                                              \
	  "outer IP or UDP length does not fit the bytes received")                           \
	X(ZERO_LENGTH, zero_length, MALFORMED, "IP length of 0 (BIG TCP), outer or inner")    \
	X(VXLAN_SHORT, vxlan_short, MALFORMED, "UDP payload shorter than a VXLAN header")     \
	X(VXLAN_NO_VNI, vxlan_no_vni, MALFORMED,                                              \
	  "VXLAN header without the I flag (RFC 7348 section 5)")                             \
	X(VNI_MISMATCH, vni_mismatch, POLICY, "VNI is not in TARGET_VNI")                     \
	X(INNER_SHORT, inner_short, MALFORMED, "inner frame shorter than an Ethernet header") \
	X(NON_IP, non_ip, POLICY, "inner frame is not IP (NON_IP=drop)")                      \
	X(INNER_MALFORMED, inner_malformed, MALFORMED,                                        \
	  "inner IP header can't be read: version, header length or total length")            \
	X(TRUNCATED, truncated, POLICY, "the mirror cut the packet (TRUNCATED=drop)")         \
	X(NOT_ALLOWED, not_allowed, POLICY, "inner address is not in the allowlist")          \
	X(FRAGMENT_UNTRACKED, fragment_untracked, ERROR,                                      \
	  "later inner fragment whose first one was not seen: no port to match NAT rules by") \
	X(UNMATCHED, unmatched, POLICY, "no NAT rule matches (UNMATCHED=drop)")               \
	X(NEXT_HOP_UNRESOLVED, next_hop_unresolved, ERROR,                                    \
	  "the NAT target's next hop has no known MAC address")                               \
	X(TOO_BIG, too_big, ERROR, "frame exceeds the egress interface's MTU")                \
	X(RING_FULL, ring_full, ERROR, "no room in the ring: the injector is too slow")       \
	X(HEADERS_NOT_LINEAR, headers_not_linear, ERROR,                                      \
	  "the driver spread the headers over several buffers")                               \
	X(INTERNAL, internal, ERROR, "a check that can't fail did: please report it")

/*
 * Facts about forwarded frames that are neither a stage nor a verdict.
 *   X(NAME, name, description)
 */
#define NOTE_COUNTERS(X)                                                              \
	X(TRUNCATED, truncated_forwarded, "forwarded frames that the mirror had cut") \
	X(FRAGMENT, fragments_forwarded, "forwarded inner IP fragments")

/*
 * Why the kernel refused a frame for good, by errno; OTHER is any other one.
 *   X(NAME, name, description)
 */
#define SEND_FAILURES(X)                                                               \
	X(ENOBUFS, enobufs, "egress queue stayed full for TX_RETRY_MS, or no carrier") \
	X(EAGAIN, eagain, "socket send buffer stayed full for TX_RETRY_MS")            \
	X(EMSGSIZE, emsgsize, "frame exceeds the egress interface's MTU")              \
	X(ENETDOWN, enetdown, "egress interface is down")                              \
	X(ENXIO, enxio, "egress interface is gone")                                    \
	X(OTHER, other, "any other error of the kernel")

#define VERDICT_ENTRY(NAME, name, class, text) VERDICT_##NAME,
enum verdict { VERDICTS(VERDICT_ENTRY) VERDICT_MAX };
#undef VERDICT_ENTRY

#define STAGE_ENTRY(NAME, name, text) STAGE_##NAME,
enum stage { STAGE_COUNTERS(STAGE_ENTRY) STAGE_MAX };
#undef STAGE_ENTRY

#define NOTE_ENTRY(NAME, name, text) NOTE_##NAME,
enum note { NOTE_COUNTERS(NOTE_ENTRY) NOTE_MAX };
#undef NOTE_ENTRY

#define SEND_FAILURE_ENTRY(NAME, name, text) SEND_FAILURE_##NAME,
enum send_failure { SEND_FAILURES(SEND_FAILURE_ENTRY) SEND_FAILURE_MAX };
#undef SEND_FAILURE_ENTRY

/* Keys of stats_map: the stages, then the verdicts, then the notes. */
#define STATS_VERDICT(v) (STAGE_MAX + (v))
#define STATS_NOTE(n)	 (STAGE_MAX + VERDICT_MAX + (n))
#define STATS_MAX	 (STAGE_MAX + VERDICT_MAX + NOTE_MAX)

/* Which inner addresses must be listed (ALLOWLIST_MATCH). */
#define ALLOWLIST_MATCH_EITHER 0
#define ALLOWLIST_MATCH_SRC    1
#define ALLOWLIST_MATCH_DST    2
#define ALLOWLIST_MATCH_BOTH   3

/*
 * What a program is loaded with (read-only data). A change needs a new program,
 * which the loader puts in place atomically through the pinned link.
 */
struct config {
	__be16 vxlan_port;
	__u16 df_clear_threshold; /* bytes of IPv4 total length; longer packets lose DF */
	__u8 vni_mismatch_pass;
	__u8 allowlist_enabled;
	__u8 allowlist_match; /* ALLOWLIST_MATCH_* */
	__u8 unmatched_drop;
	__u8 non_ip_forward;
	__u8 truncated_drop;
	__u8 reserved[2];
};

/*
 * The one entry of control_map: what userspace changes while traffic flows. Lists
 * (allowlist, NAT rules, VNIs) are replaced without a gap: their keys hold a
 * generation, a new list is written under the next one, and one aligned store
 * here makes it the one that counts.
 */
struct control {
	__u32 magic;   /* ABI_MAGIC */
	__u32 version; /* ABI_VERSION */
	__u32 allowlist_generation;
	__u32 vni_active;	/* CONTROL_VNI_ANY, or the generation in vni_map */
	__u64 nat_active;	/* generation << 32 | bitmap of NAT_SHAPE_* */
	__u32 refresh_requests; /* userspace added NAT rules: the loader resolves next hops */
	__u32 loader_pid;
};

#define CONTROL_VNI_ANY 0xffffffffu

/* Keys of interface_map. */
#define INTERFACE_INGRESS 0
#define INTERFACE_EGRESS  1
#define INTERFACE_MAX	  2

struct interface {
	__u32 ifindex;
	__u32 mtu; /* bytes from the IP header on */
	__u8 mac[6];
	__u8 reserved[2];
};

/* Key of ip_allowlist: longest-prefix match behind the generation. */
struct allowlist_key {
	__u32 prefixlen; /* 32 + length of the prefix */
	__u32 generation;
	__be32 address;
};

/* Key of ip_allowlist_v6. */
struct allowlist_key_v6 {
	__u32 prefixlen; /* 32 + length of the prefix */
	__u32 generation;
	__u8 address[16];
};

/* Key of vni_map, the accepted VNIs. */
struct vni_key {
	__u32 generation;
	__u32 vni;
};

/* Value of vni_seen, per CPU: VNIs that valid VXLAN packets carried, accepted or not. */
struct vni_count {
	__u64 packets;
	__u64 bytes; /* of the inner frames */
};

/*
 * Value of vni_slots, per CPU, by the lower bits of the VNI: the counts of the
 * first VNI that came along. Others with the same bits are counted in vni_seen,
 * which costs some 30 ns more.
 */
struct vni_slot {
	__u32 vni;
	__u32 taken;
	struct vni_count count;
};

/*
 * Key of nat_map: longest-prefix match on the inner destination address behind
 * what else a rule matches. Rules are tried from the most to the least specific
 * shape, so a rule with a VNI goes before one without, then one with a protocol
 * before one without, then the longest prefix wins.
 */
struct nat_key {
	__u32 prefixlen; /* NAT_KEY_FIXED_BITS + length of the prefix */
	__u8 generation;
	__u8 family;   /* 4 or 6 */
	__u8 protocol; /* IPPROTO_TCP, IPPROTO_UDP, or 0: both */
	__u8 reserved;
	__be32 vni;  /* or NAT_ANY_VNI */
	__be16 port; /* inner destination port */
	__u8 address[16];
	__u8 padding[2];
};

#define NAT_ANY_VNI	   0xffffffffu
#define NAT_KEY_FIXED_BITS 80

/*
 * Which kinds of rule exist; only these are looked up, in this order. IPv6 rules
 * have the bits behind those of IPv4 rules.
 */
#define NAT_SHAPE_VNI_PROTOCOL 0
#define NAT_SHAPE_VNI	       1
#define NAT_SHAPE_PROTOCOL     2
#define NAT_SHAPE_PLAIN	       3
#define NAT_SHAPE_MAX	       4

/* Value of nat_map: the target, and the MAC address of the next hop towards it. */
struct nat_value {
	__u8 address[16]; /* IPv4 in the first four bytes */
	__be16 port;
	__u16 flags; /* NAT_FLAG_* */
	__u8 mac[6];
	__u8 reserved[6];
};

#define NAT_FLAG_RESOLVED 1 /* mac is known */

/*
 * Key of fragment_map: what all fragments of an inner datagram share, and nothing
 * else: the protocol is part of it for IPv4 (RFC 791), not for IPv6 (RFC 8200 4.5).
 */
struct fragment_key {
	__u8 source[16];
	__u8 destination[16];
	__u32 id;
	__u32 vni;
	__u8 protocol;
	__u8 family;
	__u8 reserved[6];
};

/* Value of fragment_map: what only the first fragment tells. */
struct fragment_value {
	__u64 seen; /* CLOCK_MONOTONIC, nanoseconds */
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 reserved[3];
};

/* A record of packet_ringbuf: this header, then frame_len bytes of frame. */
struct frame_record {
	__u32 flow_hash; /* equal for all packets of a flow */
	__u16 frame_len; /* bytes */
	__u16 reserved;
};

/* The one entry of injector_map: what a restarted injector must know. */
struct injector_state {
	/*
	 * Records released, as of two consumer positions: the one that equals the
	 * ring's position counts, so a crash between the two stores is harmless.
	 */
	__u64 position[2];
	__u64 released[2];
	__u64 resent;	/* records sent again because an injector died before releasing them */
	__u64 in_doubt; /* of these: it died while sending them, so they left once or twice */
	__u32 pid;
	__u32 reserved;
};

/* An entry of worker_map: the counters of one worker, over all injectors that ever ran. */
struct worker_stats {
	__u64 sent;	  /* frames that the kernel took */
	__u64 sent_bytes; /* of these */
	__u64 calls;	  /* of sendmmsg */
	__u64 retries;	  /* calls repeated after ENOBUFS or EAGAIN */
	__u64 in_flight;  /* frames given to the kernel and not yet counted as sent or failed */
	__u64 failed[SEND_FAILURE_MAX];
	__u64 reserved[5]; /* whole cache lines */
};

_Static_assert(sizeof(struct nat_key) == 32, "nat_key has no hidden padding");
_Static_assert(sizeof(struct frame_record) % 8 == 0, "frames start aligned");
_Static_assert(sizeof(struct worker_stats) % 64 == 0, "workers share no cache line");

#endif
