//! The median of few figures, and how sure it is.

/// A median and the interval that holds it with a probability of 95 %, whatever the figures' distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Median {
    pub(super) low: f64,
    pub(super) value: f64,
    pub(super) high: f64,
}

impl Median {
    /// Of no figures there is none.
    pub(super) fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let last = figures.len().checked_sub(1)?;
        let value = f64::midpoint(figures[last / 2], figures[last.div_ceil(2)]);
        let outside = rank(figures.len());
        Some(Self { low: figures[outside], value, high: figures[last - outside] })
    }
}

/// How many of `count` figures on either side are outside the interval: as many as chance puts there, with each figure on
/// either side of the median like a coin (the sign test), in at most 2.5 % of cases.
fn rank(count: usize) -> usize {
    let mut chance = 0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    let mut sum = chance;
    let mut rank = 0;
    while sum <= 0.025 {
        rank += 1;
        chance *= (count - rank + 1) as f64 / rank as f64;
        sum += chance;
    }
    rank.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_sign_test() {
        let of = |count: u32| Median::of((1..=count).map(f64::from).collect()).unwrap();
        // Tables of the sign test: of 20 figures the 6th and the 15th, of 30 the 10th and the 21st.
        assert_eq!(of(20), Median { low: 6.0, value: 10.5, high: 15.0 });
        assert_eq!(of(30), Median { low: 10.0, value: 15.5, high: 21.0 });
        assert_eq!(of(3), Median { low: 1.0, value: 2.0, high: 3.0 });
        assert_eq!(Median::of(Vec::new()), None);
    }
}
