//! What the kernel must be able to do, asked of the kernel itself before loading.

use anyhow::{Result, bail};
use libbpf_rs::ProgramType;

/// A helper function that the program calls, and the first kernel that has it.
struct Feature {
    helper: libbpf_sys::bpf_func_id,
    name: &'static str,
    since: &'static str,
}

const NEEDED: [Feature; 5] = [
    Feature {
        helper: libbpf_sys::BPF_FUNC_xdp_get_buff_len,
        name: "bpf_xdp_get_buff_len (multi-buffer XDP)",
        since: "5.18",
    },
    Feature {
        helper: libbpf_sys::BPF_FUNC_xdp_load_bytes,
        name: "bpf_xdp_load_bytes (multi-buffer XDP)",
        since: "5.18",
    },
    Feature {
        helper: libbpf_sys::BPF_FUNC_ringbuf_reserve_dynptr,
        name: "bpf_ringbuf_reserve_dynptr (ring records of variable size)",
        since: "5.19",
    },
    Feature { helper: libbpf_sys::BPF_FUNC_dynptr_write, name: "bpf_dynptr_write", since: "5.19" },
    Feature { helper: libbpf_sys::BPF_FUNC_dynptr_data, name: "bpf_dynptr_data", since: "5.19" },
];

/// Checks that this kernel has everything that the program needs.
///
/// # Errors
/// Names the first missing feature and the kernel that has it, or the missing privilege.
pub fn check() -> Result<()> {
    // Asked without privileges, the kernel refuses every program, which libbpf takes for "the
    // helper is there".
    if !ProgramType::Xdp.is_supported().unwrap_or(false) {
        bail!(
            "the kernel refuses XDP programs to this process: BPF needs root, or the capabilities \
             CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
        );
    }
    check_with(|helper| ProgramType::Xdp.is_helper_supported(helper).map_err(|e| e.to_string()))
}

fn check_with(
    is_supported: impl Fn(libbpf_sys::bpf_func_id) -> Result<bool, String>,
) -> Result<()> {
    for Feature { helper, name, since } in NEEDED {
        match is_supported(helper) {
            Ok(true) => {}
            Ok(false) => bail!(
                "this kernel has no {name}: Linux {since} or later is needed \
                 (uname -r says which one runs)"
            ),
            Err(error) => bail!(
                "asking the kernel for {name}: {error}; BPF needs root, or the capabilities \
                 CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
            ),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_is_refused_by_the_feature_that_it_lacks() {
        let before_5_19 = |helper| Ok(helper != libbpf_sys::BPF_FUNC_ringbuf_reserve_dynptr);
        let error = check_with(before_5_19).unwrap_err().to_string();
        assert!(error.contains("bpf_ringbuf_reserve_dynptr"), "{error}");
        assert!(error.contains("Linux 5.19"), "{error}");
    }

    #[test]
    fn missing_privileges_are_named() {
        let error = check_with(|_| Err("Operation not permitted".into())).unwrap_err().to_string();
        assert!(error.contains("CAP_BPF"), "{error}");
    }
}
