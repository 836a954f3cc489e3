//! How many requests were served from bands that reached down to a step.

/// Counts by step that add up quickly over all steps from one on (Fenwick 1994). They wrap.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wins {
    counts: Vec<u32>,
    /// `sums[i]` is the sum of the `(i + 1) & −(i + 1)` counts up to and with `i`.
    sums: Vec<u32>,
    all: u32,
}

impl Wins {
    /// Counts `more` at a step.
    pub fn add(&mut self, step: u16, more: u32) {
        let step = usize::from(step);
        if step >= self.counts.len() {
            self.grow(step + 1);
        }
        self.counts[step] = self.counts[step].wrapping_add(more);
        self.all = self.all.wrapping_add(more);
        let mut at = step;
        while let Some(sum) = self.sums.get_mut(at) {
            *sum = sum.wrapping_add(more);
            at |= at + 1;
        }
    }

    fn grow(&mut self, least: usize) {
        self.counts.resize(least.next_power_of_two().max(64), 0);
        self.sums.clone_from(&self.counts);
        for at in 0..self.sums.len() {
            let above = at | (at + 1);
            if above < self.sums.len() {
                self.sums[above] = self.sums[above].wrapping_add(self.sums[at]);
            }
        }
    }

    /// The sum over a step and all below it.
    pub fn from(&self, step: u16) -> u32 {
        let mut before = 0_u32;
        let mut end = usize::from(step).min(self.counts.len());
        while end > 0 {
            before = before.wrapping_add(self.sums[end - 1]);
            end &= end - 1;
        }
        self.all.wrapping_sub(before)
    }

    /// The steps that were counted at, with their counts.
    pub fn counted(&self) -> impl Iterator<Item = (u16, u32)> + '_ {
        // To the last step and no further: an open range counts on behind it.
        let counts = (0..=u16::MAX).zip(self.counts.iter().copied());
        counts.filter(|&(_, count)| count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::Wins;

    #[test]
    fn sums_are_those_of_the_counts() {
        let (mut wins, mut plain) = (Wins::default(), vec![0_u32; 3_000]);
        let mut state = 1_u64;
        for _ in 0..2_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let (step, more) = ((state >> 33) % 2_000, (state >> 50) as u32);
            wins.add(u16::try_from(step).unwrap(), more);
            plain[usize::try_from(step).unwrap()] += more;
            let from = (state >> 20) % 3_000;
            let sum: u32 = plain[usize::try_from(from).unwrap()..].iter().sum();
            assert_eq!(wins.from(u16::try_from(from).unwrap()), sum);
        }
        assert_eq!(wins.counted().map(|one| one.1).sum::<u32>(), wins.from(0));
    }

    #[test]
    fn the_deepest_step_is_counted() {
        let mut wins = Wins::default();
        wins.add(u16::MAX, 3);
        wins.add(40_000, 2);
        assert_eq!(
            wins.counted().collect::<Vec<_>>(),
            [(40_000, 2), (u16::MAX, 3)]
        );
        assert_eq!((wins.from(40_001), wins.from(0)), (3, 5));
    }
}
