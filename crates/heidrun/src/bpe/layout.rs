// A vocabulary as tables that need no unpacking. Used when the crate is built, for those it embeds, and at run time for
// those that are registered.
//
// All numbers are little endian. A token's number is its rank: the order in which byte-pair encoding merges.

use std::collections::HashMap;

/// Bits of a token's number, plus one, in a slot of the trie.
pub const VALUE_BITS: u32 = 19;
/// Bits of a base in a slot of the trie.
pub const BASE_BITS: u32 = 20;
/// Bytes of a slot of the trie: label (8 bits), base, value, and one bit that says that the slot is taken.
pub const TRIE_SLOT_BYTES: usize = 6;
/// The base of a node without children: beyond every slot.
pub const NO_BASE: u32 = (1 << BASE_BITS) - 1;
/// Bytes of an entry of `splits`: two token numbers of [`BASE_BITS`] bits each.
pub const SPLIT_BYTES: usize = 5;
/// Bits of a token's number, plus one, in a slot of `pairs`; the rest of its 32 bits is part of the hash.
pub const PAIR_TOKEN_BITS: u32 = 19;
/// The most tokens a vocabulary can have.
pub const TOKENS_MAX: usize = (1 << VALUE_BITS) - 2;
/// The most bytes a token can have.
pub const TOKEN_BYTES_MAX: usize = 255;

/// The tables.
pub struct Tables {
    /// A double array over the bytes of the tokens: the child of a node with base `b` by byte `c` is slot `b ^ c`, if
    /// that is taken and has the label `c`. No two nodes share a base. The root has base 0.
    pub trie: Vec<u8>,
    /// Of each token, the two it is merged from; of one that is not merged, itself twice.
    pub splits: Vec<u8>,
    /// The token that two others merge to, hashed.
    pub pairs: Vec<u8>,
    /// Tokens of up to 8 bytes, hashed, padded with zeros; those that end with a zero are left out.
    pub short: Vec<u8>,
    /// Tokens of 9 to 16 bytes, likewise.
    pub medium: Vec<u8>,
}

/// What cannot be laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge(pub &'static str);

/// A multiplier that spreads keys over their upper bits (2⁶⁴ divided by the golden ratio).
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// The hash of two tokens.
#[inline]
pub const fn hash_pair(left: u32, right: u32) -> u64 {
    let key = (left as u64) << 32 | right as u64;
    (key ^ key >> 15).wrapping_mul(SPREAD)
}

/// The hash of up to 8 bytes.
#[inline]
pub const fn hash_short(key: u64) -> u64 {
    (key ^ key >> 32).wrapping_mul(SPREAD)
}

/// The hash of up to 16 bytes.
#[inline]
#[allow(clippy::cast_possible_truncation)] // the halves
pub const fn hash_medium(key: u128) -> u64 {
    hash_short((key as u64).wrapping_mul(SPREAD) ^ (key >> 64) as u64)
}

/// The slot, of `slots`, where the search for a hash starts.
#[inline]
#[allow(clippy::cast_possible_truncation)] // below `slots`
pub const fn home(hash: u64, slots: usize) -> usize {
    ((hash >> 32) * slots as u64 >> 32) as usize
}

/// The part of a pair's hash that its slot repeats.
#[inline]
#[allow(clippy::cast_possible_truncation)] // meant
pub const fn fingerprint(hash: u64) -> u32 {
    (hash as u32) >> PAIR_TOKEN_BITS << PAIR_TOKEN_BITS
}

/// Slots for that many keys: a third more than half of them stay free of a collision.
const fn slots_for(keys: usize) -> usize {
    keys + keys / 2 + 8
}

