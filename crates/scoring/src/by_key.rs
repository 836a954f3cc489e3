//! Where the offer or the party of a key is.

use ahash::RandomState;
use hashbrown::HashTable;

use crate::offer::Key;
use crate::party::Party;
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
#[derive(Clone, Debug, Default)]
pub struct ByKey {
    hasher: RandomState,
    numbers: HashTable<u32>,
}

impl ByKey {
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    #[inline]
    pub fn get<T: Keyed>(&self, key: &Key, all: &[T]) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        let is = |number: &u32| all[*number as usize].key() == key;
        self.numbers.find(hash, is).copied()
    }

    /// Adds the number of one whose key has none.
    pub fn insert<T: Keyed>(&mut self, number: u32, all: &[T]) {
        let hash = |number: &u32| self.hasher.hash_one(all[*number as usize].key());
        self.numbers.insert_unique(hash(&number), number, hash);
    }

    pub fn remove<T: Keyed>(&mut self, key: &Key, all: &[T]) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        let is = |number: &u32| all[*number as usize].key() == key;
        let found = self.numbers.find_entry(hash, is).ok()?;
        Some(found.remove().0)
    }
}
