use std::fs;

use super::*;

const IPV4: fragment_key = fragment_key {
    source: [198, 51, 100, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    destination: [203, 0, 113, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    id: 1,
    vni: 7,
    protocol: 17,
    family: 4,
    reserved: [0; 6],
};

/// An audit that nobody writes, with room for some events.
fn audit(room: usize, rate: u32) -> (Audit, Receiver<Event>) {
    let (events, waiting) = mpsc::sync_channel(room);
    let rate = Rate { most: rate, begin: None, used: 0 };
    let (path, ended) = (PathBuf::new(), mpsc::channel().1);
    (Audit { path, events, ended, rate, suppressed: 0, crowded_out: 0 }, waiting)
}

#[test]
fn so_many_pass_in_a_second_and_as_many_in_the_next() {
    let mut rate = Rate { most: 3, begin: None, used: 0 };
    let begin = Instant::now();
    let mut passed = |milliseconds: u64| {
        let now = begin + Duration::from_millis(milliseconds);
        (0..5).filter(|_| rate.admits(now)).count()
    };
    assert_eq!([0, 999, 1000, 1999, 5500, 6400].map(&mut passed), [3, 0, 3, 0, 3, 0]);
}

#[test]
fn events_beyond_the_rate_are_counted() {
    let (mut audit, waiting) = audit(10, 2);
    (0..5).for_each(|_| audit.refused(SendFailure::FragmentOverlap, &IPV4));
    assert_eq!((audit.suppressed, audit.crowded_out), (3, 0));
    assert_eq!(waiting.try_iter().count(), 2);
}

#[test]
fn nobody_waits_for_a_disk_that_does_not_write() {
    let (mut audit, waiting) = audit(2, 100);
    (0..5).for_each(|_| audit.refused(SendFailure::FragmentInvalid, &IPV4));
    assert_eq!((audit.suppressed, audit.crowded_out), (0, 3));
    assert_eq!(waiting.try_iter().count(), 2);
    audit.refused(SendFailure::FragmentInvalid, &IPV4);
    assert_eq!((audit.crowded_out, waiting.try_iter().count()), (3, 1));
}

#[test]
fn only_fragments_that_are_wrong_are_events() {
    let (mut audit, waiting) = audit(SendFailure::ALL.len(), 100);
    SendFailure::ALL.iter().for_each(|reason| audit.refused(*reason, &IPV4));
    let told: Vec<_> = waiting.try_iter().map(|event| event.verdict).collect();
    assert_eq!(told, ["fragment_overlap", "fragment_invalid"]);
}

#[test]
fn an_event_has_what_the_key_says() {
    let told = event(SendFailure::FragmentOverlap, &IPV4);
    assert!(told.time.elapsed().unwrap_or_default() < Duration::from_secs(60));
    let expected = Event {
        time: told.time,
        verdict: "fragment_overlap",
        vni: Some(7),
        mirror: None,
        source: Some([198, 51, 100, 7].into()),
        source_port: None,
        destination: Some([203, 0, 113, 9].into()),
        destination_port: None,
        protocol: Some(17.into()),
        interface: None,
    };
    assert_eq!(told, expected);
    let mut ipv6 = fragment_key { vni: 0, protocol: 0, family: 6, ..IPV4 };
    ipv6.source[15] = 1;
    let told = event(SendFailure::FragmentInvalid, &ipv6);
    let expected = Event {
        time: told.time,
        verdict: "fragment_invalid",
        vni: None,
        source: Some("c633:6407::1".parse().unwrap()),
        destination: Some("cb00:7109::".parse().unwrap()),
        protocol: None,
        ..expected
    };
    assert_eq!(told, expected);
}

#[test]
fn what_was_told_is_written_at_the_end() {
    let path = std::env::temp_dir().join(format!("injector-audit-{}", std::process::id()));
    let mut audit = Audit::start(AuditLog::open(&path).unwrap(), 100).unwrap();
    (0..20).for_each(|_| audit.refused(SendFailure::FragmentOverlap, &IPV4));
    audit.finish();
    let text = fs::read_to_string(&path);
    fs::remove_file(&path).unwrap();
    let text = text.unwrap();
    assert_eq!(text.lines().count(), 20);
    assert!(text.lines().all(|line| line.contains(r#""verdict":"fragment_overlap","vni":7,"#)));
}