/// The tables of `tokens`, in the order of their ranks, with `splits` as [`Tables::splits`] says, or None for a token
/// that encoding never reaches; that one is found as a whole only.
pub fn lay_out(tokens: &[Vec<u8>], splits: &[Option<(u32, u32)>]) -> Result<Tables, TooLarge> {
    if tokens.len() > TOKENS_MAX {
        return Err(TooLarge("tokens"));
    }
    if tokens.iter().any(|token| token.len() > TOKEN_BYTES_MAX) {
        return Err(TooLarge("a token"));
    }
    Ok(Tables {
        trie: lay_out_trie(tokens, splits)?,
        splits: lay_out_splits(splits),
        pairs: lay_out_pairs(splits),
        short: lay_out_keys::<8>(tokens, 1..=8, |key| hash_short(key as u64)),
        medium: lay_out_keys::<16>(tokens, 9..=16, hash_medium),
    })
}

fn lay_out_splits(splits: &[Option<(u32, u32)>]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(splits.len() * SPLIT_BYTES + 8);
    for (token, split) in splits.iter().enumerate() {
        let (left, right) = split.unwrap_or((token as u32, token as u32));
        let entry = u64::from(left) | u64::from(right) << BASE_BITS;
        bytes.extend(&entry.to_le_bytes()[..SPLIT_BYTES]);
    }
    // An entry is read as 8 bytes.
    bytes.extend([0; 8]);
    bytes
}

fn lay_out_pairs(splits: &[Option<(u32, u32)>]) -> Vec<u8> {
    let merged = || {
        splits.iter().enumerate().filter_map(|(token, split)| {
            split
                .filter(|&(left, _)| left as usize != token)
                .map(|pair| (token, pair))
        })
    };
    let mut slots = vec![0u32; slots_for(merged().count())];
    for (token, (left, right)) in merged() {
        let hash = hash_pair(left, right);
        let mut at = home(hash, slots.len());
        while slots[at] != 0 {
            at = (at + 1) % slots.len();
        }
        slots[at] = fingerprint(hash) | (token as u32 + 1);
    }
    slots.iter().flat_map(|slot| slot.to_le_bytes()).collect()
}

fn lay_out_keys<const BYTES: usize>(
    tokens: &[Vec<u8>],
    lengths: std::ops::RangeInclusive<usize>,
    hash: impl Fn(u128) -> u64,
) -> Vec<u8> {
    let keys: Vec<u128> = tokens
        .iter()
        .filter(|token| lengths.contains(&token.len()) && token.last() != Some(&0))
        .map(|token| {
            let mut padded = [0; 16];
            padded[..token.len()].copy_from_slice(token);
            u128::from_le_bytes(padded)
        })
        .collect();
    let mut slots = vec![0u128; slots_for(keys.len())];
    for key in keys {
        let mut at = home(hash(key), slots.len());
        while slots[at] != 0 {
            at = (at + 1) % slots.len();
        }
        slots[at] = key;
    }
    slots
        .iter()
        .flat_map(|slot| slot.to_le_bytes().into_iter().take(BYTES))
        .collect()
}

/// The double array, filled node by node.
struct Trie {
    slots: Vec<u64>,
    base_taken: Vec<bool>,
    /// No slot before this one is free.
    first_free: usize,
}

impl Trie {
    const TAKEN: u64 = 1 << 47;

    fn is_free(&self, slot: usize) -> bool {
        self.slots.get(slot).is_none_or(|entry| entry & Self::TAKEN == 0)
    }

    /// A base that no other node has, with free slots for all `labels`.
    fn base_for(&mut self, labels: &[u8]) -> usize {
        let mut from = self.first_free;
        loop {
            while !self.is_free(from) {
                from += 1;
            }
            let base = from ^ usize::from(labels[0]);
            let fits = !self.base_taken.get(base).copied().unwrap_or(false)
                && labels[1..]
                    .iter()
                    .all(|&label| self.is_free(base ^ usize::from(label)));
            if fits {
                return base;
            }
            from += 1;
            // Nodes with many children would search the crumbs of the beginning again and again.
            if labels.len() == 1 && from - self.first_free > 4_096 {
                self.first_free += 256;
            }
        }
    }

