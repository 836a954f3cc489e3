//! Scores by the column: the same numbers to the bit as [`crate::score`], a block of rows at a time.
//!
//! One pass reads each column once, checks it and writes the score; the loop is compiled for the vector width of the
//! processor that runs it. Large tables are cut in pieces, one a thread.

#![allow(clippy::inline_always)] // as in the kernel, of which the sinks are a part

use std::num::NonZero;
use std::sync::LazyLock;
use std::thread;

use crate::bounds::{Invalid, InvalidRow};
use crate::kernel::{first_fault, run_rows, Missing, Rows, Sink, BLOCK};
use crate::score::{references_checked, References};
use crate::top::Top;

/// Fewer rows are not worth a thread.
const ROWS_A_THREAD: usize = 131_072;
/// More threads than this only wait for the memory.
const THREADS_MAX: usize = 4;
/// Asked once: it takes the system as long as tens of thousands of scores.
static CORES: LazyLock<usize> =
    LazyLock::new(|| thread::available_parallelism().map_or(1, NonZero::get));
/// The most rows of a table.
pub const ROWS_MAX: usize = 1 << 32;

/// The scores of all rows of `batches`, one after the other, into `scores`.
///
/// # Errors
/// [`InvalidRow`] for references that are not finite and above 0, columns of different lengths, or the first row with a
/// share outside 0 to 1 or an amount that is negative or infinite. What `scores` then holds is of no meaning.
///
/// # Panics
/// If `scores` is not as long as the batches together.
pub fn score_rows(
    batches: &[Rows<'_>],
    references: &[References],
    missing: Missing,
    scores: &mut [f64],
) -> Result<(), InvalidRow> {
    check(batches, references)?;
    let rows = batches.iter().map(Rows::len).sum();
    assert_eq!(scores.len(), rows, "one score a row");
    let pieces = pieces(batches, rows);
    let mut rest = scores;
    let works: Vec<_> = pieces
        .iter()
        .map(|piece| {
            let (mine, others) = std::mem::take(&mut rest).split_at_mut(piece.len());
            rest = others;
            move || {
                let mut sink = Out(mine);
                piece.run(references, missing, &mut sink)
            }
        })
        .collect();
    in_threads(works).into_iter().collect()
}

/// The rows of the `k` best scores, best first, with them; of equal scores, the lower row first. Rows without a score are
/// left out.
///
/// # Errors
/// As [`score_rows`].
pub fn rank_rows(
    batches: &[Rows<'_>],
    references: &[References],
    missing: Missing,
    k: usize,
) -> Result<Vec<(u64, f64)>, InvalidRow> {
    check(batches, references)?;
    let rows: usize = batches.iter().map(Rows::len).sum();
    let pieces = pieces(batches, rows);
    let works: Vec<_> = pieces
        .iter()
        .map(|piece| {
            move || {
                let mut top = Top::new(k, piece.first());
                piece.run(references, missing, &mut top)?;
                Ok::<_, InvalidRow>(top)
            }
        })
        .collect();
    let mut all = Top::new(k, 0);
    for top in in_threads(works) {
        all.merge(top?);
    }
    Ok(all.sorted())
}

fn check(batches: &[Rows<'_>], references: &[References]) -> Result<(), Invalid> {
    for known in references {
        references_checked(known)?;
    }
    batches.iter().try_for_each(|rows| rows.checked(references))
}

/// Neighbouring rows for one thread: parts of batches, each with its first row's number.
struct Piece<'a>(Vec<(usize, Rows<'a>)>);

impl Piece<'_> {
    fn len(&self) -> usize {
        self.0.iter().map(|(_, rows)| rows.len()).sum()
    }

    fn first(&self) -> usize {
        self.0.first().map_or(0, |&(first, _)| first)
    }

    fn run(
        &self,
        references: &[References],
        missing: Missing,
        sink: &mut impl Sink,
    ) -> Result<(), InvalidRow> {
        for (first, rows) in &self.0 {
            let fault = pulp::Arch::new().dispatch(Run {
                rows,
                references,
                missing,
                sink,
            });
            if let Some(from) = fault {
                return Err(first_fault(rows, missing, from, *first));
            }
        }
        Ok(())
    }
}

/// [`run_rows`] for [`pulp`]. A closure would be called, not become part of what is compiled for the vector width.
struct Run<'a, S> {
    rows: &'a Rows<'a>,
    references: &'a [References],
    missing: Missing,
    sink: &'a mut S,
}

impl<S: Sink> pulp::WithSimd for Run<'_, S> {
    type Output = Option<usize>;

    #[inline(always)]
    fn with_simd<V: pulp::Simd>(self, _: V) -> Option<usize> {
        run_rows(self.rows, self.references, self.missing, self.sink)
    }
}

/// As even pieces as there are threads worth their start.
fn pieces<'a>(batches: &[Rows<'a>], rows: usize) -> Vec<Piece<'a>> {
    let threads = (rows / ROWS_A_THREAD).clamp(1, THREADS_MAX.min(*CORES));
    let each = rows.div_ceil(threads).next_multiple_of(BLOCK);
    let mut pieces = vec![Piece(Vec::new())];
    let (mut first, mut room) = (0, each);
    for batch in batches {
        let mut from = 0;
        while from < batch.len() {
            if room == 0 {
                pieces.push(Piece(Vec::new()));
                room = each;
            }
            let to = batch.len().min(from + room);
            if let Some(piece) = pieces.last_mut() {
                piece.0.push((first + from, batch.cut(from, to)));
            }
            room -= to - from;
            from = to;
        }
        first += batch.len();
    }
    pieces
}

/// Runs all, the first one here; what they return, in their order.
fn in_threads<T: Send>(works: Vec<impl FnOnce() -> T + Send>) -> Vec<T> {
    let mut works = works.into_iter();
    let here = works.next();
    thread::scope(|scope| {
        let others: Vec<_> = works.map(|work| scope.spawn(work)).collect();
        let mut results: Vec<T> = here.into_iter().map(|work| work()).collect();
        for other in others {
            match other.join() {
                Ok(result) => results.push(result),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    })
}

struct Out<'a>(&'a mut [f64]);

impl Sink for Out<'_> {
    #[inline(always)]
    fn room(&mut self, _: usize, rows: usize) -> &mut [f64] {
        &mut self.0[..rows]
    }

    #[inline(always)]
    fn filled(&mut self, _: usize, rows: usize) {
        let scores = std::mem::take(&mut self.0);
        self.0 = &mut scores[rows..];
    }
}

impl Sink for Top {
    #[inline(always)]
    fn room(&mut self, _: usize, rows: usize) -> &mut [f64] {
        self.scratch(rows)
    }

    #[inline(always)]
    fn filled(&mut self, _: usize, rows: usize) {
        self.take(rows);
    }
}
