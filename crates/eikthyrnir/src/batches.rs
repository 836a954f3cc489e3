//! Rows on their way to their aggregates, and batches of those whose times are near each other.

use std::sync::Mutex;

use crate::aggregate::HalfLife;
use crate::columns::{Observations, Times};

/// A batch's times are counted in 32 bits, with the first row's in the middle: 24 days either way.
const MIDDLE_MS: i64 = 1 << 31;

/// What a row weighs of its own: 1 or a number. Rows without weights carry none around.
pub trait Own: Copy + Default + 'static {
    /// The weight.
    fn weight(self) -> f64;

    /// Room for sorting, kept from one column to the next: taking fresh pages costs as much as sorting.
    fn room() -> &'static Mutex<Vec<Event<Self>>>;
}

impl Own for () {
    fn room() -> &'static Mutex<Vec<Event<Self>>> {
        static ROOM: Mutex<Vec<Event<()>>> = Mutex::new(Vec::new());
        &ROOM
    }

    #[inline]
    fn weight(self) -> f64 {
        1.0
    }
}

impl Own for f64 {
    fn room() -> &'static Mutex<Vec<Event<Self>>> {
        static ROOM: Mutex<Vec<Event<f64>>> = Mutex::new(Vec::new());
        &ROOM
    }

    #[inline]
    fn weight(self) -> f64 {
        self
    }
}

/// A row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Event<W> {
    pub value: f64,
    /// The slot below the time, in one: fewer and wider stores, which is what sorting waits for.
    place: u64,
    pub own: W,
}

impl<W> Event<W> {
    #[inline]
    fn new(value: f64, slot: u32, since_ms: u32, own: W) -> Self {
        Self {
            value,
            place: u64::from(since_ms) << 32 | u64::from(slot),
            own,
        }
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation)] // the lower half
    pub fn slot(&self) -> u32 {
        self.place as u32
    }

    /// From the origin of its batch.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // the upper half
    pub fn since_ms(&self) -> u32 {
        (self.place >> 32) as u32
    }
}

/// The slot in a handle; slots are counted in 32 bits.
#[inline]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the upper half is the generation
pub fn slot_of(handle: i64) -> u32 {
    handle as u32
}

/// The half-life in which all times of a batch lie, and how long before the origin of the batch it began.
#[derive(Clone, Copy, Debug)]
pub struct Whole {
    pub number: i64,
    pub lead_ms: i64,
}

/// Rows whose times are near each other.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a, W> {
    handles: &'a [i64],
    values: &'a [f64],
    times: Times<'a>,
    own: &'a [W],
    /// From when its times are counted.
    pub origin_ms: i64,
    /// None if its times lie in more than one half-life.
    pub whole: Option<Whole>,
}

impl<'a, W: Own> Batch<'a, W> {
    /// The batch that begins with the row `from`, which must be there.
    pub fn new(
        handles: &'a [i64],
        of: &Observations<'a>,
        own: &'a [W],
        from: usize,
        rows_max: usize,
        half_life: HalfLife,
    ) -> Self {
        let most = handles.len().min(from + rows_max);
        let (rows, times, origin_ms, (first, last)) = match of.at_ms {
            Times::One(at_ms) => (from..most, of.at_ms, at_ms, (at_ms, at_ms)),
            Times::Each(times) => {
                let origin_ms = times[from].saturating_sub(MIDDLE_MS);
                let mut near = &times[from..most];
                let mut ends = ends(near);
                if !(is_near(ends.0, origin_ms) && is_near(ends.1, origin_ms)) {
                    let count = near
                        .iter()
                        .take_while(|&&at_ms| is_near(at_ms, origin_ms))
                        .count();
                    near = &near[..count];
                    ends = self::ends(near);
                }
                (from..from + near.len(), Times::Each(near), origin_ms, ends)
            }
        };
        Self {
            handles: &handles[rows.clone()],
            values: &of.values[rows.clone()],
            times,
            own: &own[rows],
            origin_ms,
            whole: whole(first, last, origin_ms, half_life),
        }
    }

    /// Rows in it.
    pub fn len(&self) -> usize {
        self.handles.len()
    }

    /// Whose the rows are.
    pub fn slots(&self) -> impl Iterator<Item = u32> + 'a {
        self.handles.iter().map(|&handle| slot_of(handle))
    }

    /// Calls `each` with every row from `from` to before `to`, in their order.
    #[inline]
    pub fn for_each(&self, from: usize, to: usize, mut each: impl FnMut(Event<W>)) {
        let (handles, values, own) = (
            &self.handles[from..to],
            &self.values[from..to],
            &self.own[from..to],
        );
        let rows = handles.iter().zip(values).zip(own);
        match self.times {
            Times::One(_) => {
                for ((&handle, &value), &own) in rows {
                    each(Event::new(value, slot_of(handle), 0, own));
                }
            }
            Times::Each(times) => {
                for (((&handle, &value), &own), &at_ms) in rows.zip(&times[from..to]) {
                    // They are near.
                    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                    let since_ms = at_ms.wrapping_sub(self.origin_ms) as u32;
                    each(Event::new(value, slot_of(handle), since_ms, own));
                }
            }
        }
    }
}

/// Whether the time is within 32 bits after the origin.
#[inline]
fn is_near(at_ms: i64, origin_ms: i64) -> bool {
    at_ms >= origin_ms && u32::try_from(at_ms.abs_diff(origin_ms)).is_ok()
}

/// The first and the last time.
fn ends(times: &[i64]) -> (i64, i64) {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            let none = (i64::MAX, i64::MIN);
            times.iter().fold(none, |(first, last), &at_ms| {
                (first.min(at_ms), last.max(at_ms))
            })
        },
    )
}

fn whole(first: i64, last: i64, origin_ms: i64, half_life: HalfLife) -> Option<Whole> {
    let (number, _) = half_life.split(first);
    if number != half_life.split(last).0 {
        return None;
    }
    let start_ms = number.checked_mul(half_life.ms())?;
    let lead_ms = origin_ms.checked_sub(start_ms)?;
    Some(Whole { number, lead_ms })
}
