//! Provider keys and the places where their aggregates lie.

use crate::names::{self, Names};

/// Slots whose generations are told by one.
const TOGETHER: usize = 64;

/// Keys to slots and back. A handle is a slot and how often it was given away, so that one of a provider that was
/// removed finds nothing, and never another's aggregates.
#[derive(Clone, Debug, Default)]
pub struct Slots {
    names: Names,
    /// Odd while the slot is taken.
    generations: Vec<u32>,
    /// For each [`TOGETHER`] slots, the generation of all of them; 0 if they are not all taken for the same time. Columns of
    /// handles are mostly checked by this, which stays in the cache.
    common: Vec<u32>,
    /// How many of `common` are 1, the first generation: if all are, for nobody was removed, not even they must be looked at.
    untouched: usize,
    free: Vec<u32>,
}

impl Slots {
    /// Providers known.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Slots there are, taken or free.
    pub fn slots(&self) -> usize {
        self.names.slots()
    }

    pub fn find(&self, key: &[u8]) -> Option<usize> {
        self.names.find(key).map(|slot| slot as usize)
    }

    /// The slots of as many as [`names::AT_A_TIME`] keys.
    pub fn find_each(&self, keys: &[impl AsRef<[u8]>]) -> [Option<u32>; names::AT_A_TIME] {
        self.names.find_each(keys)
    }

    /// The slot of a provider not yet known; the caller has checked that there is room below 2³².
    pub fn insert(&mut self, key: &[u8]) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.generations.push(0);
            u32::try_from(self.generations.len() - 1).unwrap_or(u32::MAX)
        });
        self.names.insert(key, slot);
        self.generations[slot as usize] += 1;
        self.compare(slot as usize);
        slot as usize
    }

    pub fn remove(&mut self, key: &[u8]) -> Option<usize> {
        let slot = self.names.remove(key)?;
        let place = slot as usize;
        self.generations[place] = self.generations[place].wrapping_add(1);
        self.compare(place);
        if self.generations[place] != 0 {
            self.free.push(slot);
        }
        Some(place)
    }

    /// Keeps `common` after a change of this slot's generation.
    fn compare(&mut self, slot: usize) {
        let first = slot / TOGETHER * TOGETHER;
        let Some(generations) = self.generations.get(first..first + TOGETHER) else {
            return;
        };
        let generation = generations[0];
        let differ = |differ, &other: &u32| differ | (other ^ generation);
        let same = generation % 2 == 1 && generations.iter().fold(0, differ) == 0;
        self.common.resize(self.generations.len() / TOGETHER, 0);
        let common = &mut self.common[first / TOGETHER];
        self.untouched -= usize::from(*common == 1);
        *common = if same { generation } else { 0 };
        self.untouched += usize::from(*common == 1);
    }

    /// What stands for a taken slot outside.
    pub fn handle(&self, slot: usize) -> i64 {
        let handle = u64::from(self.generations[slot]) << 32 | slot as u64;
        i64::from_ne_bytes(handle.to_ne_bytes())
    }

    /// The slot of a handle, or none if it is no handle of a provider that is here.
    #[inline]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the lower half is the slot
    pub fn slot(&self, handle: i64) -> Option<usize> {
        let slot = handle as u32 as usize;
        // A slot that is not there is like a free one.
        let generation = self.generations.get(slot).copied().unwrap_or(0);
        let taken = generation % 2 == 1 && generation == (handle >> 32) as u32;
        taken.then_some(slot)
    }

    /// The first row whose handle is none of a provider that is here. Mostly the generations of many slots tell, and no row
    /// is a branch.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // both halves
    pub fn first_unknown(&self, handles: &[i64]) -> Option<usize> {
        const ROWS: usize = 64;
        let all_first = self.untouched == self.common.len();
        for (part, part_rows) in handles.chunks(ROWS * ROWS).enumerate() {
            if all_first && self.all_first(part_rows) {
                continue;
            }
            for (block, rows) in part_rows.chunks(ROWS).enumerate() {
                let differ = |differ: u32, &handle: &i64| {
                    let generation = (handle >> 32) as u32;
                    let common = self.common.get(handle as u32 as usize / TOGETHER);
                    differ | (common.copied().unwrap_or(0) ^ generation) | !generation & 1
                };
                if rows.iter().fold(0, differ) == 0 {
                    continue;
                }
                let unknown = |&handle: &i64| self.slot(handle).is_none();
                if let Some(row) = rows.iter().position(unknown) {
                    return Some((part * ROWS + block) * ROWS + row);
                }
            }
        }
        None
    }

    /// Whether all handles are of the first generation, of slots that are told together.
    #[allow(clippy::cast_sign_loss)] // smaller ones become the largest
    fn all_first(&self, handles: &[i64]) -> bool {
        const FIRST: i64 = 1 << 32;
        let end = (self.common.len() * TOGETHER) as u64;
        let beyond = pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                handles.iter().fold(0, |beyond, handle| {
                    beyond | u64::from(handle.wrapping_sub(FIRST) as u64 >= end)
                })
            },
        );
        beyond == 0
    }

    pub fn key(&self, slot: usize) -> &[u8] {
        self.names.key(slot)
    }

    /// Taken slots with their keys, by rising slot.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.names.iter()
    }

    /// Bytes held, as far as the allocator tells: keys, table, generations.
    pub fn heap_bytes(&self) -> usize {
        self.names.heap_bytes()
            + (self.generations.capacity() + self.common.capacity() + self.free.capacity())
                * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Slots;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        /// Whatever comes and goes, a column of handles is judged as each of them is.
        #[test]
        fn columns_of_handles_are_judged_as_each(
            start in prop_oneof![0..300_u16, prop::sample::select(vec![64, 128, 256])],
            changes in prop_oneof![
                Just(Vec::new()),
                proptest::collection::vec((0..300_u16, any::<bool>()), 0..80),
            ],
            ahead in prop::sample::select(vec![0, 100, 4_000, 9_000]),
            drawn in proptest::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 1..100),
        ) {
            let mut slots = Slots::default();
            let mut given = vec![-1, 0, 1, i64::MIN, i64::MAX, 3 << 32];
            let changes = (0..start).map(|key| (key, true)).chain(changes);
            for (key, comes) in changes {
                let key = key.to_le_bytes();
                match slots.find(&key) {
                    None if comes => {
                        let slot = slots.insert(&key);
                        given.push(slots.handle(slot));
                    }
                    Some(_) if !comes => {
                        slots.remove(&key);
                    }
                    _ => {}
                }
            }
            // The first slot that is not there, as if it were.
            given.push(1 << 32 | i64::try_from(slots.slots()).unwrap());
            let known: Vec<i64> = slots.iter().map(|(slot, _)| slots.handle(slot)).collect();
            let drawn = drawn.iter().map(|(index, chance)| {
                // Mostly good ones, so that the first bad one is not always the first.
                let from = if *chance == 0 || known.is_empty() { &given } else { &known };
                from[index.index(from.len())]
            });
            let column: Vec<i64> = known.iter().copied().cycle().take(ahead).chain(drawn).collect();
            let each = column.iter().position(|&handle| slots.slot(handle).is_none());
            prop_assert_eq!(slots.first_unknown(&column), each);
            prop_assert_eq!(slots.first_unknown(&known), None);
        }
    }
}
