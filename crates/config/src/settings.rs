//! The table of settings. Everything that names, documents, reads or refuses a setting takes it
//! from here.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::choice::{AllowlistMatch, Disposition, RewriteL2, VniMismatch, XdpMode};
use crate::cpu::CpuAffinity;
use crate::error::ConfigError;
use crate::nat::parse_target_address;
use crate::next_hop::NextHopAddresses;
use crate::resolve::{Entries, Values};
use crate::ring_size::RingSize;
use crate::value::{
    InterfaceName, SWITCH, WorkerThreads, absolute_path, milliseconds, number, path, port, seconds,
    switch,
};
use crate::vni::VniSet;

/// The long flag of a key: NAT_IP is `nat-ip`.
const fn kebab<const N: usize>(name: &str) -> [u8; N] {
    let mut flag = [0; N];
    let mut i = 0;
    while i < N {
        let byte = name.as_bytes()[i];
        flag[i] = if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        i += 1;
    }
    flag
}

/// What the table says of one setting.
pub(crate) struct Spec {
    pub(crate) group: &'static str,
    pub(crate) name: &'static str,
    pub(crate) long: &'static str,
    pub(crate) positional_id: &'static str,
    pub(crate) short: Option<char>,
    pub(crate) value_name: &'static str,
    pub(crate) default: Option<&'static str>,
    pub(crate) allowed: &'static str,
    pub(crate) help: &'static str,
}

