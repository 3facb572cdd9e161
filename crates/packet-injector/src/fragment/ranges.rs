//! Which bytes of a datagram its fragments claim, and whether one more can be true beside them.

use std::collections::BTreeMap;

use dataplane::abi::SendFailure;

/// The bytes that one fragment claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub start: u32,
    pub end: u32,
    /// More fragments follow.
    pub more: bool,
    /// Tells data of the same length apart; 0 where nobody asks.
    pub digest: u64,
}

impl Claim {
    /// Whether both can be true: they don't overlap, and the last fragment stands behind.
    fn agrees_with(&self, other: &Self) -> bool {
        let (low, high) = if self.start < other.start { (self, other) } else { (other, self) };
        low.more && low.end <= high.start
    }
}

/// What a claim is beside the earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    New,
    /// Start, end and "more fragments" are those of an earlier fragment.
    Copy,
}

/// The claims of the fragments seen so far, none of which overlaps another.
#[derive(Debug, Default)]
pub struct Ranges {
    claims: BTreeMap<u32, Claim>,
    /// Bytes that they have together.
    covered: u32,
    /// Length of the datagram, which the last fragment tells.
    end: Option<u32>,
}

impl Ranges {
    /// Holds a claim against the earlier ones.
    ///
    /// # Errors
    /// It overlaps one of them and is no copy of it (`FragmentOverlap`), or they can't both be
    /// right about where the datagram ends (`FragmentInvalid`).
    pub fn check(&self, claim: &Claim) -> Result<Standing, SendFailure> {
        if let Some((_, before)) = self.claims.range(..=claim.start).next_back() {
            if (before.start, before.end, before.more) == (claim.start, claim.end, claim.more) {
                return Ok(Standing::Copy);
            }
            if before.end > claim.start {
                return Err(SendFailure::FragmentOverlap);
            }
        }
        if self.claims.range(claim.start..).next().is_some_and(|(start, _)| *start < claim.end) {
            return Err(SendFailure::FragmentOverlap);
        }
        let beyond = self.end.is_some_and(|end| claim.end > end);
        let data_behind = self.claims.last_key_value().is_some_and(|(_, c)| c.end > claim.end);
        if beyond || (!claim.more && (self.end.is_some() || data_behind)) {
            return Err(SendFailure::FragmentInvalid);
        }
        Ok(Standing::New)
    }

    /// Adds a claim that [`Ranges::check`] found new.
    pub fn add(&mut self, claim: Claim) {
        self.covered += claim.end - claim.start;
        if !claim.more {
            self.end = Some(claim.end);
        }
        self.claims.insert(claim.start, claim);
    }

    /// Leaves out what can't be true beside `claim`.
    pub fn without_contradictions_to(self, claim: &Claim) -> Self {
        let mut rest = Self::default();
        let others = self.claims.into_values();
        others.filter(|other| other.agrees_with(claim)).for_each(|other| rest.add(other));
        rest
    }

    /// Whether an earlier fragment claims the same and has the same data.
    pub fn contains(&self, claim: &Claim) -> bool {
        self.claims.get(&claim.start) == Some(claim)
    }

    /// Whether every byte of the datagram is claimed.
    pub fn are_complete(&self) -> bool {
        self.end == Some(self.covered)
    }

    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    pub fn len(&self) -> usize {
        self.claims.len()
    }
}
