//! Counting a piece by merging.

use super::layout::TOKEN_BITS;
use super::scratch::{Borders, Scratch, Step};
use super::{low_bits, Match, Vocabulary};

/// So many guesses may be wrong in any piece, and so many bytes allow for one more.
const WRONG_MAX: usize = 4;
const BYTES_A_WRONG: usize = 16;

impl Vocabulary<'_> {
    /// The number of tokens of `piece` by merging alone. None if a byte of it is in no token.
    ///
    /// Any path of tokens that are all compatible is the one, however it is found.
    pub fn count(&self, piece: &[u8], scratch: &mut Scratch) -> Option<usize> {
        scratch.start();
        let Scratch { path, borders, .. } = scratch;
        let mut start = 0;
        // Nearly always the longest token is the one.
        while let Some(Match { token, length }) = self.longest(&piece[start..]) {
            if !self.fits(borders, path.last(), token) {
                return self.count_guessing(piece, scratch);
            }
            path.push(Step {
                token,
                start,
                longest: true,
            });
            start += length;
        }
        (start == piece.len()).then_some(path.len())
    }

    /// Goes on where the longest token is not compatible with the last one of the path. Most often that one was never whole:
    /// something across the border was merged before its two parts were. So it gives way to its left part.
    #[inline(never)]
    fn count_guessing(&self, piece: &[u8], scratch: &mut Scratch) -> Option<usize> {
        let Scratch { path, borders, .. } = scratch;
        let mut wrong_left = WRONG_MAX + piece.len() / BYTES_A_WRONG;
        loop {
            let torn = path.pop()?;
            let mut start = torn.start;
            let mut next = self.left_part(torn.token).filter(|_| wrong_left > 0);
            wrong_left = wrong_left.saturating_sub(1);
            if next.is_none() {
                return self.count_surely(piece, scratch);
            }
            let mut longest = false;
            while let Some(Match { token, length }) = next {
                if !self.fits(borders, path.last(), token) {
                    break;
                }
                path.push(Step {
                    token,
                    start,
                    longest,
                });
                start += length;
                next = self.longest(&piece[start..]);
                longest = true;
            }
            if start == piece.len() {
                return Some(path.len());
            }
        }
    }

    /// The same without a guess, and so in time that grows with the piece at most. Where no token may be next, the walk goes
    /// back one token, to a shorter one.
    #[inline(never)]
    pub(super) fn count_surely(&self, piece: &[u8], scratch: &mut Scratch) -> Option<usize> {
        scratch.start();
        let Scratch {
            path,
            dead,
            borders,
        } = scratch;
        let mut start = 0;
        let (mut candidate, mut longest) = (self.longest(piece), true);
        while start < piece.len() {
            let fitting = loop {
                let Some(tried) = candidate else { break None };
                if !dead.contains(start + tried.length)
                    && self.fits(borders, path.last(), tried.token)
                {
                    break Some(tried);
                }
                longest = false;
                candidate = self.shorter(tried.token);
            };
            if let Some(Match { token, length }) = fitting {
                path.push(Step {
                    token,
                    start,
                    longest,
                });
                start += length;
                (candidate, longest) = (self.longest(&piece[start..]), true);
            } else {
                dead.insert(start);
                let step = path.pop()?;
                start = step.start;
                (candidate, longest) = (self.shorter(step.token), false);
            }
        }
        Some(path.len())
    }

    /// The left one of the two that a token is merged from.
    fn left_part(&self, token: u32) -> Option<Match> {
        let left = self.split(token).left();
        let mut part = self.shorter(token)?;
        while part.token != left {
            part = self.shorter(part.token)?;
        }
        Some(part)
    }

    /// The longest token that another one begins with.
    #[inline]
    fn shorter(&self, token: u32) -> Option<Match> {
        let entry = self.shorter[token as usize];
        let token = low_bits(entry.into(), TOKEN_BITS).checked_sub(1)?;
        Some(Match {
            token,
            length: (entry >> TOKEN_BITS) as usize,
        })
    }

    /// True if `token` may be behind the last step.
    #[inline]
    fn fits(&self, borders: &mut Borders, last: Option<&Step>, token: u32) -> bool {
        let Some(last) = last else { return true };
        borders.known(last.token, token).unwrap_or_else(|| {
            // The longest token at a place, and what is behind it, are not a longer one together.
            let fits = self.compatible(last.token, token, last.longest);
            borders.note(last.token, token, fits);
            fits
        })
    }
}
