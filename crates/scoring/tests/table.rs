//! Tables against the single score, and ranks against a full sort.

use proptest::prelude::*;
use scoring::{rank_rows, score, score_rows, Inputs, Missing, References, Rows, Values};

const HALVES: References = References {
    price: 3.0,
    latency_ms: 400.0,
    work: 70.0,
};
const OTHER: References = References {
    price: 90.0,
    latency_ms: 20.0,
    ..HALVES
};

type Columns = [Vec<f64>; 5];

/// Many rows from few numbers: what is between them is a plain congruence, so that large tables cost nothing to draw.
fn columns(rows: usize, seed: u64, ties: bool) -> Columns {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let steps = if ties { 4 } else { 1 << 20 };
        #[allow(clippy::cast_precision_loss)]
        let share = ((state >> 33) % (steps + 1)) as f64 / steps as f64;
        share
    };
    let mut columns: Columns = Default::default();
    for _ in 0..rows {
        for (column, most) in columns.iter_mut().zip([500.0, 1.0, 9_000.0, 1.0, 1e6]) {
            column.push(next() * most);
        }
    }
    columns
}

fn rows<'a>(columns: &'a Columns, models: Option<&'a [u32]>) -> Rows<'a> {
    Rows {
        columns: columns.each_ref().map(|column| Values::F64(column)),
        models,
    }
}

fn singly(columns: &Columns, models: Option<&[u32]>) -> Vec<f64> {
    (0..columns[0].len())
        .map(|row| {
            let inputs = Inputs {
                price: columns[0][row],
                quality: columns[1][row],
                latency_ms: columns[2][row],
                availability: columns[3][row],
                work: columns[4][row],
            };
            let model = models.map_or(0, |models| models[row]);
            score(&inputs, &[HALVES, OTHER][model as usize]).unwrap()
        })
        .collect()
}

fn sorted(scores: &[f64], k: usize) -> Vec<(u64, f64)> {
    let mut all: Vec<(u64, f64)> = (0_u64..).zip(scores.iter().copied()).collect();
    all.sort_by(|one, two| two.1.total_cmp(&one.1));
    all.truncate(k);
    all
}

proptest! {
    #[test]
    fn rows_score_as_singly_to_the_bit(count in 0..2_000usize, seed: u64, cut in 0.0..1.0f64, by_model: bool) {
        let columns = columns(count, seed, false);
        let models: Vec<u32> = (0_u32..).take(count).map(|row| row % 2).collect();
        let models = by_model.then_some(models.as_slice());
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let cut = (cut * count as f64) as usize;
        let (head, tail): (Vec<_>, Vec<_>) = columns.iter().map(|column| column.split_at(cut)).unzip();
        let parts = [&head, &tail].map(|part| [part[0], part[1], part[2], part[3], part[4]].map(Values::F64));
        let batches = [
            Rows { columns: parts[0], models: models.map(|models| &models[..cut]) },
            Rows { columns: parts[1], models: models.map(|models| &models[cut..]) },
        ];
        let mut scores = vec![0.0; count];
        score_rows(&batches, &[HALVES, OTHER], Missing::Error, &mut scores).unwrap();
        prop_assert_eq!(scores, singly(&columns, models));
    }

    #[test]
    fn ranks_are_those_of_a_stable_sort(count in 0..3_000usize, seed: u64, ties: bool, k in 0..3_100usize) {
        let columns = columns(count, seed, ties);
        let ranked = rank_rows(&[rows(&columns, None)], &[HALVES], Missing::Error, k).unwrap();
        prop_assert_eq!(ranked, sorted(&singly(&columns, None), k));
    }

    #[test]
    fn the_first_fault_is_named(count in 1..3_000usize, seed: u64, places in proptest::collection::vec((any::<prop::sample::Index>(), 0..5usize), 1..4)) {
        let mut columns = columns(count, seed, false);
        let mut faults: Vec<(usize, usize)> = places.iter().map(|(row, column)| (row.index(count), *column)).collect();
        for &(row, column) in &faults {
            columns[column][row] = [f64::NAN, -1.0, f64::INFINITY, 1.000_001, -1e-300][column];
        }
        faults.sort_unstable();
        let mut scores = vec![0.0; count];
        let refused = score_rows(&[rows(&columns, None)], &[HALVES], Missing::Error, &mut scores).unwrap_err();
        prop_assert_eq!((refused.row, refused.field), (Some(faults[0].0), scoring::COLUMNS[faults[0].1]));
        let same = rank_rows(&[rows(&columns, None)], &[HALVES], Missing::Error, 5).unwrap_err();
        prop_assert_eq!(refused, same);
    }
}

