//! Tables as aligned text for a terminal and as Markdown.

/// A table whose first row is the heading.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    /// Columns that are aligned to the left.
    left: usize,
}

impl Table {
    /// A table with these headings, of which the first `left` columns are text and the others numbers.
    pub(crate) fn new(left: usize, headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(ToString::to_string).collect()], left }
    }

    /// Adds a row with as many cells as there are headings.
    pub(crate) fn push(&mut self, row: Vec<String>) {
        debug_assert_eq!(row.len(), self.rows[0].len(), "a row has one cell per heading");
        self.rows.push(row);
    }

    /// Aligned text, two spaces between columns.
    pub(crate) fn text(&self) -> String {
        let widths: Vec<usize> = (0..self.rows[0].len())
            .map(|column| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                line += &if column < self.left {
                    format!("  {cell:<width$}")
                } else {
                    format!("  {cell:>width$}")
                };
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }

    /// Markdown.
    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule: Vec<String> = (0..self.rows[0].len())
            .map(|column| if column < self.left { "---" } else { "---:" }.into())
            .collect();
        let (heading, rows) = (line(&self.rows[0]), self.rows[1..].iter().map(|row| line(row)));
        heading + &line(&rule) + &rows.collect::<String>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_aligned_to_the_right() {
        let mut table = Table::new(1, &["server", "IOPS"]);
        table.push(vec!["a".into(), "5".into()]);
        assert_eq!(table.text(), "  server  IOPS\n  a          5\n");
        assert_eq!(table.markdown(), "| server | IOPS |\n| --- | ---: |\n| a | 5 |\n");
    }
}
