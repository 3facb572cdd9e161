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
#define ABI_VERSION 2

/*
 * Limits of the tables. The maps of lists that are replaced while traffic flows
 * have room for two generations (see struct control).
 */
#define MAX_NAT_RULES	      4096
#define MAX_NAT_TARGETS	      16384 /* of all rules together, twice while they are replaced */
#define MAX_RULE_TARGETS      64
#define MAGLEV_SLOTS	      4099 /* a prime, far above MAX_RULE_TARGETS */
#define MAX_ALLOWLIST_ENTRIES 131072
#define MAX_TARGET_VNIS	      4096
#define MAX_VNIS_SEEN	      4096
#define VNI_SLOTS	      1024 /* a power of two */
#define MAX_TRACKED_FRAGMENTS 16384
#define MAX_DEDUP_PACKETS     65536
#define MAX_WORKERS	      64

/*
 * Stages of a packet's way: the first keys of stats_map, by number.
 *   X(NAME, name, description)
 */
#define STAGE_COUNTERS(X)                                                               \
	X(TOTAL, total, "packets that reached the XDP program")                         \
	X(VXLAN, vxlan, "VXLAN packets of an accepted VNI")                             \
	X(INNER, inner, "inner frames past the inner checks and allowlist")             \
	X(NAT_APPLIED, nat_applied, "forwarded frames that were translated")            \
	X(DF_CLEARED, df_cleared, "forwarded frames that lost their DF bit")            \
	X(FORWARDED, forwarded, "frames handed to the egress: queued and redirected")   \
	X(REDIRECTED, redirected, "frames redirected in the kernel, without the ring")  \
	X(ERRORS, errors, "packets dropped because the pipeline could not do its work") \
	X(BYTES, bytes, "bytes of the forwarded frames")

/*
 * Every packet gets one verdict, counted once, at the one exit.
 *   X(NAME, name, CLASS, description)
 * PASS hands the packet to the host stack, FORWARD to the egress; MALFORMED,
 * POLICY and ERROR are drops: by the packet's fault, by configuration, by ours.
 */
#define VERDICTS(X)                                                                              \
	X(PASSED, passed, PASS, "not for this pipeline: handed to the host unchanged")           \
	X(PASSED_VNI, passed_vni, PASS, "foreign VNI handed to the host (VNI_MISMATCH=pass)")    \
	X(QUEUED, queued, FORWARD, "inner frame written to the ring")                            \
	X(OUTER_FRAGMENT, outer_fragment, MALFORMED,                                             \
	  "first fragment of an outer datagram: the inner frame is cut")                         \
	X(OUTER_LENGTH, outer_length, MALFORMED,                                                 \
	  "outer IP or UDP length does not fit the bytes received")                              \
	X(ZERO_LENGTH, zero_length, MALFORMED, "IP length of 0 (BIG TCP), outer or inner")       \
	X(VXLAN_SHORT, vxlan_short, MALFORMED, "UDP payload shorter than a VXLAN header")        \
	X(VXLAN_NO_VNI, vxlan_no_vni, MALFORMED,                                                 \
	  "VXLAN header without the I flag (RFC 7348 section 5)")                                \
	X(GENEVE_MALFORMED, geneve_malformed, MALFORMED,                                         \
	  "GENEVE header of another version, or cut (RFC 8926 section 3.4)")                     \
	X(GENEVE_CRITICAL, geneve_critical, MALFORMED,                                           \
	  "GENEVE header with critical options, of which none is known here")                    \
	X(GENEVE_CONTROL, geneve_control, MALFORMED, "GENEVE control packet (O bit)")            \
	X(GENEVE_NOT_VXLAN, geneve_not_vxlan, MALFORMED, "no VXLAN packet inside GENEVE")        \
	X(VNI_MISMATCH, vni_mismatch, POLICY, "VNI is not in TARGET_VNI")                        \
	X(INNER_SHORT, inner_short, MALFORMED, "inner frame shorter than an Ethernet header")    \
	X(NON_IP, non_ip, POLICY, "inner frame is not IP (NON_IP=drop)")                         \
	X(INNER_MALFORMED, inner_malformed, MALFORMED,                                           \
	  "inner IP header can't be read: version, header length or total length")               \
	X(TRUNCATED, truncated, POLICY, "the mirror cut the packet (TRUNCATED=drop)")            \
	X(NOT_ALLOWED, not_allowed, POLICY, "inner address is not in the allowlist")             \
	X(DUPLICATE, duplicate, POLICY, "second copy of an inner packet within DEDUP_WINDOW_MS") \
	X(FRAGMENT_TINY, fragment_tiny, MALFORMED,                                               \
	  "inner fragment that splits its transport header (RFC 1858, RFC 3128)")                \
	X(UNMATCHED, unmatched, POLICY, "no NAT rule matches (UNMATCHED=drop)")                  \
	X(NEXT_HOP_UNRESOLVED, next_hop_unresolved, ERROR,                                       \
	  "the next hop has no known MAC address, or the target was removed just now")           \
	X(TOO_BIG, too_big, ERROR,                                                               \
	  "frame exceeds the egress interface's MTU and may not be fragmented")                  \
	X(RING_FULL, ring_full, ERROR, "no room in the ring: the injector is too slow")          \
	X(HEADERS_NOT_LINEAR, headers_not_linear, ERROR,                                         \
	  "the driver spread the headers over several buffers")                                  \
	X(INTERNAL, internal, ERROR, "a check that can't fail did: please report it")

