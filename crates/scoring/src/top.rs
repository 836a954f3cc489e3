//! The best of many without sorting them all.

#![allow(clippy::inline_always)] // a part of the kernel's loop

/// Scores looked at together.
const SCRATCH: usize = 512;

/// The `k` best (row, score) of those seen in rising order of row.
#[derive(Clone, Debug)]
pub struct Top {
    k: usize,
    /// The row of the next score.
    next: u64,
    /// At most `2 k` or a few more; the `k` best of what was seen are among them.
    kept: Vec<(u64, f64)>,
    /// A score that does not beat this is not among the `k` best: `k` earlier rows are as good.
    least: f64,
    scratch: Vec<f64>,
}

impl Top {
    pub fn new(k: usize, first: usize) -> Self {
        Self {
            k,
            next: first as u64,
            kept: Vec::new(),
            least: f64::NEG_INFINITY,
            scratch: vec![0.0; SCRATCH],
        }
    }

    /// Room for the next scores, at most [`SCRATCH`].
    #[inline(always)]
    pub fn scratch(&mut self, rows: usize) -> &mut [f64] {
        &mut self.scratch[..rows]
    }

    /// Takes the scores in the scratch.
    #[inline(always)]
    #[allow(clippy::needless_bitwise_bool)] // a branch is no vector
    pub fn take(&mut self, rows: usize) {
        let any = self.scratch[..rows]
            .iter()
            .fold(false, |any, &score| any | (score > self.least));
        if any {
            self.take_each(rows);
        }
        self.next += rows as u64;
    }

    #[inline(never)]
    fn take_each(&mut self, rows: usize) {
        for place in 0..rows {
            let score = self.scratch[place];
            if score > self.least {
                self.kept.push((self.next + place as u64, score));
            }
        }
        if self.kept.len() >= self.k.saturating_mul(2).max(SCRATCH) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if self.kept.len() <= self.k {
            return;
        }
        if self.k == 0 {
            self.kept.clear();
            self.least = f64::INFINITY;
            return;
        }
        let (_, last, _) = self.kept.select_nth_unstable_by(self.k - 1, better);
        self.least = last.1;
        self.kept.truncate(self.k);
    }

    /// Adds what another saw of other rows.
    pub fn merge(&mut self, other: Self) {
        self.kept.extend(other.kept);
        self.cut();
    }

    /// The best, best first.
    pub fn sorted(mut self) -> Vec<(u64, f64)> {
        self.cut();
        self.kept.sort_unstable_by(better);
        self.kept
    }
}

/// The higher score first, of equal ones the lower row.
fn better(one: &(u64, f64), two: &(u64, f64)) -> std::cmp::Ordering {
    two.1.total_cmp(&one.1).then(one.0.cmp(&two.0))
}
