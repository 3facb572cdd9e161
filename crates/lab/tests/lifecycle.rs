//! A lab comes and goes without a trace.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use lab::{EGRESS, INGRESS, Lab, Namespace, Options, TAP};
use nix::sys::signal::Signal;

const SECOND: Duration = Duration::from_secs(1);

fn inodes(lab: &Lab) -> Vec<u64> {
    let inode = |namespace| fs::metadata(lab.namespace_path(namespace)).unwrap().ino();
    Namespace::ALL.map(inode).to_vec()
}

/// Whether a thread is in the namespace, or something holds it open or mounted.
fn is_alive(inode: u64) -> bool {
    let name = PathBuf::from(format!("net:[{inode}]"));
    let refers = |path: PathBuf| fs::read_link(path).is_ok_and(|target| target == name);
    let children = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten();
    let mounted = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounted.contains(&format!("net:[{inode}]"))
        || children("/proc".into()).any(|process| {
            let process = process.path();
            children(process.join("fd")).any(|fd| refers(fd.path()))
                || children(process.join("task")).any(|task| refers(task.path().join("ns/net")))
        })
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + 5 * SECOND;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(5));
    }
}

fn is_process(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

#[test]
fn a_dropped_lab_leaves_nothing() {
    let lab = Lab::new().unwrap();
    let (inodes, pins) = (inodes(&lab), lab.pin_dir().to_owned());
    fs::create_dir(pins.join("below")).unwrap();
    assert!(inodes.iter().all(|&inode| is_alive(inode)));
    // A daemon that leaves its process group.
    lab.run(Namespace::Target, &["sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 &"]).unwrap();
    drop(lab);
    wait_until("the namespaces are still there", || !inodes.iter().any(|&i| is_alive(i)));
    assert!(!pins.exists());
}

/// Not a test: what the next test kills.
#[test]
#[ignore = "run by a_killed_lab_leaves_nothing"]
fn hold_a_lab() {
    let lab = Lab::new().unwrap();
    let child = lab.spawn(Namespace::Pipeline, shell("exec sleep 1000")).unwrap();
    let inodes: Vec<_> = inodes(&lab).iter().map(u64::to_string).collect();
    let text = format!("{} {} {}", lab.pin_dir().display(), child.id(), inodes.join(" "));
    let file = std::env::var("LAB_TEST_FILE").unwrap();
    fs::write(format!("{file}.new"), text).unwrap();
    fs::rename(format!("{file}.new"), file).unwrap();
    sleep(1000 * SECOND);
}

#[test]
fn a_killed_lab_leaves_nothing() {
    let file = std::env::temp_dir().join(format!("lab-test-{}", std::process::id()));
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "hold_a_lab"])
        .env("LAB_TEST_FILE", &file)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + 60 * SECOND;
    while !file.exists() && Instant::now() < deadline {
        sleep(Duration::from_millis(5));
    }
    let text = fs::read_to_string(&file);
    holder.kill().unwrap();
    holder.wait().unwrap();
    let text = text.expect("the other process has no lab");
    fs::remove_file(&file).unwrap();
    let [pins, child, inodes @ ..] = &text.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{text}")
    };
    let inodes: Vec<u64> = inodes.iter().map(|inode| inode.parse().unwrap()).collect();
    let child = child.parse().unwrap();
    wait_until("its process still runs", || !is_process(child));
    wait_until("the namespaces are still there", || !inodes.iter().any(|&i| is_alive(i)));
    // The pins are the one thing that the kernel keeps; the next lab removes them.
    let lab = Lab::new().unwrap();
    assert!(!Path::new(pins).exists());
    assert!(lab.pin_dir().exists());
}

#[test]
fn labs_wait_for_each_other() {
    let first = Lab::new().unwrap();
    let (made, is_made) = mpsc::channel();
    scope(|scope| {
        scope.spawn(move || {
            let second = Lab::new().unwrap();
            made.send(()).unwrap();
            drop(second);
        });
        assert!(is_made.recv_timeout(SECOND / 2).is_err(), "two labs at a time");
        drop(first);
        is_made.recv_timeout(60 * SECOND).expect("the second lab never came");
    });
}

#[test]
fn processes_are_watched_and_ended() {
    let lab = Lab::new().unwrap();
    let script = "trap 'echo stopped; exit 3' TERM; echo ready; echo oops >&2; \
                  while :; do sleep 0.01; done";
    let mut process = lab.spawn(Namespace::Pipeline, shell(script)).unwrap();
    assert_eq!(process.wait_for_line("read", 5 * SECOND).unwrap(), "ready");
    assert_eq!(process.wait_for_line("oo", 5 * SECOND).unwrap(), "oops");
    assert!(process.is_running());
    assert!(process.wait(SECOND / 50).is_err());
    process.signal(Signal::SIGTERM).unwrap();
    assert_eq!(process.wait(5 * SECOND).unwrap().code(), Some(3));
    assert_eq!((process.stdout(), process.stderr()), ("ready\nstopped\n".into(), "oops\n".into()));
    let error = process.wait_for_line("never", SECOND).unwrap_err().to_string();
    assert!(error.contains("without \"never\"") && error.contains("stopped"), "{error}");

    let process = lab.spawn(Namespace::Pipeline, shell("exec sleep 1000")).unwrap();
    let pid = process.id();
    drop(process);
    assert!(!is_process(pid));
}

#[test]
fn a_failed_command_is_an_error_that_quotes_it() {
    let lab = Lab::new().unwrap();
    let error = lab.run(Namespace::Source, &["ip", "link", "show", "dev", "ens5"]).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("ip link show dev ens5") && text.contains("does not exist"), "{text}");
    let error = lab.run(Namespace::Source, &["/no/such/program"]).unwrap_err();
    assert!(format!("{error:#}").contains("/no/such/program"), "{error:#}");
}

#[test]
fn interfaces_are_as_asked_for() {
    let lab = Lab::with(Options { mtu: 3000, queues: 2 }).unwrap();
    for port in [lab::MIRROR, INGRESS, EGRESS, TAP] {
        assert_eq!(lab.mac(port.namespace, port.name).unwrap(), port.mac);
        assert_eq!(lab.index(port.namespace, port.name).unwrap(), port.index);
        let link = lab.run(port.namespace, &["ip", "-d", "link", "show", port.name]).unwrap();
        assert!(link.contains("mtu 3000") && link.contains("numrxqueues 2"), "{link}");
        assert!(link.contains("state UP"), "{link}");
    }
    lab.set_link_down(Namespace::Pipeline, "ens5").unwrap();
    lab.set_link_up(Namespace::Pipeline, "ens5").unwrap();
    lab.delete_link(Namespace::Pipeline, "ens6").unwrap();
    assert!(lab.mac(Namespace::Target, "tap0").is_err());
    lab.restore_egress(Options::default()).unwrap();
    assert_eq!(lab.mac(Namespace::Target, "tap0").unwrap(), TAP.mac);
}

/// Traffic may run in one thread while another stops and starts the pipeline.
#[test]
fn a_lab_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Lab>();
}
