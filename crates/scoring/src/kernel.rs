//! The loop over a block of rows: checks and scores together, compiled for the vector width of the processor.

#![allow(clippy::inline_always)] // all of it must become part of the function that is compiled for the vector width

use crate::bounds::{Invalid, InvalidRow};
use crate::score::{References, WEIGHTS};

/// The columns, in the order of [`WEIGHTS`].
pub const COLUMNS: [&str; 5] = ["price", "quality", "latency_ms", "availability", "work"];
/// Rows at a time: five columns of them and the result fit in the first cache.
pub(crate) const BLOCK: usize = 256;

/// A column as it lies in memory.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// Used where it lies.
    F64(&'a [f64]),
    /// Widened block by block; exact.
    F32(&'a [f32]),
}

impl<'a> Values<'a> {
    /// One row's value.
    #[must_use]
    pub(crate) fn at(self, row: usize) -> f64 {
        match self {
            Self::F64(values) => values[row],
            Self::F32(values) => f64::from(values[row]),
        }
    }

    /// The number of rows.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // nobody asks
    pub fn len(self) -> usize {
        match self {
            Self::F64(values) => values.len(),
            Self::F32(values) => values.len(),
        }
    }

    fn cut(self, from: usize, to: usize) -> Self {
        match self {
            Self::F64(values) => Self::F64(&values[from..to]),
            Self::F32(values) => Self::F32(&values[from..to]),
        }
    }

    #[inline(always)]
    fn block<'s>(self, from: usize, to: usize, wide: &'s mut [f64; BLOCK]) -> &'s [f64]
    where
        'a: 's,
    {
        match self {
            Self::F64(values) => &values[from..to],
            Self::F32(values) => {
                for (wide, &value) in wide.iter_mut().zip(&values[from..to]) {
                    *wide = f64::from(value);
                }
                &wide[..to - from]
            }
        }
    }
}

/// Rows of providers.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// By [`COLUMNS`], in one length.
    pub columns: [Values<'a>; 5],
    /// For each row, which of the references is its model's; none: the first one for all.
    pub models: Option<&'a [u32]>,
}

impl Rows<'_> {
    pub(crate) fn len(&self) -> usize {
        self.columns[0].len()
    }

    pub(crate) fn cut(&self, from: usize, to: usize) -> Self {
        Self {
            columns: self.columns.map(|column| column.cut(from, to)),
            models: self.models.map(|models| &models[from..to]),
        }
    }

    pub(crate) fn checked(&self, references: &[References]) -> Result<(), Invalid> {
        let rows = self.len();
        for (name, column) in COLUMNS.into_iter().zip(self.columns) {
            if column.len() != rows {
                return Err(Invalid {
                    field: name,
                    rule: "must have as many rows as price",
                });
            }
        }
        let Some(models) = self.models else {
            return Ok(());
        };
        let known = models
            .iter()
            .all(|&model| (model as usize) < references.len());
        if models.len() == rows && known {
            return Ok(());
        }
        Err(Invalid {
            field: "model",
            rule: "must have as many rows as price, each with references",
        })
    }
}

/// What a value that is not there (NaN) does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It is an error.
    Error,
    /// The score of its row is NaN.
    Nan,
}

/// Where scores go, block after block.
pub(crate) trait Sink {
    /// Room for the next `rows` scores.
    fn room(&mut self, from: usize, rows: usize) -> &mut [f64];
    /// They are there.
    fn filled(&mut self, from: usize, rows: usize);
}

/// All rows into the sink; the first row of the first block with a fault, if there is one.
#[inline(always)]
pub(crate) fn run_rows(
    rows: &Rows<'_>,
    references: &[References],
    missing: Missing,
    sink: &mut impl Sink,
) -> Option<usize> {
    let mut wide = [[0.0; BLOCK]; 5];
    let mut anchors = [[0.0; BLOCK]; 2];
    let common = references[0];
    let mut from = 0;
    while from < rows.len() {
        let to = rows.len().min(from + BLOCK);
        let [w0, w1, w2, w3, w4] = &mut wide;
        let [c0, c1, c2, c3, c4] = rows.columns;
        let columns = [
            c0.block(from, to, w0),
            c1.block(from, to, w1),
            c2.block(from, to, w2),
            c3.block(from, to, w3),
            c4.block(from, to, w4),
        ];
        let scores = sink.room(from, to - from);
        let sound = if let Some(models) = rows.models {
            let [prices, latencies] = &mut anchors;
            for (place, &model) in models[from..to].iter().enumerate() {
                let its = &references[model as usize];
                prices[place] = its.price;
                latencies[place] = its.latency_ms;
            }
            block(
                columns,
                &anchors[0],
                &anchors[1],
                common.work,
                missing,
                scores,
            )
        } else {
            block(
                columns,
                Same(common.price),
                Same(common.latency_ms),
                common.work,
                missing,
                scores,
            )
        };
        if !sound {
            return Some(from);
        }
        sink.filled(from, to - from);
        from = to;
    }
    None
}

