//! Rows brought together by provider, column beside column.

use crate::batches::{Event, Own};
use crate::blocks::BLOCK;

/// Rows of one provider that follow each other, up to where the next run starts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    pub slot: u32,
    start: u32,
}

/// Some thousand rows.
#[derive(Debug, Default)]
pub struct Piece<W> {
    values: Vec<f64>,
    since_ms: Vec<u32>,
    own: Vec<W>,
    /// And one more, which starts where the last one ends.
    runs: Vec<Run>,
    /// For sorting: where the next row of a slot goes.
    places: Vec<u16>,
}

impl<W: Own> Piece<W> {
    /// Takes in rows whose slots differ in the lowest `bits` only, at most as many as are counted in 16 bits. A counting sort, and
    /// stable: every provider's rows keep their order.
    #[inline(never)]
    #[allow(clippy::cast_possible_truncation)] // at most 32
    pub fn sort(&mut self, events: &[Event<W>], bits: u32) {
        let slots = 1_usize << bits;
        if events.len() < slots / 4 {
            self.take(events);
            return;
        }
        self.values.resize(events.len(), 0.0);
        self.since_ms.resize(events.len(), 0);
        self.own.resize(events.len(), W::default());
        let (values, since_ms) = (&mut self.values[..], &mut self.since_ms[..]);
        let (own, places) = (&mut self.own[..], &mut self.places);
        places.clear();
        places.resize(slots, 0);
        let lower = slots - 1;
        for event in events {
            let count = &mut places[event.slot() as usize & lower];
            *count = count.wrapping_add(1);
        }
        self.runs.resize(slots + 1, Run::default());
        let (mut runs, mut below) = (0, 0_u16);
        let first = events[0].slot() >> bits << bits;
        for (place, slot) in places.iter_mut().zip(first..) {
            let count = std::mem::replace(place, below);
            // What is no run is overwritten by what follows: no branch that could be guessed wrong.
            self.runs[runs] = Run {
                slot,
                start: below.into(),
            };
            runs += usize::from(count > 0);
            below = below.wrapping_add(count);
        }
        end_runs(&mut self.runs, runs, events.len());
        for event in events {
            let next = &mut places[event.slot() as usize & lower];
            let row = usize::from(*next);
            values[row] = event.value;
            since_ms[row] = event.since_ms();
            own[row] = event.own;
            *next = next.wrapping_add(1);
        }
    }

    /// Takes in rows as they come, below 2³² of them.
    #[allow(clippy::cast_possible_truncation)] // the caller's promise
    pub fn take(&mut self, events: &[Event<W>]) {
        self.values.clear();
        self.since_ms.clear();
        self.own.clear();
        self.runs.resize(events.len() + 1, Run::default());
        let mut runs = 0;
        let mut last = events.first().map_or(0, |event| !event.slot());
        for (row, event) in events.iter().enumerate() {
            self.values.push(event.value);
            self.since_ms.push(event.since_ms());
            self.own.push(event.own);
            self.runs[runs] = Run {
                slot: event.slot(),
                start: row as u32,
            };
            runs += usize::from(event.slot() != last);
            last = event.slot();
        }
        end_runs(&mut self.runs, runs, events.len());
    }

    /// All rows, at most [`BLOCK`] at a time.
    pub fn parts(&self) -> impl Iterator<Item = Part<'_, W>> {
        let mut first = 0;
        (0..self.values.len()).step_by(BLOCK).map(move |from| {
            let rows = from..self.values.len().min(from + BLOCK);
            let mut behind = first + 1;
            while (self.runs[behind].start as usize) < rows.end {
                behind += 1;
            }
            let runs = &self.runs[first..=behind];
            // The last run may go on.
            first = behind - usize::from(self.runs[behind].start as usize > rows.end);
            Part {
                values: &self.values[rows.clone()],
                since_ms: &self.since_ms[rows.clone()],
                own: &self.own[rows],
                runs,
                from,
            }
        })
    }
}

/// There are so many runs of so many rows.
#[allow(clippy::cast_possible_truncation)] // as in `take`
fn end_runs(all: &mut Vec<Run>, runs: usize, rows: usize) {
    all.truncate(runs + 1);
    all[runs] = Run {
        slot: 0,
        start: rows as u32,
    };
}

/// Some of the rows of a piece.
#[derive(Debug)]
pub struct Part<'a, W> {
    pub values: &'a [f64],
    pub since_ms: &'a [u32],
    pub own: &'a [W],
    /// And the one behind them.
    runs: &'a [Run],
    /// The place of its first row in the piece.
    from: usize,
}

impl<W> Part<'_, W> {
    /// Whose its rows are.
    #[inline]
    pub fn slots(&self) -> impl Iterator<Item = usize> + '_ {
        self.runs[..self.runs.len() - 1]
            .iter()
            .map(|run| run.slot as usize)
    }

    /// Each provider's slot with the rows that follow each other here.
    #[inline]
    pub fn runs(&self) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> + '_ {
        self.runs.windows(2).map(|runs| {
            let row = |run: Run| (run.start as usize).saturating_sub(self.from);
            let rows = row(runs[0])..row(runs[1]).min(self.values.len());
            (runs[0].slot as usize, rows)
        })
    }
}
