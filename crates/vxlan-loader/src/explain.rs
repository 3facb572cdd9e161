//! Refusals of the kernel in words that say what to do.

use std::io;

use dataplane::attach::Mode;

/// A refused attachment.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// The kernel's error number.
    pub errno: i32,
    /// How the program was to run.
    pub mode: Mode,
    /// On which interface.
    pub interface: &'a str,
    /// Its MTU.
    pub mtu: u32,
    /// Its driver, if it can be told.
    pub driver: Option<&'a str>,
}

/// Ethernet's MTU; greater ones may be too great for a driver's XDP.
const USUAL_MTU: u32 = 1500;

/// Why the kernel refuses to attach the program, and what to do.
pub fn attach_refusal(refusal: Refusal<'_>) -> String {
    let Refusal { errno, mode, interface, .. } = refusal;
    let driver = refusal.driver.map_or_else(|| "the driver".into(), |d| format!("driver {d}"));
    let error = io::Error::from_raw_os_error(errno).to_string();
    let error = error.trim_end_matches(&format!(" (os error {errno})"));
    let mode_text = mode.as_str();
    let head = format!("attaching the XDP program to {interface} in {mode_text} mode: {error}");
    let reason = match (errno, mode) {
        (libc::EBUSY | libc::EEXIST, _) => format!(
            "another XDP program is attached to {interface}: find its owner (bpftool net show dev \
             {interface}), or remove it with: ip link set dev {interface} xdp off"
        ),
        (libc::EPERM | libc::EACCES, _) => {
            "root is needed, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON".to_string()
        }
        (libc::ENODEV | libc::ENXIO, _) => format!("{interface} has just gone away"),
        (libc::EOPNOTSUPP, Mode::Native) => format!(
            "{driver} has no native XDP, or none with the interface's present settings (LRO and \
             hardware GRO must be off: ethtool -K {interface} lro off rx-gro-hw off); XDP_MODE=generic \
             works with every driver"
        ),
        (libc::EINVAL | libc::ERANGE | libc::EMSGSIZE, Mode::Native) => {
            refused_settings(refusal, &driver)
        }
        (libc::ENOMEM, Mode::Native) => format!(
            "{driver} lacks memory or queues for XDP: use fewer queues (ethtool -L {interface} \
             combined N), or XDP_MODE=generic"
        ),
        (_, Mode::Native) => "XDP_MODE=generic works with every driver".to_string(),
        (_, Mode::Generic) => "the kernel's log may say more (dmesg)".to_string(),
    };
    format!("{head}: {reason}")
}

/// MTU and number of queues are what drivers refuse XDP for with EINVAL.
fn refused_settings(refusal: Refusal<'_>, driver: &str) -> String {
    let Refusal { interface, mtu, .. } = refusal;
    let queues = format!("ethtool -L {interface} combined N");
    if mtu > USUAL_MTU {
        format!(
            "MTU {mtu} is too large for the XDP of {driver} (ENA in older kernels: at most 3498), \
             or too many queues are in use: lower the MTU (ip link set {interface} mtu 3498), use \
             half of the queues ({queues}), or XDP_MODE=generic"
        )
    } else {
        format!(
            "{driver} refuses XDP with the interface's present settings; often too many queues \
             are in use (ENA: at most half of them, {queues}); or XDP_MODE=generic"
        )
    }
}

/// A program that isn't ours is attached already.
pub fn foreign_program(interface: &str, id: u32, name: &str) -> String {
    format!(
        "INTERFACE {interface} already has another XDP program, {name:?} with ID {id}: stop the \
         program that it belongs to, or remove it with: ip link set dev {interface} xdp off (one \
         that a link holds: bpftool link detach id ID, see bpftool net show dev {interface})"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(errno: i32, mode: Mode, mtu: u32) -> String {
        attach_refusal(Refusal { errno, mode, interface: "ens5", mtu, driver: Some("ena") })
    }

    #[test]
    fn a_foreign_program_comes_with_the_command_that_removes_it() {
        for errno in [libc::EBUSY, libc::EEXIST] {
            for mode in [Mode::Native, Mode::Generic] {
                assert!(text(errno, mode, 9001).contains("ip link set dev ens5 xdp off"));
            }
        }
    }

    #[test]
    fn a_driver_without_xdp_points_at_generic() {
        let text = text(libc::EOPNOTSUPP, Mode::Native, 1500);
        assert!(text.contains("driver ena has no native XDP"), "{text}");
        assert!(text.contains("XDP_MODE=generic"), "{text}");
    }

    #[test]
    fn a_great_mtu_is_named_only_when_it_is_great() {
        for errno in [libc::EINVAL, libc::ERANGE, libc::EMSGSIZE] {
            let large = text(errno, Mode::Native, 9001);
            assert!(large.contains("MTU 9001 is too large"), "{large}");
            assert!(large.contains("ip link set ens5 mtu 3498"), "{large}");
            let usual = text(errno, Mode::Native, 1500);
            assert!(!usual.contains("MTU"), "{usual}");
            assert!(usual.contains("ethtool -L ens5 combined"), "{usual}");
        }
    }

    #[test]
    fn generic_mode_is_not_recommended_to_those_who_use_it() {
        for errno in [libc::EINVAL, libc::ENOMEM, libc::EPERM, libc::EOPNOTSUPP] {
            assert!(!text(errno, Mode::Generic, 9001).contains("XDP_MODE=generic"));
        }
    }

    #[test]
    fn every_refusal_names_interface_mode_and_error() {
        for errno in [libc::EINVAL, libc::ENOMEM, libc::EPERM, libc::EIO] {
            let text = text(errno, Mode::Native, 1500);
            assert!(
                text.starts_with("attaching the XDP program to ens5 in native mode: "),
                "{text}"
            );
        }
    }
}