/// A reference for each row.
trait Anchor: Copy {
    fn of(self, row: usize) -> f64;
}

#[derive(Clone, Copy)]
struct Same(f64);

impl Anchor for Same {
    #[inline(always)]
    fn of(self, _: usize) -> f64 {
        self.0
    }
}

impl Anchor for &[f64; BLOCK] {
    #[inline(always)]
    fn of(self, row: usize) -> f64 {
        self[row]
    }
}

/// Whether all of a block is sound. The sum is added in the order of [`WEIGHTS`], as everywhere. A NaN fails no comparison
/// here and makes the score NaN; that is what tells it.
#[inline(always)]
#[allow(clippy::many_single_char_names)] // the letters of the formula
#[allow(clippy::manual_range_contains, clippy::needless_bitwise_bool)] // a NaN must pass; a branch is no vector
#[allow(clippy::needless_range_loop)] // five columns and a result side by side: the form that the compiler vectorises
fn block(
    columns: [&[f64]; 5],
    price_at: impl Anchor,
    latency_at: impl Anchor,
    work_at: f64,
    missing: Missing,
    scores: &mut [f64],
) -> bool {
    let rows = scores.len().min(BLOCK);
    let [price, quality, latency, availability, work] = columns.map(|column| &column[..rows]);
    let scores = &mut scores[..rows];
    let mut faults = 0_u64;
    let mut gaps = 0_u64;
    for row in 0..rows {
        let (p, q, l, a, f) = (
            price[row],
            quality[row],
            latency[row],
            availability[row],
            work[row],
        );
        let outside = (p < 0.0)
            | (p > f64::MAX)
            | (q < 0.0)
            | (q > 1.0)
            | (l < 0.0)
            | (l > f64::MAX)
            | (a < 0.0)
            | (a > 1.0)
            | (f < 0.0)
            | (f > f64::MAX);
        let (p0, l0) = (price_at.of(row), latency_at.of(row));
        let score = WEIGHTS[0] * (p0 / (p0 + p))
            + WEIGHTS[1] * q
            + WEIGHTS[2] * (l0 / (l0 + l))
            + WEIGHTS[3] * a
            + WEIGHTS[4] * (work_at / (work_at + f));
        faults |= u64::from(outside);
        gaps |= u64::from(score.is_nan());
        scores[row] = score;
    }
    faults == 0 && (gaps == 0 || missing == Missing::Nan)
}

/// Which row and column of a block that is not sound comes first.
pub(crate) fn first_fault(
    rows: &Rows<'_>,
    missing: Missing,
    from: usize,
    first: usize,
) -> InvalidRow {
    let mut wide = [0.0; BLOCK];
    let to = rows.len().min(from + BLOCK);
    let mut found: Option<InvalidRow> = None;
    for (place, (name, column)) in COLUMNS.into_iter().zip(rows.columns).enumerate() {
        let (most, rule) = if place == 1 || place == 3 {
            (1.0, "must be from 0 to 1")
        } else {
            (f64::MAX, "must be finite and at least 0")
        };
        for (row, value) in column.block(from, to, &mut wide).iter().enumerate() {
            let gap = value.is_nan() && missing == Missing::Error;
            let row = first + from + row;
            let earlier = found.is_none_or(|found| Some(row) < found.row);
            if earlier && (gap || *value < 0.0 || *value > most) {
                found = Some(InvalidRow {
                    field: name,
                    rule,
                    row: Some(row),
                });
            }
        }
    }
    // The block was not sound by the same comparisons, so there is one.
    found.unwrap_or(InvalidRow {
        field: "price",
        rule: "must be finite and at least 0",
        row: Some(first + from),
    })
}
