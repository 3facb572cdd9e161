//! The sums close after a kill at any instruction.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;

use super::*;

/// What an injector does with a record. The names are those of the ways through the accounts.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// Sent in a batch with its neighbours.
    Plain,
    /// Refused by the kernel.
    Refused,
    /// Refused by the reader.
    Invalid,
    /// Sent as two frames.
    Fragmented,
    /// Held outside the ring.
    Taken,
    /// Sent, and everything that is held behind it.
    First,
}

const RECORDS: [Way; 15] = [
    Way::Plain,
    Way::Plain,
    Way::Taken,
    Way::Plain,
    Way::Fragmented,
    Way::Taken,
    Way::Invalid,
    Way::First,
    Way::Refused,
    Way::Taken,
    Way::Plain,
    Way::Plain,
    Way::Plain,
    Way::Fragmented,
    Way::Taken,
];

/// Records in a batch, and between two releases.
const BATCH: usize = 2;
const STRIDE: usize = 5;

/// What is left when the process dies: the pinned memory, the ring, and what others received.
struct World {
    accounts: Accounts,
    /// Records released.
    consumer: usize,
    /// How often each record left.
    wire: HashMap<usize, u64>,
}

struct Killed;

/// The number of steps that a process lives.
struct Life(usize);

impl Life {
    fn step(&mut self) -> Result<(), Killed> {
        self.0 = self.0.checked_sub(1).ok_or(Killed)?;
        Ok(())
    }
}

fn position(records: usize) -> u64 {
    records as u64 * 48
}

impl World {
    fn new() -> Self {
        Self { accounts: Accounts::private(), consumer: 0, wire: HashMap::new() }
    }

    /// An injector from its start until it is killed or has sent everything.
    fn run(&mut self, mut life: Life) -> Result<(), Killed> {
        let found = self.accounts.take_over(position(self.consumer)).unwrap();
        life.step()?;
        let mut released = found.released;
        let mut held = Vec::new();
        while self.consumer < RECORDS.len() {
            let end = RECORDS.len().min(self.consumer + STRIDE);
            let mut next = self.consumer;
            while next < end {
                next = self.advance(next, end, &mut held, &mut life)?;
            }
            released += (end - self.consumer) as u64;
            self.accounts.note_release(position(self.consumer), position(end), released);
            life.step()?;
            self.consumer = end;
            life.step()?;
        }
        for _ in held {
            self.accounts.reader().held.add_failed(SendFailure::FragmentTimeout, 1);
            life.step()?;
        }
        Ok(())
    }

    /// Deals with the record `next` and perhaps some behind it.
    fn advance(
        &mut self,
        next: usize,
        end: usize,
        held: &mut Vec<usize>,
        life: &mut Life,
    ) -> Result<usize, Killed> {
        let worker = next % 3;
        let mut behind = next + 1;
        match RECORDS[next] {
            Way::Plain => {
                while behind < end.min(next + BATCH) && RECORDS[behind] == Way::Plain {
                    behind += 1;
                }
                self.send(&(next..behind).collect::<Vec<_>>(), worker, false, 1, life)?;
            }
            Way::Fragmented => self.send(&[next], worker, false, 2, life)?,
            Way::Refused => {
                let account = self.accounts.worker(worker).ring;
                account.set_in_flight(1);
                life.step()?;
                account.add_failed(SendFailure::Enetdown, 1);
                life.step()?;
                account.set_in_flight(0);
                life.step()?;
            }
            Way::Invalid => {
                self.accounts.reader().ring.add_failed(SendFailure::FragmentInvalid, 1);
                life.step()?;
            }
            Way::Taken => {
                self.accounts.add_taken();
                life.step()?;
                held.push(next);
            }
            Way::First => {
                self.send(&[next], worker, false, 1, life)?;
                for record in held.drain(..) {
                    self.send(&[record], worker, true, 1, life)?;
                }
            }
        }
        Ok(behind)
    }

    /// What `RawSender` does when the kernel takes everything, frame by frame.
    fn send(
        &mut self,
        records: &[usize],
        worker: usize,
        held: bool,
        frames: usize,
        life: &mut Life,
    ) -> Result<(), Killed> {
        let account = self.accounts.worker(worker);
        let account = if held { account.held } else { account.ring };
        account.set_in_flight(records.len() as u64);
        life.step()?;
        for &record in records {
            *self.wire.entry(record).or_default() += 1;
            life.step()?;
        }
        (1..frames).try_for_each(|_| life.step())?;
        account.add_sent(records.len() as u64);
        life.step()?;
        account.add_call((records.len() * frames) as u64, 0);
        life.step()?;
        account.set_in_flight(0);
        life.step()
    }

    fn state(&self, field: usize) -> u64 {
        self.accounts.state.u64_at(0, field).load(Relaxed)
    }

    fn finished(&self, entries: std::ops::Range<usize>) -> u64 {
        entries.map(|entry| self.accounts.entry(entry).totals().finished()).sum()
    }

    /// The ledger's injector side while the ring holds what it does.
    fn check(&self, when: &str) {
        let taken = self.state(offset_of!(injector_state, taken));
        let lost = self.state(offset_of!(injector_state, lost));
        let resent = self.state(offset_of!(injector_state, resent));
        let in_doubt = self.state(offset_of!(injector_state, in_doubt));
        assert!(
            self.finished(THREADS..2 * THREADS) + lost <= taken,
            "{when}: nothing from nothing"
        );
        let left = self.finished(0..THREADS) + taken + in_doubt - resent;
        let slot = (0..2)
            .find(|s| self.state(Accounts::position(*s)) == position(self.consumer))
            .expect("the journal knows the ring's position");
        assert_eq!(self.state(Accounts::released(slot)), self.consumer as u64, "{when}");
        let waiting = (RECORDS.len() - self.consumer) as u64;
        assert!(left >= self.consumer as u64 && left <= self.consumer as u64 + waiting, "{when}");
    }

