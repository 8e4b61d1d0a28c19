//! Median and range of a few runs.

use serde::Serialize;

/// Median and range; ratios and rates alike.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// The middle value, or the mean of the two in the middle.
    pub median: f64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
}

impl Summary {
    /// Summary of `values`; nothing when there is none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_the_mean_of_the_middle() {
        assert_eq!(Summary::of([4.0, 1.0, 2.0, 8.0]).unwrap(), Summary { median: 3.0, min: 1.0, max: 8.0 });
    }

    #[test]
    fn one_outlier_does_not_move_the_median() {
        assert_eq!(Summary::of([1.0, 1.1, 90.0]).unwrap().median, 1.1);
    }

    #[test]
    fn nothing_has_no_summary() {
        assert!(Summary::of([]).is_none());
    }
}
