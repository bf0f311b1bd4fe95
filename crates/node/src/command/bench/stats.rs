//! Medians and quantiles.

/// A count as a number to divide.
#[expect(clippy::cast_precision_loss, reason = "counts of one run are far below 2^52")]
pub(super) const fn float(count: u64) -> f64 {
    count as f64
}

/// The middle one; 0 of none.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), values.len() % 2) {
        (None, _) => 0.0,
        (Some(upper), 1) => *upper,
        (Some(upper), _) => values.get(middle - 1).map_or(*upper, |lower| (lower + upper) / 2.0),
    }
}

/// The value that so many per cent of ascending values are below; 0 of none.
pub(super) fn quantile(ascending: &[u32], percent: usize) -> f64 {
    let last = ascending.len().saturating_sub(1);
    let at = (ascending.len() * percent / 100).min(last);
    ascending.get(at).map_or(0.0, |value| f64::from(*value))
}

/// Rounded to thousandths, for people.
pub(super) fn thousandths(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// A quotient, rounded; 0 when there is nothing to divide by.
pub(super) fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { thousandths(part / whole) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_in_the_middle() {
        assert!((median([3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median([4.0, 1.0]) - 2.5).abs() < 1e-9);
        assert!(median([]).abs() < 1e-9);
    }

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values: Vec<u32> = (1..=200).collect();
        assert!((quantile(&values, 50) - 101.0).abs() < 1e-9);
        assert!((quantile(&values, 99) - 199.0).abs() < 1e-9);
        assert!(quantile(&[], 50).abs() < 1e-9);
    }
}
