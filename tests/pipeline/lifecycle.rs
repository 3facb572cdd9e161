//! Starting, stopping, dying and taking over, with packets under way.

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::packet::{Inner, Mirror};
use lab::{Capture, FastGenerator, INGRESS, Lab, MIRROR, Pipeline, TAP, send_frames};
use nix::sys::signal::Signal;

use crate::captures::{TRANSPARENT, compare};
use crate::ledger::closes;

const PATIENCE: Duration = Duration::from_secs(10);

fn numbered(numbers: std::ops::Range<u32>) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let inner: Vec<_> = numbers
        .map(|n| Inner::new([198, 51, 100, 1], [203, 0, 113, 2]).payload(n.to_be_bytes()).build())
        .collect();
    let packets = inner.iter().map(|frame| Mirror::default().wrap(frame)).collect();
    (inner, packets)
}

#[test]
fn an_injector_goes_on_where_the_last_one_stopped() -> Result<()> {
    let lab = Lab::new()?;
    let mut pipeline = Pipeline::start(&lab, &TRANSPARENT, &[])?;
    let tap = Capture::start(&lab, TAP.namespace, TAP.name)?;
    let (expected, packets) = numbered(0..3000);
    send_frames(&lab, MIRROR.namespace, MIRROR.name, &packets[..1000])?;
    pipeline.settle(1000)?;
    pipeline.injector.signal(Signal::SIGTERM)?;
    ensure!(pipeline.injector.wait(PATIENCE)?.success());
    send_frames(&lab, MIRROR.namespace, MIRROR.name, &packets[1000..2000])?;
    let waiting = pipeline.stats()?;
    ensure!(waiting["in_ring"] == 1000, "{waiting:#}");
    closes(&waiting)?;
    pipeline.restart_injector(&["--worker-threads", "2"])?;
    pipeline.settle(2000)?;
    pipeline.injector.signal(Signal::SIGKILL)?;
    pipeline.injector.wait(PATIENCE)?;
    send_frames(&lab, MIRROR.namespace, MIRROR.name, &packets[2000..])?;
    pipeline.restart_injector(&[])?;
    let stats = pipeline.settle(3000)?;
    closes(&stats)?;
    tap.wait_for(3000, PATIENCE)?;
    compare(&expected, &tap.stop()?)?;
    pipeline.stop()?;
    Ok(())
}

#[test]
fn a_killed_injector_loses_nothing_and_the_ledger_names_what_went_twice() -> Result<()> {
    let lab = Lab::new()?;
    let mut pipeline = Pipeline::start(&lab, &TRANSPARENT, &[])?;
    let tap = Capture::start(&lab, TAP.namespace, TAP.name)?;
    let (expected, packets) = numbered(0..60_000);
    let mut sent = 0;
    for part in packets.chunks(10_000) {
        sent += part.len() as u64;
        std::thread::scope(|scope| -> Result<()> {
            let sender = scope.spawn(|| send_frames(&lab, MIRROR.namespace, MIRROR.name, part));
            std::thread::sleep(Duration::from_millis(5));
            pipeline.injector.signal(Signal::SIGKILL)?;
            pipeline.injector.wait(PATIENCE)?;
            if sent % 20_000 == 0 {
                // Nobody drains the ring: the ledger closes all the same, once traffic is at rest.
                while !sender.is_finished() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                closes(&pipeline.stats()?)?;
            }
            pipeline.restart_injector(&[
                "--worker-threads",
                if sent % 20_000 == 0 { "1" } else { "2" },
            ])?;
            sender.join().expect("the sender")?;
            Ok(())
        })?;
        closes(&pipeline.settle(sent)?)?;
    }
    let mut arrived: Vec<Vec<u8>> = tap.stop()?.into_iter().map(|frame| frame.bytes).collect();
    let all = arrived.len() as u64;
    arrived.sort();
    arrived.dedup();
    let twice = all - arrived.len() as u64;
    let resent = pipeline.stats()?["resent"].as_u64().unwrap_or_default();
    eprintln!("{twice} frames arrived twice, {resent} resent");
    ensure!(twice <= resent, "{twice} frames arrived twice, but only {resent} were resent");
    let mut wanted = expected;
    wanted.sort();
    ensure!(arrived == wanted, "{} of {} frames arrived", arrived.len(), wanted.len());
    pipeline.stop()?;
    Ok(())
}