    fn take(&mut self, base: usize, labels: &[u8]) {
        let end = (base | 255) + 1;
        if self.slots.len() < end {
            self.slots.resize(end, 0);
            self.base_taken.resize(end, false);
        }
        self.base_taken[base] = true;
        for &label in labels {
            self.slots[base ^ usize::from(label)] = Self::TAKEN | u64::from(label);
        }
        while !self.is_free(self.first_free) {
            self.first_free += 1;
        }
    }
}

fn lay_out_trie(
    tokens: &[Vec<u8>],
    splits: &[Option<(u32, u32)>],
) -> Result<Vec<u8>, TooLarge> {
    let mut sorted: Vec<(&[u8], u64)> = tokens
        .iter()
        .enumerate()
        .filter(|&(at, _)| splits[at].is_some())
        .map(|(at, token)| (token.as_slice(), at as u64))
        .collect();
    sorted.sort_unstable();
    let mut trie = Trie {
        slots: Vec::new(),
        base_taken: Vec::new(),
        first_free: 0,
    };
    // A node: its slot (none for the root), its depth, and its tokens in `sorted`.
    let mut waiting = vec![(None, 0usize, 0..sorted.len())];
    let mut labels = Vec::new();
    while let Some((slot, depth, mut range)) = waiting.pop() {
        let mut entry = 0;
        if sorted[range.start].0.len() == depth {
            entry |= (sorted[range.start].1 + 1) << (8 + BASE_BITS);
            range.start += 1;
        }
        labels.clear();
        for (token, _) in &sorted[range.clone()] {
            if labels.last() != Some(&token[depth]) {
                labels.push(token[depth]);
            }
        }
        let base = if labels.is_empty() {
            NO_BASE as usize
        } else {
            let base = if slot.is_some() { trie.base_for(&labels) } else { 0 };
            trie.take(base, &labels);
            base
        };
        if let Some(slot) = slot {
            let slots: &mut Vec<u64> = &mut trie.slots;
            slots[slot] |= entry | (base as u64) << 8;
        }
        let mut start = range.start;
        for &label in &labels {
            let count = sorted[start..range.end].partition_point(|(token, _)| token[depth] <= label);
            waiting.push((Some(base ^ usize::from(label)), depth + 1, start..start + count));
            start += count;
        }
    }
    if trie.slots.len() >= NO_BASE as usize - 255 {
        return Err(TooLarge("the tree of all tokens"));
    }
    let mut bytes: Vec<u8> = trie
        .slots
        .iter()
        .flat_map(|slot| slot.to_le_bytes().into_iter().take(TRIE_SLOT_BYTES))
        .collect();
    // A slot is read as 8 bytes.
    bytes.extend([0; 8]);
    Ok(bytes)
}

/// The splits of a vocabulary that is told by ranks alone, where any two neighbours merge whose bytes are a token: of each
/// token the last merge by which encoding its own bytes makes it. In no text is it made by another, for what happens
/// inside a token's bytes before it is whole is the same in every text.
pub fn splits_of_ranks(tokens: &[Vec<u8>]) -> Vec<Option<(u32, u32)>> {
    let ranks: HashMap<&[u8], u32> = tokens
        .iter()
        .enumerate()
        .map(|(rank, token)| (token.as_slice(), rank as u32))
        .collect();
    tokens
        .iter()
        .enumerate()
        .map(|(rank, token)| {
            if token.len() == 1 {
                return Some((rank as u32, rank as u32));
            }
            // The borders between the parts.
            let mut borders: Vec<usize> = (0..=token.len()).collect();
            loop {
                let best = borders
                    .windows(3)
                    .enumerate()
                    .filter_map(|(at, window)| {
                        let joined = &token[window[0]..window[2]];
                        ranks.get(joined).map(|&rank| (rank, at))
                    })
                    .min();
                let (_, at) = best?;
                if borders.len() == 3 {
                    return Some((ranks[&token[..borders[1]]], ranks[&token[borders[1]..]]));
                }
                borders.remove(at + 1);
            }
        })
        .collect()
}