/// Makes of the table: [`Key`], the [`Spec`] of each key, and [`Settings`] with a field for each.
/// `parse` is `optional(parser)` for a field that is an `Option`, and `required(parser)` for a
/// setting that has a default.
macro_rules! settings {
    ($( $group:literal { $(
        $key:ident, $field:ident: $type:ty {
            name: $name:literal, short: $short:expr, value: $value:literal, default: $default:expr,
            parse: $get:ident($parse:expr), allowed: $allowed:expr,
            help: $help:literal,
        }
    )+ } )+) => {
        /// A setting. Its name is its key in the environment and the `.env` file.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Key { $( $( #[doc = $help] $key, )+ )+ }

        impl Key {
            /// Every key, in the order of the documentation.
            pub const ALL: &[Self] = &[$( $( Self::$key, )+ )+];

            pub(crate) fn spec(self) -> &'static Spec {
                match self { $( $( Self::$key => const {
                    const LONG: [u8; $name.len()] = kebab($name);
                    &Spec {
                        group: $group,
                        name: $name,
                        long: match str::from_utf8(&LONG) {
                            Ok(long) => long,
                            Err(_) => panic!("the name of a key is ASCII"),
                        },
                        positional_id: concat!($name, " as an argument"),
                        short: $short,
                        value_name: $value,
                        default: $default,
                        allowed: $allowed,
                        help: $help,
                    }
                }, )+ )+ }
            }
        }

        /// The value of every setting, validated. A setting that the binary doesn't take (that is
        /// not among the keys given to [`command`](crate::command)) has its default.
        #[derive(Debug, Clone)]
        pub struct Settings {
            $( $( #[doc = $help] pub $field: $type, )+ )+
            pub(crate) entries: Entries,
        }

        impl Settings {
            pub(crate) fn from_values(values: Values) -> Result<Self, ConfigError> {
                Ok(Self {
                    $( $( $field: values.$get(Key::$key, $parse)?, )+ )+
                    entries: values.into_entries(),
                })
            }
        }
    };
}

settings! {
    "Interfaces" {
        Interface, interface: Option<InterfaceName> {
            name: "INTERFACE", short: Some('i'), value: "IFNAME", default: None,
            parse: optional(InterfaceName::parse), allowed: InterfaceName::ALLOWED,
            help: "Ingress interface, where the mirrored packets arrive, for example ens5. The \
                   loader needs it.",
        }
        TargetInterface, target_interface: Option<InterfaceName> {
            name: "TARGET_INTERFACE", short: Some('t'), value: "IFNAME", default: None,
            parse: optional(InterfaceName::parse), allowed: InterfaceName::ALLOWED,
            help: "Egress interface, where the inner frames leave, for example ens6. Must not be \
                   INTERFACE.",
        }
        XdpMode, xdp_mode: XdpMode {
            name: "XDP_MODE", short: None, value: "MODE", default: Some("auto"),
            parse: required(XdpMode::parse), allowed: XdpMode::ALLOWED,
            help: "How the XDP program is attached: in the driver (native), in the network stack \
                   (generic), or native where the driver can and generic elsewhere (auto).",
        }
        PinDir, pin_dir: PathBuf {
            name: "PIN_DIR", short: None, value: "DIR", default: Some("/sys/fs/bpf"),
            parse: required(absolute_path), allowed: "an absolute path",
            help: "Directory on a BPF file system that holds the pinned maps. Another directory \
                   makes another instance.",
        }
    }
    "VXLAN" {
        VxlanPort, vxlan_port: u16 {
            name: "VXLAN_PORT", short: None, value: "PORT", default: Some("4789"),
            parse: required(port), allowed: "1 to 65535",
            help: "UDP destination port of VXLAN packets. Everything else goes to the host.",
        }
        TargetVni, target_vni: VniSet {
            name: "TARGET_VNI", short: None, value: "VNIS", default: Some("any"),
            parse: required(str::parse), allowed: VniSet::ALLOWED,
            help: "VNIs that are accepted. AWS gives a mirror session a random VNI unless its \
                   owner chose one.",
        }
        VniMismatch, vni_mismatch: VniMismatch {
            name: "VNI_MISMATCH", short: None, value: "ACTION", default: Some("drop"),
            parse: required(VniMismatch::parse), allowed: VniMismatch::ALLOWED,
            help: "What becomes of packets with another VNI: drop, or pass to the host for those \
                   who run another VXLAN device on it.",
        }
        Geneve, geneve: bool {
            name: "GENEVE", short: None, value: "SWITCH", default: Some("0"),
            parse: required(switch), allowed: SWITCH,
            help: "Whether VXLAN packets inside GENEVE (UDP port 6081, RFC 8926) are accepted too: \
                   what the target of a Gateway Load Balancer endpoint gets. Without it they go to \
                   the host.",
        }
    }
    "Filter" {
        EnableAllowlist, enable_allowlist: bool {
            name: "ENABLE_ALLOWLIST", short: None, value: "SWITCH", default: Some("0"),
            parse: required(switch), allowed: SWITCH,
            help: "Whether inner packets whose addresses are not on the allowlist are dropped.",
        }
        AllowlistFile, allowlist_file: Option<PathBuf> {
            name: "ALLOWLIST_FILE", short: None, value: "FILE", default: None,
            parse: optional(path), allowed: "a path",
            help: "Allowlist (JSON) that is loaded at the start, for example \
                   examples/allowlist.json. Without it the list is empty until one is loaded.",
        }
        AllowlistMatch, allowlist_match: AllowlistMatch {
            name: "ALLOWLIST_MATCH", short: None, value: "WHICH", default: Some("either"),
            parse: required(AllowlistMatch::parse), allowed: AllowlistMatch::ALLOWED,
            help: "Which address of the inner packet has to be listed.",
        }
        NonIp, non_ip: Disposition {
            name: "NON_IP", short: None, value: "ACTION", default: Some("drop"),
            parse: required(Disposition::parse), allowed: Disposition::ALLOWED,
            help: "What becomes of inner frames that are neither IPv4 nor IPv6.",
        }
        Truncated, truncated: Disposition {
            name: "TRUNCATED", short: None, value: "ACTION", default: Some("forward"),
            parse: required(Disposition::parse), allowed: Disposition::ALLOWED,
            help: "What becomes of inner packets that the mirror cut short: forward leaves them as \
                   they are, lengths and checksums included.",
        }
        DedupWindowMs, dedup_window: Duration {
            name: "DEDUP_WINDOW_MS", short: None, value: "MS", default: Some("0"),
            parse: required(|text| milliseconds(text, 10_000)), allowed: "0 to 10000",
            help: "Milliseconds within which the second copy of an identical inner packet is \
                   dropped, for those who mirror both ends of a flow. Retransmissions pass: they \
                   have another IP identification or come later. 0 turns it off.",
        }
    }
    "NAT" {
        NatIp, nat_ip: Option<IpAddr> {
            name: "NAT_IP", short: None, value: "ADDRESS", default: None,
            parse: optional(parse_target_address),
            allowed: "a unicast IPv4 or IPv6 address, not loopback",
            help: "Destination that packets to SOURCE_PORT get, TCP and UDP, of the address's \
                   family. Needs SOURCE_PORT.",
        }
        NatPort, nat_port: Option<u16> {
            name: "NAT_PORT", short: None, value: "PORT", default: None,
            parse: optional(port), allowed: "1 to 65535",
            help: "Destination port that packets to SOURCE_PORT get. Without it they keep theirs.",
        }
        SourcePort, source_port: Option<u16> {
            name: "SOURCE_PORT", short: None, value: "PORT", default: None,
            parse: optional(port), allowed: "1 to 65535",
            help: "Inner DESTINATION port of the packets that NAT_IP applies to (the name is \
                   historical). Needs NAT_IP.",
        }
        NatRulesFile, nat_rules_file: Option<PathBuf> {
            name: "NAT_RULES_FILE", short: None, value: "FILE", default: None,
            parse: optional(path), allowed: "a path",
            help: "NAT rules (JSON), for example examples/nat-rules.json. They apply beside the \
                   rule that NAT_IP gives.",
        }
        Unmatched, unmatched: Disposition {
            name: "UNMATCHED", short: None, value: "ACTION", default: Some("forward"),
            parse: required(Disposition::parse), allowed: Disposition::ALLOWED,
            help: "What becomes of packets that no NAT rule matches. Forwarded ones keep their \
                   destination: a router behind the egress interface could deliver them to the \
                   live server.",
        }
        ConntrackSize, conntrack_size: u32 {
            name: "CONNTRACK_SIZE", short: None, value: "FLOWS", default: Some("65536"),
            parse: required(|text| number(text, 1024, 4_194_304)), allowed: "1024 to 4194304",
            help: "Number of translated flows that are remembered, some 150 bytes of kernel memory \
                   each, taken at the start. Beyond it the flow unused for longest is forgotten: \
                   its replies then keep their source, and its target is chosen anew.",
        }
    }
    "Fragments" {
        FragmentTimeout, fragment_timeout: Duration {
            name: "FRAGMENT_TIMEOUT", short: None, value: "SECONDS", default: Some("30"),
            parse: required(|text| seconds(text, 0.1..=300.0)),
            allowed: "0.1 to 300, decimals are allowed",
            help: "Seconds for which the fragments of an inner datagram may follow each other. \
                   What is held for a datagram that is not complete by then is dropped \
                   (fragment_timeout).",
        }
        Reassemble, reassemble: bool {
            name: "REASSEMBLE", short: None, value: "SWITCH", default: Some("0"),
            parse: required(switch), allowed: SWITCH,
            help: "Whether fragmented inner datagrams are delivered whole. Without it their \
                   fragments are delivered, later ones translated like the first.",
        }
    }
    "Egress" {
        RewriteL2, rewrite_l2: RewriteL2 {
            name: "REWRITE_L2", short: None, value: "WHICH", default: Some("nat"),
            parse: required(RewriteL2::parse), allowed: RewriteL2::ALLOWED,
            help: "Which frames get the MAC addresses of the egress interface and of their next \
                   hop: the translated ones (nat), or all. Others keep those they were mirrored \
                   with, which a switch or an EC2 subnet may not deliver.",
        }
        NextHop, next_hop: Option<NextHopAddresses> {
            name: "NEXT_HOP", short: None, value: "ADDRESSES", default: None,
            parse: optional(NextHopAddresses::parse), allowed: NextHopAddresses::ALLOWED,
            help: "Device behind the egress interface that untranslated frames are addressed to \
                   under REWRITE_L2=all, for example 192.0.2.9,2001:db8::9. For an IP version that \
                   is not given it is the gateway of the default route out of that interface.",
        }
        DfClearThreshold, df_clear_threshold: u16 {
            name: "DF_CLEAR_THRESHOLD", short: None, value: "BYTES", default: Some("1400"),
            parse: required(|text| number(text, 0, u16::MAX.into())), allowed: "0 to 65535",
            help: "IPv4 packets whose total length in bytes is greater lose their DF bit. 65535 \
                   never clears it.",
        }
        RingBufferSize, ring_buffer_size: RingSize {
            name: "RING_BUFFER_SIZE", short: None, value: "SIZE", default: Some("16M"),
            parse: required(RingSize::parse), allowed: RingSize::ALLOWED,
            help: "Size of the ring buffer between the XDP program and packet-injector.",
        }
        WorkerThreads, worker_threads: WorkerThreads {
            name: "WORKER_THREADS", short: None, value: "COUNT", default: Some("auto"),
            parse: required(WorkerThreads::parse), allowed: "auto, or 1 to 64",
            help: "Number of threads of packet-injector that send.",
        }
        BatchSize, batch_size: usize {
            name: "BATCH_SIZE", short: None, value: "FRAMES", default: Some("64"),
            parse: required(|text| number(text, 1, 1024)), allowed: "1 to 1024",
            help: "Number of frames that packet-injector sends with one system call at most.",
        }
        TxRetryMs, tx_retry: Duration {
            name: "TX_RETRY_MS", short: None, value: "MS", default: Some("100"),
            parse: required(|text| milliseconds(text, 60_000)), allowed: "0 to 60000",
            help: "Milliseconds for which a send that the kernel refuses with ENOBUFS or EAGAIN is \
                   retried before the frame is counted as failed. Behind it, each frame is tried \
                   once until the kernel takes one again.",
        }
        FragmentBuffers, fragment_buffers: usize {
            name: "FRAGMENT_BUFFERS", short: None, value: "COUNT", default: Some("4096"),
            parse: required(|text| number(text, 0, 65_536)), allowed: "0 to 65536",
            help: "Inner fragments that packet-injector holds at most, while it waits for the \
                   first one of their datagram, or for all of them (REASSEMBLE).",
        }
        CpuAffinity, cpu_affinity: CpuAffinity {
            name: "CPU_AFFINITY", short: None, value: "CPUS", default: Some("auto"),
            parse: required(CpuAffinity::parse), allowed: CpuAffinity::ALLOWED,
            help: "CPUs that the threads of packet-injector are pinned to.",
        }
    }
    "Events" {
        AuditLog, audit_log: Option<PathBuf> {
            name: "AUDIT_LOG", short: None, value: "FILE", default: None,
            parse: optional(path), allowed: "a path",
            help: "File that security events (blocked sources, unknown VNIs, malformed packets, \
                   refused fragments) are appended to, one JSON object a line. It is opened again \
                   when it was renamed or removed, so log rotation works. Without it there are no \
                   events, only counters.",
        }
        EventRate, event_rate: u32 {
            name: "EVENT_RATE", short: None, value: "EVENTS", default: Some("100"),
            parse: required(|text| number(text, 1, 100_000)), allowed: "1 to 100000",
            help: "Number of security events a second that each program tells of at most. Those \
                   beyond it are only counted, so that a flood of blocked packets does not slow \
                   the others.",
        }
    }
    "Statistics" {
        StatsInterval, stats_interval: Duration {
            name: "STATS_INTERVAL", short: None, value: "SECONDS", default: Some("1"),
            parse: required(|text| seconds(text, 0.1..=86_400.0)),
            allowed: "0.1 to 86400, decimals are allowed",
            help: "Seconds between two lines of statistics.",
        }
    }
}

impl Key {
    /// The key in the environment and the `.env` file, for example `NAT_IP`.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// The long flag without its dashes, for example `nat-ip`.
    pub fn long(self) -> &'static str {
        self.spec().long
    }

    /// The default as it would be written, if there is one.
    pub fn default_text(self) -> Option<&'static str> {
        self.spec().default
    }

    /// What is allowed, in words.
    pub fn allowed(self) -> &'static str {
        self.spec().allowed
    }

    /// What the setting is for.
    pub fn help(self) -> &'static str {
        self.spec().help
    }

    /// The key with this name, in exactly this spelling.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|key| key.name() == name)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
