//! Counting a piece by merging.

use super::layout::TOKEN_BITS;
use super::scratch::{Borders, Scratch, Step};
use super::{low_bits, Match, Vocabulary};

impl Vocabulary<'_> {
    /// The number of tokens of `piece` by merging alone. None if a byte of it is in no token.
    pub fn count(&self, piece: &[u8], scratch: &mut Scratch) -> Option<usize> {
        scratch.start();
        let Scratch { path, borders, .. } = scratch;
        let mut start = 0;
        let mut shorter = None;
        // Nearly always the longest token is the one, and then no place is dead.
        while let (Some(longest), behind) = self.longest(&piece[start..]) {
            if !self.fits(borders, path.last(), longest.token) {
                shorter = behind;
                break;
            }
            path.push(Step {
                token: longest.token,
                start,
                longest: true,
            });
            start += longest.length;
        }
        if start == piece.len() {
            return Some(path.len());
        }
        self.count_from(piece, start, shorter, scratch)
    }

    /// The same from a place on, whose path is in `scratch` and where no longer token than `candidate` may be next. Where
    /// none may be, the walk goes back one token, to a shorter one.
    #[inline(never)]
    fn count_from(
        &self,
        piece: &[u8],
        mut start: usize,
        mut candidate: Option<Match>,
        scratch: &mut Scratch,
    ) -> Option<usize> {
        let Scratch {
            path,
            dead,
            borders,
        } = scratch;
        let (mut longest, mut second) = (false, None);
        while start < piece.len() {
            let fitting = loop {
                let Some(tried) = candidate else { break None };
                if !dead.contains(start + tried.length)
                    && self.fits(borders, path.last(), tried.token)
                {
                    break Some(tried);
                }
                longest = false;
                candidate = second.take().or_else(|| self.shorter(tried.token));
            };
            if let Some(Match { token, length }) = fitting {
                path.push(Step {
                    token,
                    start,
                    longest,
                });
                start += length;
                (candidate, second) = self.longest(&piece[start..]);
                longest = true;
            } else {
                dead.insert(start);
                let step = path.pop()?;
                start = step.start;
                candidate = self.shorter(step.token);
                (longest, second) = (false, None);
            }
        }
        Some(path.len())
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
