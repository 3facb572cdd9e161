use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use super::*;

/// A directory that is removed with the value.
struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("audit-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An event that can be told from others by its VNI.
fn event(vni: u32) -> Event {
    Event {
        time: SystemTime::UNIX_EPOCH + Duration::from_secs(1),
        verdict: "fragment_overlap",
        vni: Some(vni),
        mirror: None,
        source: Some([192, 0, 2, 1].into()),
        source_port: None,
        destination: Some([192, 0, 2, 2].into()),
        destination_port: None,
        protocol: Some(17.into()),
        interface: None,
    }
}

/// The VNIs in a log, in order. A line that is no JSON is `None`.
fn vnis(text: &str) -> Vec<Option<u64>> {
    let vni = |line| serde_json::from_str::<serde_json::Value>(line).ok()?["vni"].as_u64();
    text.lines().map(vni).collect()
}

fn vnis_in(path: &Path) -> Vec<Option<u64>> {
    vnis(&fs::read_to_string(path).unwrap())
}

fn refused(path: &Path) -> String {
    AuditLog::open(path).unwrap_err().to_string()
}

#[test]
fn events_are_lines_behind_those_that_are_there() {
    let directory = TempDir::new("lines");
    let path = directory.file("log");
    let mut first = AuditLog::open(&path).unwrap();
    assert!(first.append(&[event(1), event(2)]).is_none());
    let mut second = AuditLog::open(&path).unwrap();
    assert!(second.append(&[event(3)]).is_none());
    assert!(first.append(&[event(4)]).is_none());
    assert!(first.append(&[]).is_none());
    assert_eq!(vnis_in(&path), [Some(1), Some(2), Some(3), Some(4)]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0);
    let line = fs::read_to_string(&path).unwrap().lines().next().unwrap().to_owned();
    assert_eq!(
        line,
        r#"{"time":"1970-01-01T00:00:01.000000Z","verdict":"fragment_overlap","vni":1,"#.to_owned()
            + r#""mirror":null,"source":"192.0.2.1","source_port":null,"#
            + r#""destination":"192.0.2.2","destination_port":null,"protocol":"udp","#
            + r#""interface":null}"#
    );
}

#[test]
fn a_renamed_or_removed_file_is_left_alone() {
    let directory = TempDir::new("rotation");
    let (path, old) = (directory.file("log"), directory.file("log.1"));
    let mut log = AuditLog::open(&path).unwrap();
    assert!(log.append(&[event(1)]).is_none());
    fs::rename(&path, &old).unwrap();
    assert!(log.append(&[event(2)]).is_none());
    fs::rename(&path, &old).unwrap();
    fs::write(&path, "").unwrap(); // as logrotate's `create` does
    assert!(log.append(&[event(3)]).is_none());
    assert_eq!((vnis_in(&old), vnis_in(&path)), (vec![Some(2)], vec![Some(3)]));
    fs::remove_file(&path).unwrap();
    assert!(log.append(&[event(4)]).is_none());
    assert_eq!(vnis_in(&path), [Some(4)]);
}

#[test]
fn a_full_disk_is_told_once_and_what_is_lost_is_counted() {
    let mut log = AuditLog::open(Path::new("/dev/full")).unwrap();
    let notice = log.append(&[event(1), event(2)]).unwrap().to_string();
    assert!(notice.starts_with("AUDIT_LOG /dev/full: No space left"), "{notice}");
    assert!(notice.contains("events are lost"), "{notice}");
    assert!(log.append(&[event(3)]).is_none());
    assert_eq!(log.lost(), 3);
}

#[test]
fn when_it_works_again_the_number_of_lost_events_is_told() {
    let directory = TempDir::new("again");
    let parent = directory.file("logs");
    let path = parent.join("log");
    fs::create_dir(&parent).unwrap();
    let mut log = AuditLog::open(&path).unwrap();
    fs::remove_dir_all(&parent).unwrap();
    let notice = log.append(&[event(1)]).unwrap();
    assert!(matches!(notice, Notice::Failing { .. }), "{notice}");
    assert!(log.append(&[event(2), event(3)]).is_none());
    fs::create_dir(&parent).unwrap();
    let notice = log.append(&[event(4)]).unwrap().to_string();
    assert!(notice.ends_with("is written again, 3 events were lost"), "{notice}");
    assert!(log.append(&[event(5)]).is_none());
    assert_eq!((log.lost(), vnis_in(&path)), (0, vec![Some(4), Some(5)]));
}

#[test]
fn a_line_that_was_cut_does_not_spoil_the_next() {
    let directory = TempDir::new("cut");
    let path = directory.file("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(refused(&path).contains("a pipe that nobody reads"));
    let mut reader =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    let mut log = AuditLog::open(&path).unwrap();
    // More than a pipe holds.
    let events: Vec<Event> = (0..1000).map(event).collect();
    assert!(matches!(log.append(&events), Some(Notice::Failing { .. })));
    let mut text = Vec::new();
    let error = reader.read_to_end(&mut text).unwrap_err(); // no end while there is a writer
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    let whole = 1000 - log.lost() as usize;
    assert!(matches!(log.append(&[event(5000)]), Some(Notice::Working { .. })));
    drop(log);
    reader.read_to_end(&mut text).unwrap();
    let mut expected: Vec<_> = (0..whole as u64).map(Some).collect();
    expected.extend([None, Some(5000)]);
    assert_eq!(vnis(&String::from_utf8(text).unwrap()), expected);
}

#[test]
fn a_line_that_another_process_left_unfinished_stays_alone() {
    let directory = TempDir::new("unfinished");
    let (path, other) = (directory.file("log"), directory.file("other"));
    fs::write(&path, "{\"vni\":1}\n{\"vni\":2").unwrap();
    let mut log = AuditLog::open(&path).unwrap();
    assert!(log.append(&[event(3)]).is_none());
    assert_eq!(vnis_in(&path), [Some(1), None, Some(3)]);
    // The same where the path leads to another file later.
    fs::write(&other, "{\"vni\"").unwrap();
    fs::rename(&other, &path).unwrap();
    assert!(log.append(&[event(4)]).is_none());
    assert!(log.append(&[event(5)]).is_none());
    assert_eq!(vnis_in(&path), [None, Some(4), Some(5)]);
}

#[test]
fn a_refusal_names_key_path_reason_and_what_to_do() {
    let directory = TempDir::new("refusal");
    let link = directory.file("link");
    symlink(directory.file("elsewhere"), &link).unwrap();
    for (path, words) in [
        (link.as_path(), "a symbolic link, which is not followed"),
        (directory.0.as_path(), "directory"),
        (&directory.file("no/log"), "make the directory"),
    ] {
        let text = refused(path);
        assert!(text.starts_with(&format!("AUDIT_LOG {}: ", path.display())), "{text}");
        assert!(text.contains(words), "{text}");
    }
    assert!(!directory.file("elsewhere").exists());
}

#[test]
fn a_link_in_the_place_of_the_file_is_not_followed_later_either() {
    let directory = TempDir::new("swap");
    let (path, elsewhere) = (directory.file("log"), directory.file("elsewhere"));
    let mut log = AuditLog::open(&path).unwrap();
    fs::write(&elsewhere, "mine").unwrap();
    fs::remove_file(&path).unwrap();
    symlink(&elsewhere, &path).unwrap();
    assert!(matches!(log.append(&[event(1)]), Some(Notice::Failing { .. })));
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "mine");
}