#[test]
fn the_data_path_outlives_the_loader_and_a_new_one_takes_over() -> Result<()> {
    let lab = Lab::new()?;
    let mut pipeline = Pipeline::start(&lab, &TRANSPARENT, &[])?;
    let tap = Capture::start(&lab, TAP.namespace, TAP.name)?;
    let (expected, packets) = numbered(0..3000);
    send_frames(&lab, MIRROR.namespace, MIRROR.name, &packets[..1000])?;
    pipeline.loader.signal(Signal::SIGKILL)?;
    pipeline.loader.wait(PATIENCE)?;
    send_frames(&lab, MIRROR.namespace, MIRROR.name, &packets[1000..2000])?;
    pipeline.settle(2000)?;
    pipeline.restart_loader(&TRANSPARENT)?;
    send_frames(&lab, MIRROR.namespace, MIRROR.name, &packets[2000..])?;
    closes(&pipeline.settle(3000)?)?;
    tap.wait_for(3000, PATIENCE)?;
    compare(&expected, &tap.stop()?)?;
    pipeline.stop()?;
    Ok(())
}

#[test]
fn a_clean_stop_leaves_no_trace_and_loses_nothing() -> Result<()> {
    let lab = Lab::new()?;
    let pipeline = Pipeline::start(&lab, &TRANSPARENT, &["-s"])?;
    let tap = Capture::start(&lab, TAP.namespace, TAP.name)?;
    let (expected, packets) = numbered(0..20_000);
    send_frames(&lab, MIRROR.namespace, MIRROR.name, &packets)?;
    let (_, injector) = pipeline.stop()?;
    tap.wait_for(20_000, PATIENCE)?;
    compare(&expected, &tap.stop()?)?;
    ensure!(injector.contains("sent          20000 frames"), "{injector}");
    let left: Vec<_> = std::fs::read_dir(lab.pin_dir())?.collect();
    ensure!(left.is_empty(), "pins are left: {left:?}");
    let link = lab.run(INGRESS.namespace, &["ip", "link", "show", "dev", INGRESS.name])?;
    ensure!(!link.contains("xdp"), "{link}");
    Ok(())
}

#[test]
fn an_injector_ends_under_load_and_leaves_the_rest_in_the_ring() -> Result<()> {
    let lab = Lab::new()?;
    let mut pipeline = Pipeline::start(&lab, &TRANSPARENT, &["--worker-threads", "2"])?;
    let generator = FastGenerator { duration: Duration::from_secs(3), ..FastGenerator::default() };
    std::thread::scope(|scope| -> Result<()> {
        // More than any injector can send: there is always something to read.
        let load = scope.spawn(|| generator.run(&lab));
        std::thread::sleep(Duration::from_millis(500));
        pipeline.injector.signal(Signal::SIGTERM)?;
        ensure!(pipeline.injector.wait(Duration::from_secs(2))?.success());
        ensure!(!load.is_finished(), "the load ended before the injector");
        load.join().expect("the generator")?;
        Ok(())
    })?;
    let waiting = pipeline.stats()?;
    ensure!(waiting["in_ring"].as_u64() > Some(0), "{waiting:#}");
    closes(&waiting)?;
    pipeline.restart_injector(&["--worker-threads", "2"])?;
    closes(&pipeline.settle(0)?)?;
    pipeline.stop()?;
    Ok(())
}

#[test]
fn a_stuck_egress_is_a_named_loss_and_holds_up_no_stop() -> Result<()> {
    let lab = Lab::new()?;
    let pipeline = Pipeline::start(&lab, &TRANSPARENT, &[])?;
    lab.set_link_down(TAP.namespace, TAP.name)?; // ens6 has no carrier
    let (_, packets) = numbered(0..5000);
    send_frames(&lab, MIRROR.namespace, MIRROR.name, &packets)?;
    let stats = pipeline.settle(5000)?;
    closes(&stats)?;
    ensure!(stats["send_failed"] == 5000, "{stats:#}");
    lab.set_link_up(TAP.namespace, TAP.name)?;
    let tap = Capture::start(&lab, TAP.namespace, TAP.name)?;
    send_frames(&lab, MIRROR.namespace, MIRROR.name, &packets[..100])?;
    closes(&pipeline.settle(5100)?)?;
    ensure!(tap.wait_for(100, PATIENCE)?.len() >= 100);
    pipeline.stop()?;
    Ok(())
}
