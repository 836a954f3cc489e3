// Fills the tables of a vocabulary: when the crate is built, for those it embeds, and at run time for those that are
// registered.

use super::layout::{
    child_bit, hash_medium, hash_pair, hash_short, home, low_half, merge_to, pair_key, pilot_of,
    slot_of, AS_LEFT_SHIFT, AS_RIGHT_SHIFT, BASE_BITS, BASE_SHIFT, FREE, LOWEST_SHIFT, NO_MERGE,
    NO_PAIR, NO_RANK, PLACE_BITS, SLOTS_A_PILOT, TOKEN_BITS, TOKEN_BYTES_MAX, VALUE_SHIFT,
};

/// The base of a node without children: beyond every slot.
pub const NO_BASE: u32 = (1 << BASE_BITS) - 1;
/// The most tokens a vocabulary can have.
pub const TOKENS_MAX: usize = NO_RANK as usize;
/// The tables.
pub struct Tables {
    /// A double array over the bytes of the tokens: the child of a node with base `b` by byte `c` is slot `b ^ c`, if
    /// that is taken and has the label `c`. No two nodes share a base. The root has base 0. A slot also has a bit for each
    /// child that it may have, so that nearly always only those are looked at that there are.
    pub trie: Vec<u64>,
    /// Of each token, the two it is merged from; of one that is not merged, itself twice. Above them, the lowest rank of
    /// the pairs whose left, and of those whose right token it is.
    pub splits: Vec<u64>,
    /// The token that two others merge to, below the two, where [`slot_of`] says.
    pub pairs: Vec<u64>,
    /// By [`pilot_of`]: which slot a pair has.
    pub pilots: Vec<u8>,
    /// What each two bytes merge to, the first one being the lower half of the index; [`NO_MERGE`] if they do not.
    pub twos: Vec<u32>,
    /// Of each token, the longest other one that it begins with: that one plus one, and above it how long it is. Zero if
    /// there is none.
    pub shorter: Vec<u32>,
    /// Tokens of up to 8 bytes, hashed, padded with zeros; those that end with a zero are left out.
    pub short: Vec<u64>,
    /// Tokens of 9 to 16 bytes, likewise.
    pub medium: Vec<u128>,
}

/// What cannot be laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge(pub &'static str);

impl std::fmt::Display for TooLarge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "is too large: {}", self.0)
    }
}

/// Slots for the pairs, at least: with fewer, pilots are hard to find. Now and then one is not found with these either,
/// then there are twice as many; those of the largest vocabulary are 2²¹ then.
const fn slots_for_pairs(pairs: usize) -> usize {
    (pairs * 5 / 4 + 64).next_power_of_two()
}

/// Slots for tokens as a whole, most of which are found: again two looks.
const fn slots_for_keys(keys: usize) -> usize {
    keys * 5 / 3 + 8
}

/// The tables of `tokens`, in the order of their ranks, with `splits` as [`Tables::splits`] says, or None for a token
/// that merging never makes; that one is found as a whole piece only, and only with `unmerged`.
pub fn lay_out(
    tokens: &[Vec<u8>],
    splits: &[Option<(u32, u32)>],
    unmerged: bool,
) -> Result<Tables, TooLarge> {
    if tokens.len() > TOKENS_MAX {
        return Err(TooLarge("tokens"));
    }
    if tokens.iter().any(|token| token.len() > TOKEN_BYTES_MAX) {
        return Err(TooLarge("a token"));
    }
    let whole = || {
        let all = tokens.iter().zip(splits);
        all.filter(|(_, split)| unmerged || split.is_some())
            .map(|(token, _)| token.as_slice())
    };
    let (trie, shorter) = lay_out_trie(tokens, splits)?;
    let (pairs, pilots) = lay_out_pairs(splits)?;
    Ok(Tables {
        trie,
        shorter,
        splits: lay_out_splits(splits),
        pairs,
        pilots,
        twos: lay_out_twos(tokens, splits),
        short: lay_out_keys(whole(), 1..=8, low_half, hash_short),
        medium: lay_out_keys(whole(), 9..=16, |key| key, hash_medium),
    })
}

