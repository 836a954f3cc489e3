//! Where the offer or the party of a key is.

use ahash::RandomState;

use crate::offer::Key;
use crate::party::{Party, NONE};
use crate::standing::Standing;

/// What has a key.
pub trait Keyed {
    fn key(&self) -> &Key;
}

impl Keyed for Standing {
    fn key(&self) -> &Key {
        &self.key
    }
}

impl Keyed for Party {
    fn key(&self) -> &Key {
        &self.key
    }
}

/// Numbers of offers or of parties by their keys. The keys are where the numbers lead, and most of these are read anyway:
/// they are not kept twice. Hashed with a key of its own, as ids may be chosen to collide.
///
/// A table that is searched from the place of a hash on (linear probing, without tombstones; Knuth, volume 3, 6.4,
/// algorithms L and R). Among a million a look waits for one line of memory here; for two, where tags and numbers lie apart;
/// for none, if it was noted.
#[derive(Clone, Debug, Default)]
pub struct ByKey {
    hasher: RandomState,
    slots: Vec<Slot>,
    count: usize,
    /// By the lower bits of their tags, those that were noted: the last one of each place.
    noted: Vec<Slot>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The upper half of the key's hash, which also says where its search starts.
    tag: u32,
    /// [`NONE`] if the slot is free.
    number: u32,
}

impl Slot {
    const FREE: Self = Self {
        tag: 0,
        number: NONE,
    };
}

/// Of so many keys it is noted where they are: those with a request under way, which are asked for when it ends.
const NOTED: usize = 8_192;
/// Slots of the smallest table.
const SLOTS_MIN: usize = 8;

impl ByKey {
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    #[inline]
    pub fn get<T: Keyed>(&self, key: &Key, all: &[T]) -> Option<u32> {
        let tag = self.tag(key);
        if let Some(slot) = self.noted.get(Self::place(tag)) {
            if slot.tag == tag && slot.number != NONE && all[slot.number as usize].key() == key {
                return Some(slot.number);
            }
        }
        self.find(tag, key, all).map(|at| self.slots[at].number)
    }

    /// Notes where one is that will soon be asked for again: among a million the table is in no cache, but this is.
    pub fn note<T: Keyed>(&mut self, number: u32, all: &[T]) {
        if self.noted.is_empty() {
            self.noted = vec![Slot::FREE; NOTED];
        }
        let tag = self.tag(all[number as usize].key());
        self.noted[Self::place(tag)] = Slot { tag, number };
    }

    /// Adds the number of one whose key has none.
    pub fn insert<T: Keyed>(&mut self, number: u32, all: &[T]) {
        // At most three quarters full: nine looks for a key that is not there, on average, and two and a half else.
        if self.slots.len() < SLOTS_MIN || self.count >= self.slots.len() / 4 * 3 {
            self.grow();
        }
        let tag = self.tag(all[number as usize].key());
        self.put(Slot { tag, number });
        self.count += 1;
    }

    pub fn remove<T: Keyed>(&mut self, key: &Key, all: &[T]) -> Option<u32> {
        let tag = self.tag(key);
        let mut hole = self.find(tag, key, all)?;
        let number = self.slots[hole].number;
        if let Some(slot) = self.noted.get_mut(Self::place(tag)) {
            if slot.number == number {
                *slot = Slot::FREE;
            }
        }
        let mut at = hole;
        loop {
            at = self.behind(at);
            let slot = self.slots[at];
            if slot.number == NONE {
                break;
            }
            // One whose search goes past the hole would not be found behind it.
            if self.way(self.home(slot.tag), at) >= self.way(hole, at) {
                self.slots[hole] = slot;
                hole = at;
            }
        }
        self.slots[hole] = Slot::FREE;
        self.count -= 1;
        Some(number)
    }

    #[inline]
    fn find<T: Keyed>(&self, tag: u32, key: &Key, all: &[T]) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let mut at = self.home(tag);
        loop {
            let slot = self.slots[at];
            if slot.number == NONE {
                return None;
            }
            if slot.tag == tag && all[slot.number as usize].key() == key {
                return Some(at);
            }
            at = self.behind(at);
        }
    }

    fn put(&mut self, slot: Slot) {
        let mut at = self.home(slot.tag);
        while self.slots[at].number != NONE {
            at = self.behind(at);
        }
        self.slots[at] = slot;
    }

    fn grow(&mut self) {
        let slots = (self.slots.len() / 2 * 3).max(SLOTS_MIN);
        let mut new = large_pages::with_capacity(slots);
        new.resize(slots, Slot::FREE);
        let old = std::mem::replace(&mut self.slots, new);
        for slot in old.into_iter().filter(|slot| slot.number != NONE) {
            self.put(slot);
        }
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation)] // the upper half
    fn tag(&self, key: &Key) -> u32 {
        (self.hasher.hash_one(key) >> 32) as u32
    }

    /// Where one with a tag is noted.
    #[inline]
    fn place(tag: u32) -> usize {
        tag as usize % NOTED
    }

    /// Where the search for a tag starts.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // below the number of slots
    fn home(&self, tag: u32) -> usize {
        ((u64::from(tag) * self.slots.len() as u64) >> 32) as usize
    }

    #[inline]
    fn behind(&self, at: usize) -> usize {
        if at + 1 == self.slots.len() {
            0
        } else {
            at + 1
        }
    }

    /// How far it is from one slot to another one behind it.
    fn way(&self, from: usize, to: usize) -> usize {
        if to >= from {
            to - from
        } else {
            to + self.slots.len() - from
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    impl Keyed for Key {
        fn key(&self) -> &Key {
            self
        }
    }

    proptest! {
        #[test]
        fn finds_what_was_added_and_not_removed(
            steps in proptest::collection::vec((0..60_u8, any::<bool>(), any::<bool>()), 0..400)
        ) {
            let keys: Vec<Key> = (0..60).map(|number| [number; 16]).collect();
            let (mut table, mut plain) = (ByKey::default(), HashMap::new());
            for (number, add, note) in steps {
                let key = keys[usize::from(number)];
                if !add {
                    prop_assert_eq!(table.remove(&key, &keys), plain.remove(&key));
                } else if plain.insert(key, u32::from(number)).is_none() {
                    table.insert(number.into(), &keys);
                }
                if add && note {
                    table.note(number.into(), &keys);
                }
                prop_assert_eq!(table.len(), plain.len());
                prop_assert_eq!(table.is_empty(), plain.is_empty());
                for key in &keys {
                    prop_assert_eq!(table.get(key, &keys), plain.get(key).copied());
                }
            }
        }
    }
}
