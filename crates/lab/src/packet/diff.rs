//! Comparing whole frames.

use std::fmt::Write as _;

const WIDTH: usize = 16;

/// What differs between two frames, as a hex dump from the first differing line on; `None` if
/// they are equal.
pub fn diff(expected: &[u8], actual: &[u8]) -> Option<String> {
    if expected == actual {
        return None;
    }
    let common = expected.len().min(actual.len());
    let first = (0..common).find(|&at| expected[at] != actual[at]).unwrap_or(common);
    let mut text = format!(
        "frames differ at byte {first} (expected {} bytes, got {})\n",
        expected.len(),
        actual.len()
    );
    let mut shown = 0;
    for start in (0..expected.len().max(actual.len())).step_by(WIDTH) {
        let (left, right) = (line(expected, start), line(actual, start));
        if left == right {
            continue;
        }
        if shown == 8 {
            text.push_str("  ...\n");
            break;
        }
        shown += 1;
        let _ = writeln!(text, "  {start:04x}  expected  {}", hex(left));
        let _ = writeln!(text, "        got       {}", hex(right));
        let _ = writeln!(text, "                  {}", marks(left, right));
    }
    Some(text)
}

/// Fails the test if the frames differ, and shows where.
#[track_caller]
pub fn assert_frame_eq(expected: impl AsRef<[u8]>, actual: impl AsRef<[u8]>) {
    if let Some(text) = diff(expected.as_ref(), actual.as_ref()) {
        panic!("{text}");
    }
}

/// Fails the test if the two lists differ in length, order or any byte, and shows where.
#[track_caller]
pub fn assert_frames_eq(expected: &[impl AsRef<[u8]>], actual: &[impl AsRef<[u8]>]) {
    for (number, (left, right)) in expected.iter().zip(actual).enumerate() {
        if let Some(text) = diff(left.as_ref(), right.as_ref()) {
            panic!("frame {number} of {}: {text}", expected.len());
        }
    }
    assert_eq!(expected.len(), actual.len(), "number of frames (those in common are equal)");
}

fn line(frame: &[u8], start: usize) -> &[u8] {
    &frame[start.min(frame.len())..(start + WIDTH).min(frame.len())]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x} ")).collect()
}

fn marks(left: &[u8], right: &[u8]) -> String {
    let differs = |at: usize| left.get(at) != right.get(at);
    let marks: String = (0..WIDTH).map(|at| if differs(at) { "^^ " } else { "   " }).collect();
    marks.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::diff;

    #[test]
    fn equal_frames_have_no_difference() {
        assert_eq!(diff(b"same", b"same"), None);
    }

    #[test]
    fn the_first_differing_byte_is_named() {
        let mut frame = vec![0; 40];
        let before = frame.clone();
        frame[20] = 0xff;
        let text = diff(&before, &frame).unwrap();
        assert!(text.starts_with("frames differ at byte 20 "), "{text}");
        assert!(text.contains("0010  expected"), "{text}");
        assert!(!text.contains("0020"), "{text}");
    }

    #[test]
    fn a_shorter_frame_differs_at_its_end() {
        assert!(diff(&[1, 2, 3], &[1, 2]).unwrap().contains("byte 2 (expected 3 bytes, got 2)"));
    }
}