fn lay_out_splits(splits: &[Option<(u32, u32)>]) -> Vec<u64> {
    let (mut as_left, mut as_right) = (vec![NO_RANK; splits.len()], vec![NO_RANK; splits.len()]);
    for (token, (left, right)) in merged(splits) {
        as_left[left as usize] = as_left[left as usize].min(token);
        as_right[right as usize] = as_right[right as usize].min(token);
    }
    let lowest = as_left.into_iter().zip(as_right);
    (0..)
        .zip(splits)
        .zip(lowest)
        .map(|((token, split), (as_left, as_right))| {
            let (left, right) = split.unwrap_or((token, token));
            u64::from(left)
                | u64::from(right) << TOKEN_BITS
                | u64::from(as_left >> LOWEST_SHIFT) << AS_LEFT_SHIFT
                | u64::from(as_right >> LOWEST_SHIFT) << AS_RIGHT_SHIFT
        })
        .collect()
}

/// The tokens that are merged, and what from.
fn merged(splits: &[Option<(u32, u32)>]) -> impl Iterator<Item = (u32, (u32, u32))> + '_ {
    (0..)
        .zip(splits)
        .filter_map(|(token, split)| split.map(|pair| (token, pair)))
        .filter(|&(token, (left, _))| left != token)
}

/// The pairs, and the pilot of each few of them.
fn lay_out_pairs(splits: &[Option<(u32, u32)>]) -> Result<(Vec<u64>, Vec<u8>), TooLarge> {
    let slots = slots_for_pairs(merged(splits).count());
    let found = with_slots(splits, slots).or_else(|| with_slots(splits, 2 * slots));
    found.ok_or(TooLarge("the table of pairs"))
}

/// The same with that many slots; None if there is no pilot for some of the pairs.
fn with_slots(splits: &[Option<(u32, u32)>], count: usize) -> Option<(Vec<u64>, Vec<u8>)> {
    let (mut slots, mut pilots) = (vec![NO_PAIR; count], vec![0; count / SLOTS_A_PILOT]);
    // With each hash what its slot will hold.
    let mut groups: Vec<Vec<(u64, u64)>> = vec![Vec::new(); pilots.len()];
    for (token, (left, right)) in merged(splits) {
        let hash = hash_pair(left, right);
        let slot = pair_key(left, right) | u64::from(token << PLACE_BITS);
        groups[pilot_of(hash, pilots.len())].push((hash, slot));
    }
    // The largest groups first, while there is most room.
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by_key(|&group| std::cmp::Reverse(groups[group].len()));
    let mut taken = Vec::new();
    for group in order {
        pilots[group] = (0..=u8::MAX).find(|&pilot| {
            taken.clear();
            groups[group].iter().all(|&(hash, _)| {
                let place = slot_of(hash, pilot, count);
                let free = slots[place] == NO_PAIR && !taken.contains(&place);
                taken.push(place);
                free
            })
        })?;
        for &(hash, slot) in &groups[group] {
            slots[slot_of(hash, pilots[group], count)] = slot;
        }
    }
    Some((slots, pilots))
}

/// A token of two bytes is always merged from these two.
fn lay_out_twos(tokens: &[Vec<u8>], splits: &[Option<(u32, u32)>]) -> Vec<u32> {
    let mut table = vec![NO_MERGE; 1 << 16];
    for ((number, token), split) in (0..).zip(tokens).zip(splits) {
        if let (&[left, right], Some(_)) = (token.as_slice(), split) {
            table[usize::from(u16::from_le_bytes([left, right]))] = merge_to(number, 0);
        }
    }
    table
}

fn lay_out_keys<'a, Key: Copy + Default + PartialEq>(
    tokens: impl Iterator<Item = &'a [u8]>,
    lengths: std::ops::RangeInclusive<usize>,
    key_of: impl Fn(u128) -> Key,
    hash: impl Fn(Key) -> u64,
) -> Vec<Key> {
    let keys: Vec<Key> = tokens
        .filter(|token| lengths.contains(&token.len()) && token.last() != Some(&0))
        .map(|token| {
            let mut padded = [0; 16];
            padded[..token.len()].copy_from_slice(token);
            key_of(u128::from_le_bytes(padded))
        })
        .collect();
    let mut slots = vec![Key::default(); slots_for_keys(keys.len())];
    for key in keys {
        let mut at = home(hash(key), slots.len());
        while slots[at] != Key::default() {
            at = (at + 1) % slots.len();
        }
        slots[at] = key;
    }
    slots
}

/// The double array, filled node by node.
struct Trie {
    slots: Vec<u64>,
    base_taken: Vec<bool>,
    /// No slot before this one is free.
    first_free: usize,
}

