//! The list of merges of a file as what the tables are made of: tokens in the order in which they are merged.

use std::collections::HashMap;

use super::file::Model;
use super::FileError;

const MERGES_MAX: usize = 2_000_000;

/// Tokens by their number, and what each is merged from.
pub struct Merged {
    /// Those that are not merged come first.
    pub tokens: Vec<Vec<u8>>,
    /// As [`crate::bpe::Tables`] has them.
    pub splits: Vec<Option<(u32, u32)>>,
}

/// Tokens as they are met in the list.
struct List {
    tokens: Vec<Vec<u8>>,
    numbers: HashMap<Vec<u8>, u32>,
    /// By the two that are merged: the place of the merge in the list, and the token.
    merges: HashMap<(u32, u32), (usize, u32)>,
}

/// The tokens of `model`, those of `base` first. `bytes_of` gives the bytes of a token, None for one that is not in the
/// vocabulary.
///
/// A list may name several merges to one token. Only one of them ever happens: what goes on inside the bytes of a token
/// before it is whole is the same in every text, and so is the last merge to it. That merge is found here for each token,
/// and its place in the list is the token's rank; a token that its own bytes do not merge to is in no text.
///
/// # Errors
/// [`FileError`] with the place of a merge: it is of something else than two tokens, or stands before the merges to its
/// parts, so that merging would not go by rank.
pub fn merged(
    base: Vec<Vec<u8>>,
    model: &Model,
    bytes_of: impl Fn(&str) -> Option<Vec<u8>>,
) -> Result<Merged, FileError> {
    let longest_base = base.iter().map(Vec::len).max().unwrap_or(0);
    let base_count = base.len();
    let list = List::read(base, model, bytes_of)?;
    let mut made: Vec<(usize, u32, (u32, u32))> = Vec::new();
    for token in base_count..list.tokens.len() {
        if let Some((place, pair)) = list.last_merge(token, base_count, longest_base) {
            made.push((place, u32::try_from(token).unwrap_or(u32::MAX), pair));
        }
    }
    made.sort_unstable();
    let mut merged = Merged {
        tokens: list.tokens[..base_count].to_vec(),
        splits: (0..base_count)
            .map(|token| u32::try_from(token).ok().map(|token| (token, token)))
            .collect(),
    };
    // By number in the list: the number by rank, as far as they are given.
    let mut ranked: Vec<Option<u32>> = vec![None; list.tokens.len()];
    for (number, entry) in (0..).zip(&mut ranked[..base_count]) {
        *entry = Some(number);
    }
    for (place, token, (left, right)) in made {
        let (Some(left), Some(right)) = (ranked[left as usize], ranked[right as usize]) else {
            return Err(refused(place, "must follow the merges to its parts"));
        };
        ranked[token as usize] = u32::try_from(merged.tokens.len()).ok();
        merged.tokens.push(list.tokens[token as usize].clone());
        merged.splits.push(Some((left, right)));
    }
    // Those that are in no text, so that a whole piece can still be one of them.
    for (token, number) in list.tokens.into_iter().zip(ranked) {
        if number.is_none() {
            merged.tokens.push(token);
            merged.splits.push(None);
        }
    }
    Ok(merged)
}

fn refused(place: usize, rule: &str) -> FileError {
    FileError::new(format!("model.merges[{place}]"), rule)
}

impl List {
    fn read(
        base: Vec<Vec<u8>>,
        model: &Model,
        bytes_of: impl Fn(&str) -> Option<Vec<u8>>,
    ) -> Result<Self, FileError> {
        let merges = model.merges.as_deref().unwrap_or(&[]);
        if merges.len() > MERGES_MAX {
            return Err(FileError::new("model.merges", "must be at most 2000000"));
        }
        let mut list = Self {
            numbers: base.iter().cloned().zip(0..).collect(),
            tokens: base,
            merges: HashMap::new(),
        };
        for (place, merge) in merges.iter().enumerate() {
            let Some((left, right)) = merge.parts() else {
                return Err(refused(place, "must be two tokens"));
            };
            let whole = bytes_of(&[left, right].concat());
            let (Some(left), Some(right), Some(whole)) = (bytes_of(left), bytes_of(right), whole)
            else {
                return Err(refused(place, "has a token that is not in model.vocab"));
            };
            if left.is_empty() || right.is_empty() {
                return Err(refused(place, "must be two tokens"));
            }
            let pair = (list.number(left), list.number(right));
            let whole = list.number(whole);
            list.merges.insert(pair, (place, whole));
        }
        Ok(list)
    }

    fn number(&mut self, token: Vec<u8>) -> u32 {
        if let Some(&number) = self.numbers.get(&token) {
            return number;
        }
        let number = u32::try_from(self.tokens.len()).unwrap_or(u32::MAX);
        self.tokens.push(token.clone());
        self.numbers.insert(token, number);
        number
    }

    /// The last merge by which encoding the token's own bytes makes it, and its place; None if it makes something else.
    fn last_merge(
        &self,
        token: usize,
        base_count: usize,
        longest_base: usize,
    ) -> Option<(usize, (u32, u32))> {
        let mut parts = Vec::new();
        let mut rest = self.tokens[token].as_slice();
        while !rest.is_empty() {
            // A byte, or a character: no base token begins another.
            let (number, length) = (1..=longest_base.min(rest.len())).find_map(|length| {
                let number = *self.numbers.get(&rest[..length])?;
                ((number as usize) < base_count).then_some((number, length))
            })?;
            parts.push(number);
            rest = &rest[length..];
        }
        loop {
            let (at, (place, merged)) = parts
                .windows(2)
                .enumerate()
                .filter_map(|(at, pair)| Some((at, *self.merges.get(&(pair[0], pair[1]))?)))
                .min_by_key(|&(at, (place, _))| (place, at))?;
            if parts.len() == 2 {
                return (merged as usize == token).then_some((place, (parts[0], parts[1])));
            }
            parts[at] = merged;
            parts.remove(at + 1);
        }
    }
}
