//! Which offers won of late, in little space: the newest one by one, the older the fewer.
//!
//! What an offer lost to is worked out when it is next touched, or when the tallies are taken, from the winners since. All
//! of them cannot be kept. The newest [`NEWEST`] are; behind them each level keeps one winner for twice as many requests
//! as the level before (an exponential histogram, Datar, Gionis, Indyk and Motwani 2002).

use std::collections::VecDeque;

use crate::offer::Request;

/// The newest winners, which are kept one by one.
pub const NEWEST: usize = 16;
/// Winners of each level behind.
pub const LEVEL: usize = 6;
/// With this many levels 2³⁰ requests find room; the last keeps to its length by forgetting.
pub const LEVELS_MAX: usize = 28;

/// One request that was served, or several that this one stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Win {
    /// The number of the request in its pool.
    pub number: u64,
    /// How many requests this stands for.
    pub weight: u32,
    pub price_max: i64,
    pub context_tokens: i64,
    pub output_tokens: i64,
    /// One over the number of offers that passed.
    pub share: f64,
    pub explored: bool,
    /// The deepest step that counts as good as the winner's.
    pub floor: u16,
    /// The five parts of the winner's score.
    pub parts: [f64; 5],
}

impl Win {
    /// A request that nobody won.
    pub fn of(request: &Request<'_>, number: u64) -> Self {
        Self {
            number,
            weight: 1,
            price_max: request.price_microcents_max.unwrap_or(i64::MAX),
            context_tokens: request.context_tokens,
            output_tokens: request.output_tokens,
            share: 0.0,
            explored: false,
            floor: 0,
            parts: [0.0; 5],
        }
    }
}

/// The winners of a pool since the tallies were taken.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Level by level, the newest winners first; in each the oldest first.
    pub levels: Vec<VecDeque<Win>>,
}

impl History {
    pub fn push(&mut self, win: Win) {
        let mut win = win;
        for level in 0..LEVELS_MAX {
            if level == self.levels.len() {
                self.levels.push(VecDeque::new());
            }
            let most = if level == 0 { NEWEST } else { LEVEL };
            let wins = &mut self.levels[level];
            wins.push_back(win);
            if wins.len() <= most {
                return;
            }
            let (Some(old), Some(new)) = (wins.pop_front(), wins.pop_front()) else {
                return;
            };
            // Now the one, now the other: neither earlier nor later ones are preferred.
            let kept = if (old.number ^ new.number) & 2 == 0 {
                old
            } else {
                new
            };
            win = Win {
                weight: old.weight.saturating_add(new.weight),
                ..kept
            };
        }
    }

    /// Tells of the winners since a request, that one included, the newest first; `next` is the number of the next one.
    /// Of a long time the newest sixteenth at most is left out: it would be most of the work.
    pub fn since(&self, number: u64, next: u64, mut tell: impl FnMut(&Win)) {
        let (mut level, mut kept) = (0, NEWEST as u64);
        while kept.saturating_mul(16) <= next.saturating_sub(number) {
            level += 1;
            kept = kept.saturating_add((LEVEL as u64) << level);
        }
        for wins in self.levels.iter().skip(level) {
            let (older, newer) = wins.as_slices();
            for half in [newer, older] {
                for win in half.iter().rev() {
                    if win.number < number {
                        return;
                    }
                    tell(win);
                }
            }
        }
    }

    pub fn clear(&mut self) {
        self.levels.clear();
    }
}

/// Splits a total by weights, in whole numbers (largest remainders; among equal ones the first). Exact if the weights add
/// up to it; nothing without weights.
pub fn apportion<const N: usize>(total: u64, weights: &[u64; N]) -> [u64; N] {
    let sum: u128 = weights.iter().map(|&weight| u128::from(weight)).sum();
    let mut parts = [0; N];
    if sum == 0 {
        return parts;
    }
    let mut remainders = [0; N];
    let mut left = total;
    for (index, &weight) in weights.iter().enumerate() {
        if weight == 0 {
            continue;
        }
        (parts[index], remainders[index]) = share_of(total, weight, sum);
        left -= parts[index];
    }
    let mut by_remainder: [usize; N] = std::array::from_fn(|index| index);
    by_remainder.sort_by_key(|&index| std::cmp::Reverse(remainders[index]));
    for &index in by_remainder.iter().cycle() {
        if left == 0 {
            break;
        }
        if weights[index] > 0 {
            parts[index] += 1;
            left -= 1;
        }
    }
    parts
}

/// `total · weight / sum` and what remains.
fn share_of(total: u64, weight: u64, sum: u128) -> (u64, u128) {
    // Divisions of 128 bits cost ten times those of 64.
    if let (Some(product), Ok(sum)) = (total.checked_mul(weight), u64::try_from(sum)) {
        return (product / sum, u128::from(product % sum));
    }
    let product = u128::from(total) * u128::from(weight);
    // A share of a u64 is a u64.
    (
        u64::try_from(product / sum).unwrap_or(u64::MAX),
        product % sum,
    )
}
