//! Which bin a value belongs to.
//!
//! The bins are those of `DDSketch` (Masson, Rim and Lee, "`DDSketch`: A Fast and Fully-Mergeable Quantile Sketch with
//! Relative-Error Guarantees", VLDB 2019), by the mapping of the crate `sketches-ddsketch`: the key of a value is the whole
//! part of its logarithm to the base `(1 + ε) / (1 − ε)`. The logarithm was a quarter of what an observation cost; here the
//! same keys come from two tables. The upper twelve bits of a mantissa and exponent name a slice of the numbers that is
//! narrower than a bin, so that at most one edge between bins lies in it: one look says the bin in which the slice begins,
//! one comparison whether the value lies beyond the edge. In a column most keys need neither: a polynomial tells them side by
//! side, and the tables only those so near to an edge that its error could count.

use std::f64::consts::{LN_2, PI};
use std::sync::LazyLock;

use sketches_ddsketch::Config;

use crate::aggregate::ROUNDER;

/// A quantile is at most this share away from a value seen.
pub const RELATIVE_ERROR: f64 = 0.01;
/// Values below this are told apart from 0 no more.
pub const VALUE_MIN: f64 = 1e-3;
/// The key of what lies below [`VALUE_MIN`]; the smallest key of the mapping is above it.
pub const KEY_MIN: i16 = -347;
/// The key of 10¹², the largest amount.
pub const KEY_MAX: i16 = 1_381;

/// Bits of the mantissa that tell slices apart: 1/64 is less than the 2 % of a bin.
const MANTISSA_BITS: u32 = 6;
const SHIFT: u32 = f64::MANTISSA_DIGITS - 1 - MANTISSA_BITS;
/// The slice that begins at or below [`VALUE_MIN`].
const FIRST: u64 = VALUE_MIN.to_bits() >> SHIFT;
#[allow(clippy::cast_possible_truncation)] // some thousands
const SLICES: usize = (1e12_f64.to_bits() >> SHIFT) as usize - FIRST as usize + 1;
#[allow(clippy::cast_sign_loss)] // KEY_MAX is the larger one
const EDGES: usize = (KEY_MAX - KEY_MIN) as usize + 1;

/// The keys of values, by tables.
pub struct Mapping {
    config: Config,
    /// For each slice, how many keys above [`KEY_MIN`] its first value has.
    starts: Vec<u16>,
    /// For each key above [`KEY_MIN`], the smallest value of the next one.
    ends: Vec<f64>,
    logarithm: Logarithm,
}

/// Keys among which one look finds those in doubt.
const TOGETHER: usize = 32;
/// In place of a key that [`Logarithm::key`] does not tell.
const IN_DOUBT: i16 = i16::MAX;
/// A logarithm so near to an edge, in bins, is in doubt.
const DOUBT: f64 = 1.0 / 1_024.0;
const TERMS: usize = 8;

/// Keys without a look at the tables, for the processor works on many of them side by side: the exponent, and a polynomial for
/// the logarithm of the mantissa. It interpolates at Chebyshev's points, in Newton's form, and is less than a quarter of [`DOUBT`] off.
struct Logarithm {
    /// Bins from a number to twice the number.
    octave: f64,
    points: [f64; TERMS],
    /// Of the polynomial, in bins.
    terms: [f64; TERMS],
}

impl Logarithm {
    fn new() -> Self {
        let width = ((1.0 + RELATIVE_ERROR) / (1.0 - RELATIVE_ERROR)).ln();
        let mut points = [0.0; TERMS];
        for (place, point) in (0_u32..).zip(&mut points) {
            // TERMS points in half a turn: 16 is twice as many.
            let turn = PI / 16.0 * f64::from(2 * place + 1);
            *point = 1.5 + 0.5 * turn.cos();
        }
        // Divided differences, column by column.
        let mut terms = points.map(|point| point.ln() / width);
        for column in 1..TERMS {
            for row in (column..TERMS).rev() {
                let rise = terms[row] - terms[row - 1];
                terms[row] = rise / (points[row] - points[row - column]);
            }
        }
        Self {
            octave: LN_2 / width,
            points,
            terms,
        }
    }