#[test]
fn threads_change_nothing() {
    let columns = columns(700_001, 7, true);
    let expected = singly(&columns, None);
    let mut scores = vec![0.0; expected.len()];
    score_rows(
        &[rows(&columns, None)],
        &[HALVES],
        Missing::Error,
        &mut scores,
    )
    .unwrap();
    assert_eq!(scores, expected);
    for k in [1, 1_000, 400_000, 700_001, 800_000] {
        let ranked = rank_rows(&[rows(&columns, None)], &[HALVES], Missing::Error, k).unwrap();
        assert_eq!(ranked, sorted(&expected, k));
    }
    let mut late = columns.clone();
    late[1][600_000] = 2.0;
    late[4][650_000] = -2.0;
    let refused =
        score_rows(&[rows(&late, None)], &[HALVES], Missing::Error, &mut scores).unwrap_err();
    assert_eq!((refused.field, refused.row), ("quality", Some(600_000)));
}

#[test]
fn what_is_missing_has_no_score_and_no_rank() {
    let mut columns = columns(1_000, 3, false);
    columns[2][17] = f64::NAN;
    let mut scores = vec![0.0; 1_000];
    score_rows(
        &[rows(&columns, None)],
        &[HALVES],
        Missing::Nan,
        &mut scores,
    )
    .unwrap();
    assert!(scores[17].is_nan() && scores.iter().filter(|score| score.is_nan()).count() == 1);
    let ranked = rank_rows(&[rows(&columns, None)], &[HALVES], Missing::Nan, 1_000).unwrap();
    assert_eq!(ranked.len(), 999);
    columns[1][900] = -0.5;
    let refused = score_rows(
        &[rows(&columns, None)],
        &[HALVES],
        Missing::Nan,
        &mut scores,
    )
    .unwrap_err();
    assert_eq!((refused.field, refused.row), ("quality", Some(900)));
}

#[test]
fn halves_of_floats_are_widened() {
    let columns = columns(1_500, 9, false);
    #[allow(clippy::cast_possible_truncation)]
    let narrow = columns
        .each_ref()
        .map(|column| column.iter().map(|&value| value as f32).collect::<Vec<_>>());
    let widened = narrow.each_ref().map(|column| {
        column
            .iter()
            .map(|&value| f64::from(value))
            .collect::<Vec<_>>()
    });
    let mut scores = vec![0.0; 1_500];
    let batch = Rows {
        columns: narrow.each_ref().map(|column| Values::F32(column)),
        models: None,
    };
    score_rows(&[batch], &[HALVES], Missing::Error, &mut scores).unwrap();
    assert_eq!(scores, singly(&widened, None));
}

#[test]
fn columns_must_fit_together() {
    let mut columns = columns(10, 1, false);
    columns[3].pop();
    let refused = score_rows(
        &[rows(&columns, None)],
        &[HALVES],
        Missing::Error,
        &mut [0.0; 10],
    )
    .unwrap_err();
    assert_eq!((refused.field, refused.row), ("availability", None));
    columns[3].push(0.5);
    let none = References {
        work: 0.0,
        ..HALVES
    };
    let refused = score_rows(
        &[rows(&columns, None)],
        &[none],
        Missing::Error,
        &mut [0.0; 10],
    )
    .unwrap_err();
    assert_eq!(refused.field, "work_reference");
    let refused = score_rows(
        &[rows(&columns, Some(&[1; 10]))],
        &[HALVES],
        Missing::Error,
        &mut [0.0; 10],
    )
    .unwrap_err();
    assert_eq!(refused.field, "model");
}
