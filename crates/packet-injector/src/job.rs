//! What is to be sent: a frame as it stands in the ring, or one that needs work first.

use dataplane::abi::SendFailure;
use dataplane::ring::{FrameRef, Ring};

use crate::fragment::{Lease, Translation};
use crate::split::{self, Split};

/// Something to send. Small, so that the lanes cost little.
#[derive(Debug)]
pub enum Item {
    /// As it is.
    Frame(FrameRef),
    /// After some work.
    Job(Box<Job>),
}

/// Frames to be made and sent for some records.
#[derive(Debug)]
pub struct Job {
    pub source: Source,
    /// How the frame is to be fragmented.
    pub split: Option<Split>,
}

/// Where the frame is.
#[derive(Debug)]
pub enum Source {
    /// In the ring: one record. It is to be translated first.
    Ring { frame: FrameRef, l3_off: usize, translation: Translation },
    /// Outside: the records that were held for it.
    Held { frame: Box<[u8]>, lease: Lease },
}

/// What a job came to.
pub struct Frames {
    /// To be sent in this order.
    pub frames: Vec<Box<[u8]>>,
    /// What was held for them is in use until they are sent.
    _lease: Option<Lease>,
}

impl Job {
    /// Records that end with it.
    pub fn records(&self) -> u64 {
        match &self.source {
            Source::Ring { .. } => 1,
            Source::Held { lease, .. } => lease.count() as u64,
        }
    }

    /// Whether these records were held outside the ring.
    pub fn is_held(&self) -> bool {
        matches!(self.source, Source::Held { .. })
    }

    /// Makes the frames to send.
    ///
    /// # Errors
    /// See [`split::split`].
    pub fn into_frames(self, ring: &Ring) -> Result<Frames, SendFailure> {
        let (frame, lease) = match self.source {
            Source::Ring { frame, l3_off, translation } => {
                let mut bytes = Vec::new();
                ring.copy(frame, &mut bytes);
                translation.apply(&mut bytes, l3_off);
                (bytes.into_boxed_slice(), None)
            }
            Source::Held { frame, lease } => (frame, Some(lease)),
        };
        let frames = match self.split {
            Some(split) => split::split(&frame, split)?,
            None => vec![frame],
        };
        Ok(Frames { frames, _lease: lease })
    }
}
