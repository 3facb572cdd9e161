//! One worker: reading and sending in one thread, without a lane between them.

use dataplane::ring::FrameRef;

use crate::intake::Intake;
use crate::outbox::Outbox;
use crate::reader::Reader;
use crate::release::Releaser;

/// Drains the ring until the reader is finished. A batch is what is there, up to the batch size.
/// Returns how many fragments were held at the end.
pub fn run(
    mut reader: Reader<'_>,
    mut intake: Intake<'_>,
    mut releaser: Releaser<'_>,
    mut outbox: Outbox<'_>,
) -> u64 {
    loop {
        let mut end = None;
        let mut records = 0;
        while records < outbox.batch() {
            let Some(record) = reader.next() else { break };
            end = Some(record.end);
            if let Some(frame) = record.frame {
                records += 1;
                if frame.has_info {
                    admit(frame, &mut intake, &mut outbox);
                } else {
                    outbox.push_frame(frame);
                }
            }
        }
        intake.expire();
        if let Some(position) = end {
            outbox.flush();
            releaser.release(position, records as u64);
        } else if !reader.is_finished() {
            reader.wait();
        }
        if reader.is_finished() {
            return intake.close();
        }
    }
}

fn admit(frame: FrameRef, intake: &mut Intake<'_>, outbox: &mut Outbox<'_>) {
    if let Some((_, item)) = intake.admit(frame) {
        outbox.push(item);
    }
    intake.released().for_each(|(_, job)| outbox.push(job));
}
