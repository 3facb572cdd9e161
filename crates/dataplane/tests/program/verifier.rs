//! The program stays far from the verifier's limits, with nothing and with everything turned on.

use dataplane::abi::program_config;
use dataplane::verifier::{everything_on, verify};

use crate::rig::skipped;

#[test]
fn the_verifier_has_a_wide_margin() {
    if !nix::unistd::geteuid().is_root() {
        return skipped("loading BPF programs needs root");
    }
    for config in [program_config::default(), everything_on()] {
        let verification = verify(config).unwrap();
        println!("{verification:?}");
        assert!(verification.processed * 4 < verification.limit, "{verification:?}");
        assert!(verification.instructions > 1000 && verification.states > 0);
    }
}