impl Trie {
    fn is_free(&self, slot: usize) -> bool {
        self.slots.get(slot).is_none_or(|entry| entry & FREE != 0)
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
            self.slots.resize(end, FREE);
            self.base_taken.resize(end, false);
        }
        self.base_taken[base] = true;
        for &label in labels {
            self.slots[base ^ usize::from(label)] = u64::from(label);
        }
        while !self.is_free(self.first_free) {
            self.first_free += 1;
        }
    }
}

/// A node of the trie that is still to get its children.
struct Node {
    /// Where the tokens that begin with it start and end in the order of their bytes.
    start: usize,
    end: usize,
    /// None for the root.
    slot: Option<usize>,
    /// Bytes on the way to it.
    length: u32,
    /// The last token on the way to it, as [`Tables::shorter`] has it.
    last: u32,
}

/// The trie, and which token each one begins with: the last one on the way to it.
fn lay_out_trie(
    tokens: &[Vec<u8>],
    splits: &[Option<(u32, u32)>],
) -> Result<(Vec<u64>, Vec<u32>), TooLarge> {
    let mut shorter = vec![0; tokens.len()];
    let mut sorted: Vec<(&[u8], u32)> = (0..)
        .zip(tokens)
        .zip(splits)
        .filter(|(_, split)| split.is_some())
        .map(|((at, token), _)| (token.as_slice(), at))
        .collect();
    sorted.sort_unstable();
    let mut trie = Trie {
        slots: Vec::new(),
        base_taken: Vec::new(),
        first_free: 0,
    };
    let mut waiting = vec![Node {
        start: 0,
        end: sorted.len(),
        slot: None,
        length: 0,
        last: 0,
    }];
    let mut labels = Vec::new();
    while let Some(mut node) = waiting.pop() {
        let depth = node.length as usize;
        let mut entry = 0;
        if sorted[node.start].0.len() == depth {
            let token = sorted[node.start].1;
            entry |= u64::from(token + 1) << VALUE_SHIFT;
            shorter[token as usize] = node.last;
            node.last = (token + 1) | node.length << TOKEN_BITS;
            node.start += 1;
        }
        labels.clear();
        for (token, _) in &sorted[node.start..node.end] {
            if labels.last() != Some(&token[depth]) {
                labels.push(token[depth]);
            }
        }
        let base = if labels.is_empty() {
            NO_BASE as usize
        } else {
            let base = if node.slot.is_some() {
                trie.base_for(&labels)
            } else {
                0
            };
            trie.take(base, &labels);
            entry |= labels
                .iter()
                .fold(0, |bits, &label| bits | child_bit(label));
            base
        };
        if let Some(slot) = node.slot {
            let slots: &mut Vec<u64> = &mut trie.slots;
            slots[slot] |= entry | (base as u64) << BASE_SHIFT;
        }
        let mut start = node.start;
        for &label in &labels {
            let behind = &sorted[start..node.end];
            let end = start + behind.partition_point(|(token, _)| token[depth] <= label);
            waiting.push(Node {
                start,
                end,
                slot: Some(base ^ usize::from(label)),
                length: node.length + 1,
                last: node.last,
            });
            start = end;
        }
    }
    if trie.slots.len() >= NO_BASE as usize - 255 {
        return Err(TooLarge("the tree of all tokens"));
    }
    Ok((trie.slots, shorter))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the size, each pair has a slot of its own, and there are at most twice as many as wanted.
    #[test]
    fn pairs_of_any_vocabulary_are_laid_out() {
        let mut drawn = 1_u64;
        let mut below = |most: u32| {
            drawn = drawn
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            u32::try_from((drawn >> 33) % u64::from(most)).expect("below a u32")
        };
        for tokens in [256, 257, 300, 1_000, 32_000, 50_257, 151_643, 524_000] {
            let mut pairs = std::collections::HashSet::new();
            let mut splits: Vec<Option<(u32, u32)>> =
                (0..256).map(|byte| Some((byte, byte))).collect();
            for token in 256..tokens {
                // Parts of low rank are in more pairs, as they are in vocabularies.
                let pair = (
                    below(token).min(below(token)),
                    below(token).min(below(token)),
                );
                splits.push(pairs.insert(pair).then_some(pair));
            }
            let (slots, pilots) = lay_out_pairs(&splits).expect("it is laid out");
            assert!(slots.len() <= 2 * slots_for_pairs(pairs.len()));
            for (token, (left, right)) in merged(&splits) {
                let hash = hash_pair(left, right);
                let slot = slots[slot_of(hash, pilots[pilot_of(hash, pilots.len())], slots.len())];
                assert_eq!(slot ^ pair_key(left, right), u64::from(token << PLACE_BITS));
            }
        }
    }
}
