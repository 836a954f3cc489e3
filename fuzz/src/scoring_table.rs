//! Tables of any numbers, against the score of one row at a time.
//!
//! The bytes are the shape of the table, its references, and the values, as they lie in memory.

use scoring::{
    rank_rows, score, score_rows, Inputs, InvalidRow, Missing, References, Rows, Values, COLUMNS,
};

use crate::source::Source;

/// What the bytes say.
struct Table {
    references: Vec<References>,
    wide: [Vec<f64>; 5],
    /// Columns that are given as 32-bit floats.
    narrow: [Option<Vec<f32>>; 5],
    models: Option<Vec<u32>>,
    missing: Missing,
    /// Where the second batch begins.
    cut: usize,
    k: usize,
}

impl Table {
    #[allow(clippy::cast_possible_truncation)] // narrow columns are
    fn new(data: &[u8]) -> Self {
        let mut source = Source(data);
        let [rows, kinds, shape, cut] = [
            source.short(),
            source.short(),
            source.short(),
            source.short(),
        ];
        let rows = usize::from(rows) % 700;
        let references = (0..=usize::from(shape) % 3).map(|_| reference(&mut source));
        let references: Vec<References> = references.collect();
        let models = (shape & 8 != 0).then(|| {
            // Now and then one that is not there.
            let end = references.len() + usize::from(shape & 0xF00 == 0xF00);
            (0..rows).map(|row| (row % end) as u32).collect()
        });
        let mut wide: [Vec<f64>; 5] = Default::default();
        let mut narrow: [Option<Vec<f32>>; 5] = Default::default();
        for (place, column) in wide.iter_mut().enumerate() {
            let most = if place == 1 || place == 3 {
                1.0
            } else {
                5_000.0
            };
            *column = (0..rows).map(|_| value(&mut source, most)).collect();
            if kinds >> place & 1 == 1 {
                narrow[place] = Some(column.iter().map(|&value| value as f32).collect());
                for value in column {
                    *value = f64::from(*value as f32);
                }
            }
        }
        Self {
            references,
            wide,
            narrow,
            models,
            missing: if shape & 16 == 0 {
                Missing::Error
            } else {
                Missing::Nan
            },
            cut: usize::from(cut) % (rows + 1),
            k: usize::from(shape >> 6) % 40,
        }
    }

    fn rows(&self) -> usize {
        self.wide[0].len()
    }

    fn batch(&self, from: usize, to: usize) -> Rows<'_> {
        let place = |place: usize| match &self.narrow[place] {
            Some(values) => Values::F32(&values[from..to]),
            None => Values::F64(&self.wide[place][from..to]),
        };
        Rows {
            columns: [place(0), place(1), place(2), place(3), place(4)],
            models: self.models.as_ref().map(|models| &models[from..to]),
        }
    }

    /// By the definition: row by row, column by column; none where a value is missing.
    fn expected(&self) -> Result<Vec<Option<f64>>, InvalidRow> {
        let common = self.references[0];
        for references in &self.references {
            scoring::references_checked(references)?;
        }
        let known = |&model: &u32| (model as usize) < self.references.len();
        if !self.models.iter().flatten().all(known) {
            return Err(InvalidRow {
                field: "model",
                rule: "must have as many rows as price, each with references",
                row: None,
            });
        }
        (0..self.rows())
            .map(|row| {
                let its = self.models.as_ref().map_or(common, |models| {
                    let own = self.references[models[row] as usize];
                    References {
                        work: common.work,
                        ..own
                    }
                });
                self.one(row, &its)
            })
            .collect()
    }

    fn one(&self, row: usize, references: &References) -> Result<Option<f64>, InvalidRow> {
        let values = self.wide.each_ref().map(|column| column[row]);
        let mut any_missing = false;
        // A missing value stands for one that is sound, so that the others are checked.
        let sound = values.map(|value| {
            let missing = value.is_nan() && self.missing == Missing::Nan;
            any_missing |= missing;
            if missing {
                0.5
            } else {
                value
            }
        });
        let inputs = Inputs {
            price: sound[0],
            quality: sound[1],
            latency_ms: sound[2],
            availability: sound[3],
            work: sound[4],
        };
        let score = score(&inputs, references).map_err(|error| InvalidRow {
            row: Some(row),
            ..InvalidRow::from(error)
        })?;
        Ok((!any_missing).then_some(score))
    }
}

fn reference(source: &mut Source<'_>) -> References {
    let mut positive = || match source.byte() {
        0..=250 => f64::from(source.short()) + 0.5,
        _ => source.float(),
    };
    References {
        price: positive(),
        latency_ms: positive(),
        work: positive(),
    }
}

/// Mostly a sound one, now and then anything.
fn value(source: &mut Source<'_>, most: f64) -> f64 {
    match source.byte() {
        0..=252 => f64::from(source.byte()) / 255.0 * most,
        253 => f64::NAN,
        _ => source.float(),
    }
}

/// Tries it.
///
/// # Panics
/// If the engine is wrong: that is what it is for.
pub fn run(data: &[u8]) {
    let table = Table::new(data);
    let batches = [
        table.batch(0, table.cut),
        table.batch(table.cut, table.rows()),
    ];
    let mut scores = vec![0.0; table.rows()];
    let outcome = score_rows(&batches, &table.references, table.missing, &mut scores);
    let ranked = rank_rows(&batches, &table.references, table.missing, table.k);
    let expected = match table.expected() {
        Ok(expected) => expected,
        Err(error) => {
            assert_eq!(outcome, Err(error));
            assert_eq!(ranked, Err(error));
            return;
        }
    };
    assert_eq!(outcome, Ok(()), "{COLUMNS:?}");
    for (row, (&score, expected)) in scores.iter().zip(&expected).enumerate() {
        let same = match expected {
            None => score.is_nan(),
            Some(expected) => score.to_bits() == expected.to_bits(),
        };
        assert!(same, "row {row}: {score} is not {expected:?}");
    }
    let rows = expected.iter().enumerate();
    let mut best: Vec<(u64, f64)> = rows
        .filter_map(|(row, score)| Some((row as u64, (*score)?)))
        .collect();
    best.sort_by(|one, two| two.1.total_cmp(&one.1).then(one.0.cmp(&two.0)));
    best.truncate(table.k);
    assert_eq!(ranked, Ok(best));
}

/// Tables of all shapes.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut drawn = crate::drawn::Drawn(1);
    [
        (0_u16, 0_u16),
        (1, 0),
        (300, 8),
        (600, 0x1F),
        (257, 0x508),
        (513, 0x7D9),
    ]
    .iter()
    .map(|&(rows, shape)| {
        let mut seed = Vec::new();
        for number in [rows, shape, shape, rows / 2] {
            seed.extend(number.to_le_bytes());
        }
        // Two bytes a value, the first one mostly below 253.
        for _ in 0..usize::from(rows) * 5 + 20 {
            let kind = if drawn.below(2_000) == 0 { 253 } else { 7 };
            seed.extend([kind, drawn.bits().to_le_bytes()[0]]);
        }
        seed
    })
    .collect()
}