    /// Everything was read: the terms of the ledger are those of the world.
    fn check_at_rest(&self, when: &str) {
        self.check(when);
        let lost = self.state(offset_of!(injector_state, lost));
        let resent = self.state(offset_of!(injector_state, resent));
        let in_doubt = self.state(offset_of!(injector_state, in_doubt));
        let finished = self.finished(0..2 * THREADS);
        assert_eq!(RECORDS.len() as u64 + resent, finished + in_doubt + lost, "{when}");
        let twice: u64 = self.wire.values().map(|times| times - 1).sum();
        assert!(twice <= resent, "{when}: {twice} left twice, {resent} resent");
        let never = (0..RECORDS.len()).filter(|record| !self.wire.contains_key(record)).count();
        let refused = finished - self.accounts.totals().iter().map(|t| t.sent).sum::<u64>();
        assert!(never as u64 <= refused + lost, "{when}: {never} never left");
    }

    /// The same world again, for another process.
    fn copy(&self) -> Self {
        let copy = Self { consumer: self.consumer, wire: self.wire.clone(), ..Self::new() };
        for (from, to) in words(&self.accounts).into_iter().zip(words(&copy.accounts)) {
            to.store(from.load(Relaxed), Relaxed);
        }
        copy
    }
}

/// All pinned memory.
fn words(accounts: &Accounts) -> Vec<&AtomicU64> {
    let state = (0..size_of::<injector_state>()).step_by(8);
    let state = state.map(|offset| accounts.state.u64_at(0, offset));
    let entries = (0..2 * THREADS).flat_map(|entry| {
        let offsets = (0..size_of::<worker_stats>()).step_by(8);
        offsets.map(move |offset| accounts.workers.u64_at(entry, offset))
    });
    state.chain(entries).collect()
}

/// The worlds that an injector leaves when it is killed after each of its steps.
fn killed_everywhere(world: &World) -> Vec<World> {
    let mut worlds = Vec::new();
    loop {
        let mut world = world.copy();
        if world.run(Life(worlds.len())).is_ok() {
            return worlds;
        }
        worlds.push(world);
    }
}

#[test]
fn a_run_without_a_kill_accounts_for_each_record_and_frame() {
    let mut world = World::new();
    assert!(world.run(Life(usize::MAX)).is_ok());
    world.check_at_rest("no kill");
    let sum = world.accounts.totals().iter().fold(Totals::default(), |sum, t| sum.plus(t));
    assert_eq!((sum.sent, sum.frames, sum.failed()), (11, 13, 4));
    assert_eq!(sum.failed[SendFailure::FragmentTimeout as usize], 2);
    assert_eq!(world.state(offset_of!(injector_state, taken)), 4);
    assert_eq!(world.state(offset_of!(injector_state, resent)), 0);
}

#[test]
fn the_sums_close_after_a_kill_at_any_step() {
    for (step, world) in killed_everywhere(&World::new()).into_iter().enumerate() {
        world.check(&format!("killed at {step}"));
        for (again, mut world) in killed_everywhere(&world).into_iter().enumerate() {
            let when = format!("killed at {step}, then at {again}");
            world.check(&when);
            assert!(world.run(Life(usize::MAX)).is_ok());
            world.check_at_rest(&when);
        }
    }
}

#[test]
fn the_sums_close_after_a_kill_while_taking_over() {
    let order = |offset: usize| match offset / 8 {
        n if n == offset_of!(injector_state, lost) / 8 => 0,
        n if n == offset_of!(injector_state, in_doubt) / 8 => 1,
        n if n == offset_of!(injector_state, resent) / 8 => 2,
        n if n < size_of::<injector_state>() / 8 => 4,
        _ => 3, // in_flight of an entry
    };
    for (step, world) in killed_everywhere(&World::new()).into_iter().enumerate() {
        let after = world.copy();
        after.accounts.take_over(position(after.consumer)).unwrap();
        let now = words(&after.accounts);
        let mut stores: Vec<_> = words(&world.accounts)
            .iter()
            .zip(now)
            .enumerate()
            .map(|(index, (before, after))| (8 * index, before.load(Relaxed), after.load(Relaxed)))
            .filter(|(_, before, after)| before != after)
            .collect();
        stores.sort_by_key(|(offset, ..)| order(*offset));
        for done in 0..=stores.len() {
            let mut world = world.copy();
            for (offset, _, value) in &stores[..done] {
                words(&world.accounts)[offset / 8].store(*value, Relaxed);
            }
            let when = format!("killed at {step}, then after {done} stores");
            world.check(&when);
            assert!(world.run(Life(usize::MAX)).is_ok());
            world.check_at_rest(&when);
        }
    }
}

#[test]
fn what_a_killed_injector_did_is_told() {
    let accounts = Accounts::private();
    // Five records: two sent, one of them released; one held, one refused, one under way.
    accounts.worker(0).ring.add_sent(2);
    accounts.note_release(0, 48, 1);
    accounts.add_taken();
    accounts.reader().ring.add_failed(SendFailure::FragmentInvalid, 1);
    accounts.worker(1).ring.set_in_flight(1);
    accounts.worker(1).held.set_in_flight(1);
    let found = accounts.take_over(48).unwrap();
    assert_eq!(found, TakeOver { released: 1, resent: 4, lost: 1 });
    assert_eq!(accounts.take_over(48).unwrap(), TakeOver { released: 1, resent: 0, lost: 0 });
    assert!(accounts.take_over(96).is_err(), "a position that nobody noted");
}
