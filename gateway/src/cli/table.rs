//! [`Table`]: aligned columns, and numbers that people can read.

/// On which side the cells of a column lie together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    /// For numbers.
    Right,
}

/// Rows under a heading.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<(&'static str, Side)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub(super) fn new(columns: &[(&'static str, Side)]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with a cell for each column.
    pub(super) fn push(&mut self, cells: Vec<String>) {
        // Control characters would spoil the lines, or do worse to a terminal.
        let clean = |cell: String| cell.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        self.rows.push(cells.into_iter().map(clean).collect());
    }

    /// The table as lines, each column as wide as it must be.
    pub(super) fn render(&self) -> String {
        let heading = || self.columns.iter().map(|(title, _)| (*title).to_owned()).collect();
        let rows: Vec<Vec<String>> = std::iter::once(heading()).chain(self.rows.iter().cloned()).collect();
        let width = |column: usize| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut text = String::new();
        for row in rows {
            let cells = row.iter().zip(&widths).zip(&self.columns);
            let line: Vec<String> = cells
                .map(|((cell, &width), (_, side))| match side {
                    Side::Left => format!("{cell:<width$}"),
                    Side::Right => format!("{cell:>width$}"),
                })
                .collect();
            text.push_str(line.join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

/// A number of bytes with a unit of which there are few: three digits at most and one behind the point.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["", "K", "M", "G", "T", "P", "E"];
    let (mut unit, mut scale) = (0, 1_u64);
    while unit + 1 < UNITS.len() && bytes / scale >= 1024 {
        unit += 1;
        scale <<= 10;
    }
    let (whole, tenth) = (bytes / scale, u128::from(bytes % scale) * 10 / u128::from(scale));
    match tenth {
        0 => format!("{whole}{}", UNITS[unit]),
        _ => format!("{whole}.{tenth}{}", UNITS[unit]),
    }
}

/// A time in its two largest units.
pub(super) fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if days > 0 => format!("{days}d{}h", hours % 24),
        () if hours > 0 => format!("{hours}h{}m", minutes % 60),
        () if minutes > 0 => format!("{minutes}m{}s", seconds % 60),
        () => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&[("NAME", Side::Left), ("SIZE", Side::Right), ("STATE", Side::Left)]);
        table.push(vec!["a".into(), "1G".into(), "serving".into()]);
        table.push(vec!["é\u{1b}long".into(), "512".into(), String::new()]);
        let lines = ["NAME    SIZE  STATE", "a         1G  serving", "é?long   512"];
        assert_eq!(table.render(), format!("{}\n", lines.join("\n")));
    }

    #[test]
    fn sizes_are_readable() {
        for (bytes, text) in [
            (0, "0"),
            (1023, "1023"),
            (1024, "1K"),
            (1536, "1.5K"),
            ((1 << 30) - 1, "1023.9M"),
            (10 << 40, "10T"),
            (u64::MAX, "15.9E"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn times_are_readable() {
        let times = [0, 59, 60, 3_725, 90_061].map(duration);
        assert_eq!(times, ["0s", "59s", "1m0s", "1h2m", "1d1h"]);
    }
}
