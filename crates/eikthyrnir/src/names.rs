//! Which provider has which slot.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use hashbrown::HashTable;
use prefetch_index::prefetch_index;
use smallvec::SmallVec;

/// Keys that are looked up at a time, so that what they wait for comes together.
pub const AT_A_TIME: usize = 64;

/// A key; one of up to 16 bytes, such as a UUID, lies in the list itself.
type Name = SmallVec<[u8; 16]>;

/// A slot, and the hash of the key that has it: most others are told apart by that, and a table that grows reads no key.
#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u32,
    slot: u32,
}

impl Entry {
    /// What the table takes: it looks at the lowest and the highest bits, and all of these depend on those 32.
    fn spread(hash: u32) -> u64 {
        u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

/// Keys to slots and back.
#[derive(Clone, Debug, Default)]
pub struct Names {
    hasher: RandomState,
    table: HashTable<Entry>,
    /// By slot; empty where it is free: no key is.
    keys: Vec<Name>,
}

impl Names {
    /// Keys known.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Slots there are, taken or free.
    pub fn slots(&self) -> usize {
        self.keys.len()
    }

    #[allow(clippy::cast_possible_truncation)] // any 32 bits of it
    fn hash(&self, key: &[u8]) -> u32 {
        self.hasher.hash_one(key) as u32
    }

    fn at(&self, slot: u32) -> &[u8] {
        &self.keys[slot as usize]
    }

    pub fn find(&self, key: &[u8]) -> Option<u32> {
        let hash = self.hash(key);
        let same = |entry: &Entry| entry.hash == hash && self.at(entry.slot) == key;
        Some(self.table.find(Entry::spread(hash), same)?.slot)
    }

    /// The slots of as many as [`AT_A_TIME`] keys.
    pub fn find_each(&self, keys: &[impl AsRef<[u8]>]) -> [Option<u32>; AT_A_TIME] {
        let mut found = [None; AT_A_TIME];
        // Three passes, and in none does a look wait for the one before: the hashes; who may have them; whether they do.
        let mut hashes = [0; AT_A_TIME];
        for (hash, key) in hashes.iter_mut().zip(keys) {
            *hash = self.hash(key.as_ref());
        }
        for (slot, hash) in found.iter_mut().zip(&hashes[..keys.len()]) {
            let likely = self
                .table
                .find(Entry::spread(*hash), |entry| entry.hash == *hash);
            *slot = likely.map(|entry| entry.slot);
            if let Some(slot) = *slot {
                prefetch_index(&self.keys, slot as usize);
            }
        }
        for (slot, key) in found.iter_mut().zip(keys) {
            let key = key.as_ref();
            if slot.is_some_and(|slot| self.at(slot) != key) {
                // Another key of the same hash was met first.
                *slot = self.find(key);
            }
        }
        found
    }

    /// Gives a free slot, or the next new one, to a key that is not known.
    pub fn insert(&mut self, key: &[u8], slot: u32) {
        let (hash, place) = (self.hash(key), slot as usize);
        if place == self.keys.len() {
            self.keys.push(Name::new());
        }
        self.keys[place] = Name::from_slice(key);
        self.table
            .insert_unique(Entry::spread(hash), Entry { hash, slot }, |entry| {
                Entry::spread(entry.hash)
            });
    }

    pub fn remove(&mut self, key: &[u8]) -> Option<u32> {
        let hash = self.hash(key);
        let same = |entry: &Entry| entry.hash == hash && *self.keys[entry.slot as usize] == *key;
        let found = self.table.find_entry(Entry::spread(hash), same).ok()?;
        let (entry, _) = found.remove();
        self.keys[entry.slot as usize] = Name::new();
        Some(entry.slot)
    }

    pub fn key(&self, slot: usize) -> &[u8] {
        &self.keys[slot]
    }

    /// Taken slots with their keys, by rising slot: what is made of them is the same each time.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let keys = self.keys.iter().map(|name| &**name).enumerate();
        keys.filter(|(_, name)| !name.is_empty())
    }

    /// Bytes held, as far as the allocator tells.
    pub fn heap_bytes(&self) -> usize {
        let apart = |name: &Name| if name.spilled() { name.capacity() } else { 0 };
        self.table.allocation_size()
            + self.keys.capacity() * size_of::<Name>()
            + self.keys.iter().map(apart).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::{Names, AT_A_TIME};

    proptest! {
        /// Whatever comes and goes, keys that lie in the list or apart: many are found as each of them is.
        #[test]
        fn many_are_found_as_each(
            changes in proptest::collection::vec((0..60_usize, any::<bool>()), 0..200),
            looked in proptest::collection::vec(0..80_usize, 1..=AT_A_TIME),
        ) {
            let key = |number: usize| vec![u8::try_from(number).unwrap(); 1 + number % 40];
            let (mut names, mut model) = (Names::default(), HashMap::new());
            let mut free = Vec::new();
            for (number, comes) in changes {
                let key = key(number);
                if comes && !model.contains_key(&key) {
                    let slot = free.pop().unwrap_or_else(|| u32::try_from(names.slots()).unwrap());
                    names.insert(&key, slot);
                    model.insert(key, slot);
                } else if !comes {
                    let slot = names.remove(&key);
                    prop_assert_eq!(slot, model.remove(&key));
                    free.extend(slot);
                }
            }
            let keys: Vec<Vec<u8>> = looked.into_iter().map(key).collect();
            for (key, found) in keys.iter().zip(names.find_each(&keys)) {
                prop_assert_eq!(found, model.get(key).copied());
                prop_assert_eq!(found, names.find(key));
            }
            prop_assert_eq!(names.len(), model.len());
            prop_assert_eq!(names.iter().count(), model.len());
        }
    }

    /// So many that some share their 32 bits of hash.
    #[test]
    fn keys_of_the_same_hash_are_told_apart() {
        let mut names = Names::default();
        let keys: Vec<[u8; 4]> = (0..400_000_u32).map(u32::to_le_bytes).collect();
        for (key, slot) in keys.iter().zip(0..) {
            names.insert(key, slot);
        }
        let hashes: HashSet<u32> = keys.iter().map(|key| names.hash(key)).collect();
        assert!(hashes.len() < keys.len());
        for (keys, first) in keys.chunks(AT_A_TIME).zip((0..).step_by(AT_A_TIME)) {
            let found = names.find_each(keys);
            assert!(found
                .iter()
                .zip(first..)
                .take(keys.len())
                .all(|(&found, slot)| found == Some(slot)));
        }
    }
}
