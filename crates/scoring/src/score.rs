//! The score: five parts in [0, 1], absolute and monotone, so that a change at one provider moves that one alone.

use crate::bounds::{above_zero, amount, ensure, share, Invalid};

/// Price, quality, latency, availability, fairness. They add up to 1.
pub const WEIGHTS: [f64; 5] = [0.30, 0.25, 0.20, 0.15, 0.10];

/// What is known of one provider.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Inputs {
    /// Price, in the unit of [`References::price`].
    pub price: f64,
    /// Lower confidence bound of the quality, 0 to 1.
    pub quality: f64,
    /// Expected latency.
    pub latency_ms: f64,
    /// Decayed share of successes, 0 to 1.
    pub availability: f64,
    /// Decayed work given to it.
    pub work: f64,
}

/// The points at which a part is one half.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct References {
    /// The price that scores ½.
    pub price: f64,
    /// The latency that scores ½.
    pub latency_ms: f64,
    /// The work that scores ½.
    pub work: f64,
}

/// The five parts, each in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parts {
    /// `p₀ / (p₀ + price)`
    pub price: f64,
    /// The quality itself.
    pub quality: f64,
    /// `l₀ / (l₀ + latency)`
    pub latency: f64,
    /// The availability itself.
    pub availability: f64,
    /// `f₀ / (f₀ + work)`
    pub fairness: f64,
}

impl Parts {
    /// The parts' names, in the order of [`WEIGHTS`].
    pub const NAMES: [&'static str; 5] =
        ["price", "quality", "latency", "availability", "fairness"];

    /// The parts by name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, f64)> {
        Self::NAMES.into_iter().zip(self.in_order())
    }

    /// The parts of checked inputs.
    #[must_use]
    pub fn new(inputs: &Inputs, references: &References) -> Self {
        Self {
            price: references.price / (references.price + inputs.price),
            quality: inputs.quality,
            latency: references.latency_ms / (references.latency_ms + inputs.latency_ms),
            availability: inputs.availability,
            fairness: references.work / (references.work + inputs.work),
        }
    }

    /// The parts in the order of [`WEIGHTS`].
    #[must_use]
    pub fn in_order(&self) -> [f64; 5] {
        [
            self.price,
            self.quality,
            self.latency,
            self.availability,
            self.fairness,
        ]
    }

    /// The weighted sum, added in the order of [`WEIGHTS`].
    #[must_use]
    pub fn total(&self) -> f64 {
        WEIGHTS[0] * self.price
            + WEIGHTS[1] * self.quality
            + WEIGHTS[2] * self.latency
            + WEIGHTS[3] * self.availability
            + WEIGHTS[4] * self.fairness
    }
}

/// The score of one provider, in [0, 1].
///
/// # Errors
/// [`Invalid`] for a share outside 0 to 1, a negative or infinite amount, or a reference that is not above 0.
pub fn score(inputs: &Inputs, references: &References) -> Result<f64, Invalid> {
    references_checked(references)?;
    inputs_checked(inputs)?;
    Ok(Parts::new(inputs, references).total())
}

/// One entry per provider in each column.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    /// See [`Inputs::price`].
    pub price: &'a [f64],
    /// See [`Inputs::quality`].
    pub quality: &'a [f64],
    /// See [`Inputs::latency_ms`].
    pub latency_ms: &'a [f64],
    /// See [`Inputs::availability`].
    pub availability: &'a [f64],
    /// See [`Inputs::work`].
    pub work: &'a [f64],
}

/// The scores of many providers, in their order.
///
/// # Errors
/// As [`score`], or if the columns differ in length.
pub fn score_columns(columns: &Columns<'_>, references: &References) -> Result<Vec<f64>, Invalid> {
    references_checked(references)?;
    let rows = columns.price.len();
    for (field, column) in [
        ("quality", columns.quality),
        ("latency_ms", columns.latency_ms),
        ("availability", columns.availability),
        ("work", columns.work),
    ] {
        ensure(
            column.len() == rows,
            field,
            "must have as many entries as price",
        )?;
    }
    (0..rows)
        .map(|row| {
            let inputs = Inputs {
                price: columns.price[row],
                quality: columns.quality[row],
                latency_ms: columns.latency_ms[row],
                availability: columns.availability[row],
                work: columns.work[row],
            };
            inputs_checked(&inputs)?;
            Ok(Parts::new(&inputs, references).total())
        })
        .collect()
}

/// # Errors
/// [`Invalid`] for a reference that is not finite and above 0.
pub fn references_checked(references: &References) -> Result<(), Invalid> {
    above_zero("price_reference", references.price)?;
    above_zero("latency_reference_ms", references.latency_ms)?;
    above_zero("work_reference", references.work)
}

fn inputs_checked(inputs: &Inputs) -> Result<(), Invalid> {
    amount("price", inputs.price)?;
    share("quality", inputs.quality)?;
    amount("latency_ms", inputs.latency_ms)?;
    share("availability", inputs.availability)?;
    amount("work", inputs.work)
}