    /// In bins, of 1 to 2.
    #[allow(clippy::inline_always)] // as below
    #[inline(always)]
    fn of_mantissa(&self, mantissa: f64) -> f64 {
        let mut sum = self.terms[TERMS - 1];
        for term in (0..TERMS - 1).rev() {
            sum = sum * (mantissa - self.points[term]) + self.terms[term];
        }
        sum
    }

    /// The key of a value, or [`IN_DOUBT`].
    #[allow(clippy::inline_always)] // as part of the loop that is compiled for the vector width
    #[allow(clippy::cast_possible_truncation)] // the lower bits
    #[inline(always)]
    fn key(&self, value: f64) -> i16 {
        let bits = value.to_bits();
        // The exponent in the lowest bits of 2⁵²: exact, and no conversion.
        let exponent = f64::from_bits(bits >> 52 | WHOLE.to_bits()) - (WHOLE + 1_023.0);
        let mantissa = f64::from_bits(bits & ((1 << 52) - 1) | 1.0_f64.to_bits());
        let place = exponent * self.octave + self.of_mantissa(mantissa);
        // The nearest edge between bins, and the key of the bin that begins there.
        let rounded = place + ROUNDER;
        let apart = place - (rounded - ROUNDER);
        let edge = rounded.to_bits() as i16;
        let key = edge - i16::from(apart < 0.0);
        let key = if apart.abs() < DOUBT { IN_DOUBT } else { key };
        if value < VALUE_MIN {
            KEY_MIN
        } else {
            key
        }
    }
}

/// A number whose lowest bit counts 1.
const WHOLE: f64 = 4_503_599_627_370_496.0;

static MAPPING: LazyLock<Mapping> = LazyLock::new(Mapping::new);

/// The one mapping.
pub fn mapping() -> &'static Mapping {
    &MAPPING
}

impl Mapping {
    fn new() -> Self {
        let config = Config::new(RELATIVE_ERROR, 2_048, VALUE_MIN);
        let by_logarithm = |value: f64| {
            let key = i16::try_from(config.key(value)).unwrap_or(KEY_MAX);
            key.clamp(KEY_MIN + 1, KEY_MAX)
        };
        let above = |key: i16| u16::try_from(key - KEY_MIN).unwrap_or(0);
        let starts = (0..SLICES as u64)
            .map(|slice| {
                above(by_logarithm(
                    f64::from_bits((FIRST + slice) << SHIFT).max(VALUE_MIN),
                ))
            })
            .collect();
        let ends = (0..EDGES)
            .map(|place| {
                // A place is a difference of two keys.
                let key = KEY_MIN + i16::try_from(place).unwrap_or(KEY_MAX);
                if key >= KEY_MAX {
                    return f64::INFINITY;
                }
                // By halves of the bits, which rise with the numbers.
                let (mut low, mut high) = (VALUE_MIN.to_bits(), 1e12_f64.to_bits());
                while low < high {
                    let middle = low + (high - low) / 2;
                    if by_logarithm(f64::from_bits(middle)) > key {
                        high = middle;
                    } else {
                        low = middle + 1;
                    }
                }
                f64::from_bits(low)
            })
            .collect();
        Self {
            config,
            starts,
            ends,
            logarithm: Logarithm::new(),
        }
    }

