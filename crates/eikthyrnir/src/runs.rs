//! Rows of one provider, summed before they are added to what is there.
//!
//! One by one, each row waits for the division and the mean of the row before. A run is summed side by side instead, in two
//! passes: first the mean, then the spread around it, so that nothing is ever a difference of large numbers. The lanes are
//! written out: the result is the same to the bit whatever the compiler and the processor make of them.

use crate::aggregate::Aggregate;

const LANES: usize = 4;
const FEW: usize = 12;
/// Below this, weight times value may be too small for all of its bits.
const WEIGHT_MIN: f64 = 1e-250;

/// What the rows come to; there must be one, and no value is below 0. Equal values have that mean and no spread.
#[inline]
pub fn summed(values: &[f64], weights: &[f64], landmark: i64) -> Aggregate {
    if let (&[value], &[weight]) = (values, weights) {
        return Aggregate::of(value, weight, landmark);
    }
    if values.len() < FEW {
        return summed_few(values, weights, landmark);
    }
    summed_many(values, weights, landmark)
}

#[inline]
fn summed_few(values: &[f64], weights: &[f64], landmark: i64) -> Aggregate {
    let mut all = Aggregate::of(values[0], 0.0, landmark);
    let mut sum = 0.0;
    let mut differ = 0;
    let first = values[0].to_bits();
    for (&its, &own) in values.iter().zip(weights) {
        all.weight += own;
        sum += own * its;
        differ |= its.to_bits() ^ first;
    }
    if all.weight < WEIGHT_MIN {
        return summed_many(values, weights, landmark);
    }
    if differ != 0 {
        let mean = sum / all.weight;
        for (&its, &own) in values.iter().zip(weights) {
            let apart = its - mean;
            all.spread += apart * apart * own;
        }
        all.mean = mean;
    }
    all
}

#[inline(never)]
fn summed_many(values: &[f64], weights: &[f64], landmark: i64) -> Aggregate {
    let mut all = Aggregate::of(values[0], 0.0, landmark);
    let first = values[0].to_bits();
    let (mut weight, mut sum, mut differ) = (Sum::default(), Sum::default(), [0; LANES + 1]);
    by_lanes(values, weights, |lane, its, own| {
        weight.add(lane, own);
        sum.add(lane, own * its);
        differ[lane] |= its.to_bits() ^ first;
    });
    all.weight = weight.total();
    if all.weight < WEIGHT_MIN {
        let rows = values.iter().zip(weights);
        return rows.fold(Aggregate::default(), |mut all, (&value, &weight)| {
            all.join(Aggregate::of(value, weight, landmark));
            all
        });
    }
    if differ.iter().any(|&bits| bits != 0) {
        let mean = sum.total() / all.weight;
        let mut spread = Sum::default();
        by_lanes(values, weights, |lane, its, own| {
            let apart = its - mean;
            spread.add(lane, apart * apart * own);
        });
        all.mean = mean;
        all.spread = spread.total();
    }
    all
}

/// Lanes, and one more for the rows after the last full ones.
#[derive(Default)]
struct Sum([f64; LANES + 1]);

impl Sum {
    #[inline]
    fn add(&mut self, lane: usize, term: f64) {
        self.0[lane] += term;
    }

    #[inline]
    fn total(&self) -> f64 {
        let [one, two, three, four, rest] = self.0;
        (one + two) + (three + four) + rest
    }
}

/// Calls `each` with every row and its lane.
#[inline]
fn by_lanes(values: &[f64], weights: &[f64], mut each: impl FnMut(usize, f64, f64)) {
    let (values, weights) = (values.chunks_exact(LANES), weights.chunks_exact(LANES));
    let rest = values.remainder().iter().zip(weights.remainder());
    for (values, weights) in values.zip(weights) {
        for lane in 0..LANES {
            each(lane, values[lane], weights[lane]);
        }
    }
    for (&value, &weight) in rest {
        each(LANES, value, weight);
    }
}
