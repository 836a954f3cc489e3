use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Bin, Sketch, Spreads};
use crate::aggregate::Aggregate;
use crate::mapping::{KEY_MAX, KEY_MIN};

fn listed(spreads: &Spreads, slot: usize) -> Vec<Bin> {
    spreads.iter(slot).collect()
}

#[test]
fn a_sketch_is_a_cache_line() {
    assert_eq!((size_of::<Sketch>(), align_of::<Sketch>()), (64, 64));
}

/// Keys near each other and keys far away, so that blocks are lists, windows, and change between them.
fn added() -> impl Strategy<Value = Vec<(usize, i16, u8)>> {
    proptest::collection::vec((0..3_usize, added_key(), 1..200_u8), 0..600)
}

fn added_key() -> impl Strategy<Value = i16> {
    prop_oneof![4 => 200..260_i16, 1 => KEY_MIN..=KEY_MAX, 1 => 0..400_i16]
}

proptest! {
    /// Whole weights in one half-life add up without rounding, so that a plain map is an exact oracle.
    #[test]
    fn bins_are_those_of_a_map(added in added(), cleared in 0..900_usize) {
        let mut spreads = Spreads::default();
        spreads.resize(3);
        let mut expected: [BTreeMap<i16, f64>; 3] = Default::default();
        for (row, &(slot, key, weight)) in added.iter().enumerate() {
            if row == cleared {
                spreads.clear(slot);
                expected[slot].clear();
            }
            spreads.add(slot, 1.0, key, f64::from(weight), 5);
            *expected[slot].entry(key).or_default() += f64::from(weight);
        }
        for (slot, expected) in expected.iter().enumerate() {
            let bins: Vec<Bin> = expected.iter().map(|(&key, &weight)| Bin { key, weight }).collect();
            prop_assert_eq!(listed(&spreads, slot), bins.clone());
            let mut again = Spreads::default();
            again.resize(1);
            again.put(0, Aggregate::of(1.0, 1.0, 5), &bins);
            prop_assert_eq!(listed(&again, 0), bins);
        }
    }
}

proptest! {
    /// Rows together are rows one by one: runs of every length, so that lists are searched and summed, and windows.
    #[test]
    fn rows_together_are_rows_one_by_one(
        runs in proptest::collection::vec((0..3_usize, proptest::collection::vec(added_key(), 1..80)), 1..12),
    ) {
        let (mut together, mut singly) = (Spreads::default(), Spreads::default());
        together.resize(3);
        singly.resize(3);
        for (slot, keys) in runs {
            let weights = vec![1.0; keys.len()];
            let mut summed = Aggregate::default();
            for (&key, &weight) in keys.iter().zip(&weights) {
                summed.join(Aggregate::of(1.0, weight, 5));
                singly.add(slot, 1.0, key, weight, 5);
            }
            together.add_rows(slot, summed, &keys, &weights);
        }
        for slot in 0..3 {
            prop_assert_eq!(listed(&together, slot), listed(&singly, slot));
            prop_assert_eq!(together.aggregate(slot), singly.aggregate(slot));
        }
    }
}

#[test]
fn after_a_very_long_time_nothing_is_left() {
    let mut spreads = Spreads::default();
    spreads.resize(1);
    for key in 0..100 {
        spreads.add(0, 1.0, key, 1.0, 0);
    }
    spreads.add(0, 1.0, 50, 1.0, 1);
    assert_eq!(
        listed(&spreads, 0)[50],
        Bin {
            key: 50,
            weight: 1.5
        }
    );
    assert_eq!(
        listed(&spreads, 0)[51],
        Bin {
            key: 51,
            weight: 0.5
        }
    );
    spreads.add(0, 1.0, 7, 1.0, 5_000);
    assert_eq!(
        listed(&spreads, 0),
        [Bin {
            key: 7,
            weight: 1.0
        }]
    );
}
