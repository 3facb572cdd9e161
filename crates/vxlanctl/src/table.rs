//! Numbers and tables for people.

/// Notes of a [`Panel`] are wrapped, so that it fits a terminal.
const TERMINAL_WIDTH: usize = 80;
/// But not to less than this.
const NOTE_WIDTH_MIN: usize = 24;

/// A count with thousands separators: `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share of a whole: `12.5%`; of nothing: `0.0%`.
pub fn percent(part: u64, whole: u64) -> String {
    format!("{:.1}%", 100.0 * part as f64 / whole.max(1) as f64)
}

/// A box of rows (label, value, note) in titled sections.
pub struct Panel {
    sections: Vec<(String, Vec<[String; 3]>)>,
}

impl Panel {
    /// A panel whose first section has this title.
    pub fn new(title: impl Into<String>) -> Self {
        Self { sections: vec![(title.into(), Vec::new())] }
    }

    /// Begins a section. One that gets no rows is left out.
    pub fn section(&mut self, title: impl Into<String>) {
        self.sections.push((title.into(), Vec::new()));
    }

    /// Adds a row to the last section.
    pub fn row(&mut self, label: impl Into<String>, value: String, note: impl Into<String>) {
        if let Some((_, rows)) = self.sections.last_mut() {
            rows.push([label.into(), value, note.into()]);
        }
    }

    /// The box, with line ends.
    pub fn render(&self) -> String {
        let sections = || self.sections.iter().filter(|(_, rows)| !rows.is_empty());
        let rows = || sections().flat_map(|(_, rows)| rows);
        let label = rows().map(|[label, ..]| width(label)).max().unwrap_or(0);
        let value = rows().map(|[_, value, _]| width(value)).max().unwrap_or(0);
        let room = TERMINAL_WIDTH.saturating_sub(2 + label + 2 + value + 2 + 2);
        let lines = |note: &str| match wrap(note, room.max(NOTE_WIDTH_MIN)) {
            lines if lines.is_empty() => vec![String::new()],
            lines => lines,
        };
        let note = rows().flat_map(|[.., note]| lines(note)).map(|line| width(&line)).max();
        let titles = sections().map(|(title, _)| width(title) + 2).max().unwrap_or(0);
        let inside = (label + 2 + value + 2 + note.unwrap_or(0)).max(titles);
        let note = inside - (label + 2 + value + 2).min(inside);

        let mut text = String::new();
        for (index, (title, rows)) in sections().enumerate() {
            let (left, right) = if index == 0 { ('┌', '┐') } else { ('├', '┤') };
            let rest = "─".repeat(inside - width(title) - 1);
            text += &format!("{left}─ {title} {rest}{right}\n");
            for [l, v, n] in rows {
                for (index, n) in lines(n).iter().enumerate() {
                    let (l, v) = if index == 0 { (l.as_str(), v.as_str()) } else { ("", "") };
                    text += &format!("│ {l:label$}  {v:>value$}  {n:note$} │\n");
                }
            }
        }
        text + &format!("└{}┘\n", "─".repeat(inside + 2))
    }
}

/// Where a column's cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Columns under headings, with line ends.
pub fn columns<const N: usize>(headings: [(&str, Align); N], rows: &[[String; N]]) -> String {
    let headings_row = headings.map(|(heading, _)| heading.to_owned());
    let all = || std::iter::once(&headings_row).chain(rows);
    let widths: Vec<usize> =
        (0..N).map(|c| all().map(|row| width(&row[c])).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in all() {
        let cells = row.iter().zip(&widths).zip(headings);
        let cells = cells.map(|((cell, &width), (_, align))| match align {
            Align::Left => format!("{cell:width$}"),
            Align::Right => format!("{cell:>width$}"),
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// Lines of at most `limit` characters, broken at spaces; a longer word gets its own line.
fn wrap(text: &str, limit: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(word) <= limit => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_separators() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (123_456, "123,456"),
            (1_234_567, "1,234,567"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(thousands(number), text);
        }
    }

    #[test]
    fn shares() {
        assert_eq!(percent(1, 8), "12.5%");
        assert_eq!(percent(3, 3), "100.0%");
        assert_eq!(percent(0, 0), "0.0%");
    }

    #[test]
    fn a_panel_is_a_box() {
        let mut panel = Panel::new("Pipeline");
        panel.row("Total", "1,000".into(), "");
        panel.section("Empty");
        panel.section("Dropped");
        panel.row("ring_full", "7".into(), "no room");
        let expected = "\
            ┌─ Pipeline ────────────────┐\n\
            │ Total      1,000          │\n\
            ├─ Dropped ─────────────────┤\n\
            │ ring_full      7  no room │\n\
            └───────────────────────────┘\n";
        assert_eq!(panel.render(), expected);
    }

    #[test]
    fn all_lines_of_a_panel_are_equally_wide() {
        let mut panel = Panel::new("A title that is much longer than any of the rows below");
        panel.row("a", "1".into(), "a note so long that it has to be put on two lines, for it has 87 characters altogether");
        let text = panel.render();
        let widths: Vec<usize> = text.lines().map(width).collect();
        assert_eq!(widths.len(), 4, "{text}");
        assert!(widths.iter().all(|w| *w == widths[0]), "{text}");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [["7", "1,000"], ["16777215", "5"]].map(|row| row.map(String::from));
        let text = columns([("VNI", Align::Left), ("PACKETS", Align::Right)], &rows);
        assert_eq!(text, "VNI       PACKETS\n7           1,000\n16777215        5\n");
    }

    #[test]
    fn long_words_are_not_lost() {
        assert_eq!(wrap("a bc def", 4), ["a bc", "def"]);
        assert_eq!(wrap("abcdef g", 3), ["abcdef", "g"]);
        assert!(wrap("", 3).is_empty());
    }
}