    /// The keys of values from 0 to 10¹², as [`Mapping::key`], many side by side.
    #[inline(never)]
    pub fn keys(&self, values: &[f64], keys: &mut [i16]) {
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                for (key, &value) in keys.iter_mut().zip(values) {
                    *key = self.logarithm.key(value);
                }
            },
        );
        let keys = &mut keys[..values.len()];
        for (keys, values) in keys.chunks_mut(TOGETHER).zip(values.chunks(TOGETHER)) {
            let doubts = |doubts: u16, &key: &i16| doubts | u16::from(key == IN_DOUBT);
            if keys.iter().fold(0, doubts) == 0 {
                continue;
            }
            for (key, &value) in keys.iter_mut().zip(values) {
                if *key == IN_DOUBT {
                    *key = self.key(value);
                }
            }
        }
    }

    /// The key of the bin of a value from 0 to 10¹².
    #[inline]
    #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // below SLICES, and at most 1,728
    pub fn key(&self, value: f64) -> i16 {
        if value < VALUE_MIN {
            return KEY_MIN;
        }
        let slice = (value.to_bits() >> SHIFT).saturating_sub(FIRST) as usize;
        let start = self.starts[slice.min(SLICES - 1)];
        let beyond = u16::from(value >= self.ends[usize::from(start)]);
        KEY_MIN + (start + beyond) as i16
    }

    /// A value in the bin of this key, at most [`RELATIVE_ERROR`] from each other one there.
    pub fn value(&self, key: i16) -> f64 {
        if key <= KEY_MIN {
            0.0
        } else {
            self.config.value(i32::from(key))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{mapping, DOUBT, IN_DOUBT, KEY_MAX, KEY_MIN, RELATIVE_ERROR, VALUE_MIN};

    /// The number right below one above 0.
    fn before(value: f64) -> f64 {
        f64::from_bits(value.to_bits() - 1)
    }

    #[test]
    fn the_ends_of_the_range_are_the_ends_of_the_keys() {
        assert_eq!(mapping().key(0.0), KEY_MIN);
        assert_eq!(mapping().key(before(VALUE_MIN)), KEY_MIN);
        assert_eq!(mapping().key(VALUE_MIN), KEY_MIN + 1);
        assert_eq!(mapping().key(1e12), KEY_MAX);
    }

    #[test]
    fn a_bin_is_at_most_one_percent_wide_each_way() {
        let mut seen = VALUE_MIN;
        while seen <= 1e12 {
            let told = mapping().value(mapping().key(seen));
            assert!(
                (told - seen).abs() <= RELATIVE_ERROR * seen * (1.0 + 1e-9),
                "{seen} {told}"
            );
            seen *= 1.000_7;
        }
    }

    /// Also right at the edges: the last value of each bin and the first of the next.
    #[test]
    fn the_keys_are_those_of_the_logarithm() {
        let by_logarithm = |value: f64| {
            let key = i16::try_from(mapping().config.key(value)).unwrap();
            key.clamp(KEY_MIN + 1, KEY_MAX)
        };
        let mut seen = VALUE_MIN;
        while seen <= 1e12 {
            assert_eq!(mapping().key(seen), by_logarithm(seen), "{seen}");
            seen *= 1.000_01;
        }
        for &end in &mapping().ends[1..] {
            for value in [before(end), end] {
                if (VALUE_MIN..=1e12).contains(&value) {
                    assert_eq!(mapping().key(value), by_logarithm(value), "{value}");
                }
            }
        }
    }

    /// Each by itself, and the control: most keys are told without a look at the tables.
    #[test]
    fn many_keys_are_those_of_each() {
        let mut values = vec![0.0, 5e-324, before(VALUE_MIN), VALUE_MIN, 1e12];
        let mut seen = VALUE_MIN;
        while seen <= 1e12 {
            values.push(seen);
            seen *= 1.000_03;
        }
        let told = values.len();
        for &end in &mapping().ends[1..mapping().ends.len() - 1] {
            values.extend([before(end), end].map(|value| value.min(1e12)));
        }
        let mut keys = vec![0; values.len()];
        mapping().keys(&values, &mut keys);
        for (&value, key) in values.iter().zip(keys) {
            assert_eq!(key, mapping().key(value), "{value}");
        }
        let doubts = values[..told]
            .iter()
            .filter(|&&value| mapping().logarithm.key(value) == IN_DOUBT)
            .count();
        assert!(doubts < told / 256, "{doubts} of {told}");
    }

    /// Wherever a key is told, the error is well below what is called in doubt.
    #[test]
    fn the_polynomial_is_near() {
        let logarithm = &mapping().logarithm;
        let off = (0..100_000).map(|step| {
            let mantissa = 1.0 + f64::from(step) / 100_000.0;
            (logarithm.of_mantissa(mantissa) - mantissa.log2() * logarithm.octave).abs()
        });
        assert!(off.fold(0.0, f64::max) < DOUBT / 4.0);
    }
}