/*
 * Facts about forwarded frames that are neither a stage nor a verdict.
 *   X(NAME, name, description)
 */
#define NOTE_COUNTERS(X)                                                                     \
	X(TRUNCATED, truncated_forwarded, "forwarded frames that the mirror had cut")        \
	X(FRAGMENT, fragments_forwarded, "forwarded inner IP fragments")                     \
	X(REPLY, replies_translated, "forwarded frames whose source was translated back")    \
	X(ICMP_ERROR, icmp_errors_translated,                                                \
	  "forwarded ICMP errors about a translated flow, their embedded header translated") \
	X(OVERSIZED, oversized_forwarded, "forwarded packets that the injector fragments")

/*
 * What happened beside the packets' way.
 *   X(NAME, name, description)
 */
#define SIDE_COUNTERS(X)                                                               \
	X(CONNTRACK_CREATED, conntrack_created, "translated flows that began")         \
	X(CONNTRACK_HIT, conntrack_hit, "packets of a translated flow that was known") \
	X(EVENTS_WRITTEN, events_written, "security events handed to the loader")      \
	X(EVENTS_SUPPRESSED, events_suppressed, "security events beyond EVENT_RATE")   \
	X(EVENTS_LOST, events_lost, "security events lost: the loader did not take them")

/*
 * Why a queued frame was not sent. The kernel refused it for good, by errno (OTHER
 * is any other one), or the injector had to give it up.
 *   X(NAME, name, description)
 */
#define SEND_FAILURES(X)                                                                      \
	X(ENOBUFS, enobufs, "egress queue stayed full for TX_RETRY_MS, or no carrier")        \
	X(EAGAIN, eagain, "socket send buffer stayed full for TX_RETRY_MS")                   \
	X(EMSGSIZE, emsgsize, "frame exceeds the egress interface's MTU")                     \
	X(ENETDOWN, enetdown, "egress interface is down")                                     \
	X(ENXIO, enxio, "egress interface is gone")                                           \
	X(OTHER, other, "any other error of the kernel")                                      \
	X(FRAGMENT_TIMEOUT, fragment_timeout,                                                 \
	  "held fragment whose datagram was not complete within FRAGMENT_TIMEOUT")            \
	X(FRAGMENT_NO_ROOM, fragment_no_room,                                                 \
	  "fragment that could not be held: FRAGMENT_BUFFERS are in use")                     \
	X(FRAGMENT_OVERLAP, fragment_overlap,                                                 \
	  "fragment of a datagram whose fragments overlap (RFC 5722)")                        \
	X(FRAGMENT_INVALID, fragment_invalid,                                                 \
	  "fragment whose length or offset can't be right (RFC 791, RFC 8200)")               \
	X(FRAGMENT_DUPLICATE, fragment_duplicate, "second copy of a fragment (REASSEMBLE=1)") \
	X(REASSEMBLED_TOO_BIG, reassembled_too_big,                                           \
	  "fragment of a datagram that exceeds the egress MTU as a whole")

#define VERDICT_ENTRY(NAME, name, class, text) VERDICT_##NAME,
enum verdict { VERDICTS(VERDICT_ENTRY) VERDICT_MAX };
#undef VERDICT_ENTRY

#define STAGE_ENTRY(NAME, name, text) STAGE_##NAME,
enum stage { STAGE_COUNTERS(STAGE_ENTRY) STAGE_MAX };
#undef STAGE_ENTRY

#define NOTE_ENTRY(NAME, name, text) NOTE_##NAME,
enum note { NOTE_COUNTERS(NOTE_ENTRY) NOTE_MAX };
#undef NOTE_ENTRY

#define SIDE_ENTRY(NAME, name, text) SIDE_##NAME,
enum side { SIDE_COUNTERS(SIDE_ENTRY) SIDE_MAX };
#undef SIDE_ENTRY

