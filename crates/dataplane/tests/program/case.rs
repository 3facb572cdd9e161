//! A row of a table: a packet, and everything that must become of it.

use dataplane::abi::{Note, Stage, Verdict, VerdictClass, frame_info};
use dataplane::pipeline::TestRun;
use dataplane::stats::Counters;

use crate::frame::mirror;
use crate::rig::Rig;

/// What must become of a packet.
#[derive(Clone, Debug)]
pub struct Outcome {
    verdict: Verdict,
    frame: Option<Vec<u8>>,
    translated: bool,
    df_cleared: bool,
    notes: Vec<Note>,
    info: u16,
}

pub struct Case {
    name: String,
    packet: Vec<u8>,
    outcome: Outcome,
}

pub fn case(name: impl Into<String>, packet: Vec<u8>, outcome: Outcome) -> Case {
    Case { name: name.into(), packet, outcome }
}

/// The plainest mirror packet with this inner frame, which leaves as it is.
pub fn unchanged(name: impl Into<String>, inner: Vec<u8>) -> Case {
    case(name, mirror(&inner), out(inner))
}

pub fn passed() -> Outcome {
    verdict(Verdict::Passed)
}

/// Every verdict that queues no frame.
pub fn verdict(verdict: Verdict) -> Outcome {
    let [translated, df_cleared] = [false; 2];
    Outcome { verdict, frame: None, translated, df_cleared, notes: Vec::new(), info: 0 }
}

/// This very frame leaves.
pub fn out(frame: impl Into<Vec<u8>>) -> Outcome {
    Outcome { frame: Some(frame.into()), ..verdict(Verdict::Queued) }
}

impl Outcome {
    /// By a NAT rule.
    pub fn nat(self) -> Self {
        Self { translated: true, ..self }
    }
    pub fn df_cleared(self) -> Self {
        Self { df_cleared: true, ..self }
    }
    /// The mirror had cut the packet.
    pub fn truncated(self) -> Self {
        self.noted(Note::Truncated)
    }
    /// An inner IP fragment.
    pub fn fragment(self) -> Self {
        self.noted(Note::Fragment)
    }
    pub fn noted(mut self, note: Note) -> Self {
        self.notes.push(note);
        self
    }
    /// What the injector is told: `INFO_*`.
    pub fn info(self, flags: u32) -> Self {
        Self { info: flags as u16, ..self }
    }
}

/// Runs every case, then fails with all that went wrong.
pub fn check(rig: &Rig, cases: Vec<Case>) {
    let mut complaints = Vec::new();
    let count = cases.len();
    let mut before = rig.counters();
    for case in cases {
        let run = rig.run(&case.packet);
        let records = rig.drain_records();
        let after = rig.counters();
        let mut wrong = ledger(&before, &after);
        wrong.extend(case.outcome.compare(&case.packet, &run, &records, &before, &after));
        if !wrong.is_empty() {
            complaints.push(format!("{}:\n    {}", case.name, wrong.join("\n    ")));
        }
        before = after;
    }
    let wrong = complaints.len();
    assert!(wrong == 0, "{wrong} of {count} cases:\n{}", complaints.join("\n"));
    println!("{count} cases");
}

/// Whatever the packet: one packet, one verdict.
pub fn ledger(before: &Counters, after: &Counters) -> Vec<String> {
    let total = after.stage(Stage::Total) - before.stage(Stage::Total);
    let sum: u64 = Verdict::ALL.iter().map(|v| after.verdict(*v) - before.verdict(*v)).sum();
    let mut wrong = Vec::new();
    if (total, sum) != (1, 1) {
        wrong.push(format!("total moved by {total}, the verdicts by {sum}, both should by 1"));
    }
    wrong
}

/// The verdict that was counted.
pub fn counted(before: &Counters, after: &Counters) -> Option<Verdict> {
    Verdict::ALL.into_iter().find(|v| after.verdict(*v) > before.verdict(*v))
}

impl Outcome {
    fn compare(
        &self,
        packet: &[u8],
        run: &TestRun,
        records: &[(Vec<u8>, Option<frame_info>)],
        before: &Counters,
        after: &Counters,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut expect = |what: &str, found: u64, expected: u64| {
            if found != expected {
                wrong.push(format!("{what}: {found}, should be {expected}"));
            }
        };
        let stage = |stage| after.stage(stage) - before.stage(stage);
        let note = |note| after.note(note) - before.note(note);
        let forwarded = u64::from(self.frame.is_some());
        let length = self.frame.as_ref().map_or(0, |frame| frame.len() as u64);
        let class = self.verdict.class();
        expect("XDP action", run.action.into(), if class == VerdictClass::Pass { 2 } else { 1 });
        expect("forwarded", stage(Stage::Forwarded), forwarded);
        expect("redirected", stage(Stage::Redirected), 0);
        expect("bytes", stage(Stage::Bytes), length);
        expect("errors", stage(Stage::Errors), u64::from(class == VerdictClass::Error));
        expect("nat_applied", stage(Stage::NatApplied), self.translated.into());
        expect("df_cleared", stage(Stage::DfCleared), self.df_cleared.into());
        for one in Note::ALL {
            expect(one.name(), note(one), self.notes.contains(&one).into());
        }
        expect("frames in the ring", records.len() as u64, forwarded);
        let info = records.first().and_then(|(_, info)| *info).unwrap_or_default();
        expect("INFO_* flags", info.flags.into(), self.info.into());
        let verdict = counted(before, after).map(Verdict::name);
        if verdict != Some(self.verdict.name()) {
            wrong.push(format!("verdict {verdict:?}, should be {}", self.verdict.name()));
        }
        if class == VerdictClass::Pass {
            wrong.extend(difference("packet for the host", &run.packet, packet));
        }
        if let (Some((found, _)), Some(expected)) = (records.first(), &self.frame) {
            wrong.extend(difference("frame", found, expected));
        }
        wrong
    }
}

/// In words, where two frames differ.
pub fn difference(what: &str, found: &[u8], expected: &[u8]) -> Option<String> {
    if found == expected {
        return None;
    }
    let at = found.iter().zip(expected).take_while(|(a, b)| a == b).count();
    let part = |bytes: &[u8]| {
        let hex = bytes.iter().skip(at).take(24).map(|b| format!("{b:02x}"));
        hex.collect::<Vec<_>>().join(" ")
    };
    Some(format!(
        "{what} of {} bytes should have {}; from byte {at} on:\n      found    {}\n      expected {}",
        found.len(),
        expected.len(),
        part(found),
        part(expected)
    ))
}