#define SEND_FAILURE_ENTRY(NAME, name, text) SEND_FAILURE_##NAME,
enum send_failure { SEND_FAILURES(SEND_FAILURE_ENTRY) SEND_FAILURE_MAX };
#undef SEND_FAILURE_ENTRY

/* Keys of stats_map: the stages, then the verdicts, the notes, and what happened beside. */
#define STATS_VERDICT(v) (STAGE_MAX + (v))
#define STATS_NOTE(n)	 (STAGE_MAX + VERDICT_MAX + (n))
#define STATS_SIDE(s)	 (STAGE_MAX + VERDICT_MAX + NOTE_MAX + (s))
#define STATS_MAX	 (STAGE_MAX + VERDICT_MAX + NOTE_MAX + SIDE_MAX)

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
	__u8 geneve;
	__u8 rewrite_l2_all;
	__u8 reassemble;
	__u8 reserved[7];
	__u32 event_rate;	   /* security events a second; 0: none */
	__u64 fragment_timeout_ns; /* how long the ports of a first fragment count */
	__u64 dedup_window_ns;	   /* 0: copies are not looked for */
	__u64 dedup_key[2];	   /* random, so that nobody can make two packets look alike */
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
	__u32 target_serial;	   /* the last nat_target.serial that was given */
	__u32 fragment_timeout_ms; /* for the injector: FRAGMENT_TIMEOUT */
	__u64 conntrack_flushed;   /* entries of conntrack_map that vxlanctl removed */
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

/* Keys of next_hop_map: where untranslated frames go under REWRITE_L2=all. */
#define NEXT_HOP_IPV4 0
#define NEXT_HOP_IPV6 1
#define NEXT_HOP_MAX  2

/* One aligned word, so that it changes at once. */
struct next_hop {
	__u8 mac[6];
	__u16 flags; /* NEXT_HOP_RESOLVED */
};

#define NEXT_HOP_RESOLVED 1 /* mac is known */

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

/*
 * Value of nat_map. A rule with one target names it here and in target_map; address
 * and port are for people who read the map. A rule with several (NAT_FLAG_SEVERAL)
 * has an entry of maglev_map.
 */
struct nat_value {
	__u8 address[16]; /* IPv4 in the first four bytes; 0 with several targets */
	__be16 port;
	__u16 flags;  /* NAT_FLAG_* */
	__u32 target; /* key of target_map, or of maglev_map */
};

#define NAT_FLAG_SEVERAL 1

/*
 * Value of target_map: where packets of one rule go, and the next hop towards it.
 * The serial is another one each time that the entry is given to a target; 0: it is
 * free. So a flow whose target was removed knows.
 */
struct nat_target {
	__u8 address[16]; /* IPv4 in the first four bytes */
	struct next_hop next_hop;
	__be16 port; /* 0 for ICMP */
	__u8 family; /* 4 or 6 */
	__u8 reserved;
	__u32 serial;
};

/* A target of a rule that has several. */
struct weighted_target {
	__u16 target; /* key of target_map */
	__u16 weight; /* share of the new flows; 0: none */
};

/*
 * Value of maglev_map: the targets, and the look-up table that was made of them
 * (Maglev, NSDI 2016 section 3.4). A flow's hash gives the slot.
 */
struct maglev {
	__u32 count; /* of targets; of these at least one has a weight */
	__u32 reserved;
	struct weighted_target targets[MAX_RULE_TARGETS];
	__u16 slots[MAGLEV_SLOTS]; /* keys of target_map */
	__u16 padding;
};

/*
 * Key of conntrack_map: both endpoints of a flow, the lower one first (in any
 * fixed order), so that both directions have one entry. ICMP echo has
 * its identifier as both ports.
 */
struct conntrack_key {
	__u8 low_address[16];
	__u8 high_address[16];
	__be16 low_port;
	__be16 high_port;
	__be32 vni;
	__u8 family;
	__u8 protocol;
	__u8 reserved[2];
};

/* Value of conntrack_map: a translated flow. It counts as long as its target is there. */
struct conntrack_value {
	__u64 created;	     /* CLOCK_MONOTONIC, nanoseconds */
	__u64 seen;	     /* the same, of the last packet, to the tick */
	__u32 target;	     /* key of target_map */
	__u32 serial;	     /* of the target, when the flow got it */
	__u8 server_is_high; /* which endpoint stands for the target */
	__u8 reserved[7];
};

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

/* Value of fragment_map: what only the first fragment tells, and what became of it. */
struct fragment_value {
	__u64 seen; /* CLOCK_MONOTONIC, nanoseconds */
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 translate; /* enum translate */
	__u8 reserved[2];
	__u32 target; /* key of target_map, if it was translated */
	__u32 serial;
};

/*
 * A record of packet_ringbuf: this header, then frame_len bytes of frame, then, at the
 * next multiple of 8 from the record's beginning on, a frame_info if there is one.
 */
struct frame_record {
	__u32 flow_hash; /* equal for all packets of a flow */
	__u16 frame_len; /* bytes */
	__u16 flags;	 /* FRAME_* */
};

#define FRAME_HAS_INFO 1

/* What the injector must know of a frame that it can't just send. */
struct frame_info {
	struct fragment_key key; /* of an inner fragment: the datagram, before translation */
	__u16 flags;		 /* INFO_* */
	__u16 l3_off;		 /* IP header, in the frame */
	__u16 max_ip_len; /* largest IP packet that the egress takes behind this link layer */
	__u16 df_clear_threshold; /* bytes of IPv4 total length, for joined datagrams */
};

#define INFO_FRAGMENT	 1  /* an inner IP fragment */
#define INFO_HOLD	 2  /* a later one that waits for its first: not translated yet */
#define INFO_DESTINATION 4  /* its destination address was translated */
#define INFO_SOURCE	 8  /* its source address was translated */
#define INFO_OVERSIZED	 16 /* an IPv4 packet longer than max_ip_len that may be fragmented */
#define INFO_REASSEMBLE	 32 /* REASSEMBLE=1 */
#define INFO_REWRITTEN	 64 /* its link layer was rewritten */

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
	__u64 taken;	/* records copied out of the ring to be held, over all injectors */
	__u64 lost;	/* of these: an injector held them when it died */
	__u32 pid;
	__u32 reserved;
};

/*
 * An entry of worker_map: the counters of one thread, over all injectors that ever
 * ran. Entries 0 to MAX_WORKERS - 1 are the workers, READER_ENTRY is the reader. The
 * same again from HELD_ENTRIES on, for records that were held outside the ring.
 */
struct worker_stats {
	__u64 sent;   /* records whose frames the kernel took */
	__u64 frames; /* frames that it took for them: more if fragmented, less if reassembled */
	__u64 sent_bytes; /* of these frames */
	__u64 calls;	  /* of sendmmsg */
	__u64 retries;	  /* calls repeated after ENOBUFS or EAGAIN */
	__u64 in_flight;  /* records given to the kernel and not yet counted as sent or failed */
	__u64 failed[SEND_FAILURE_MAX];
	__u64 reserved[6]; /* whole cache lines */
};

#define READER_ENTRY	   MAX_WORKERS
#define HELD_ENTRIES	   (MAX_WORKERS + 1)
#define WORKER_ENTRIES_MAX (2 * HELD_ENTRIES)

/* A record of event_ringbuf: a security event. */
struct event {
	__u64 time; /* CLOCK_MONOTONIC, nanoseconds */
	__u32 verdict;
	__u32 ifindex;
	__u32 vni;	    /* EVENT_NO_VNI: not read */
	__be16 source_port; /* inner; 0: none */
	__be16 destination_port;
	__u8 mirror[16];      /* outer source address: who sent the mirror packet */
	__u8 source[16];      /* inner */
	__u8 destination[16]; /* inner */
	__u8 mirror_family;   /* 4 or 6 */
	__u8 family;	      /* inner; 0: addresses were not read */
	__u8 protocol;	      /* inner */
	__u8 reserved[5];
};

#define EVENT_NO_VNI 0xffffffffu

/* The one entry of event_map: the events of the running second. */
struct event_budget {
	__u64 end; /* of that second, CLOCK_MONOTONIC, nanoseconds */
	__u64 used;
};

_Static_assert(sizeof(struct nat_key) == 32, "nat_key has no hidden padding");
_Static_assert(sizeof(struct nat_target) == 32, "nat_target has no hidden padding");
_Static_assert(sizeof(struct conntrack_key) == 44, "conntrack_key has no hidden padding");
_Static_assert(sizeof(struct conntrack_value) == 32, "conntrack_value has no hidden padding");
_Static_assert(sizeof(struct maglev) % 8 == 0, "maglev has no hidden padding");
_Static_assert(sizeof(struct frame_info) == 56, "frame_info has no hidden padding");
_Static_assert(sizeof(struct event) == 80, "event has no hidden padding");
_Static_assert(MAX_NAT_TARGETS <= 65536, "a target's key fits weighted_target");
_Static_assert(sizeof(struct frame_record) % 8 == 0, "frames start aligned");
_Static_assert(sizeof(struct worker_stats) % 64 == 0, "workers share no cache line");

#endif
