//! Rows brought together by where their aggregates lie.
//!
//! Twice: a batch by the upper bits of the slot, so that what is worked on together fits in the second cache, and then a piece
//! of that by the lower bits, so that all rows of a provider follow each other. Both are counting sorts and stable: every
//! provider's rows keep their order, and the result is the same to the bit.

use std::sync::PoisonError;

use crate::batches::{Batch, Event, Own};

/// Rows brought together at a time, 16 bytes each: the more, the less often a provider's memory is waited for.
pub const BATCH: usize = 1 << 21;
/// Slots of a group.
const GROUP: usize = 1 << SHIFT;
const SHIFT: u32 = 13;
/// Rows sorted by the lower bits at a time. Counted in 16 bits.
const PIECE: usize = 1 << 14;
/// Groups are worth it if they have about this many rows.
const GROUP_ROWS: usize = 128;

pub struct Sorter<W> {
    slots: usize,
    ends: Vec<usize>,
    events: Vec<Event<W>>,
    places: Vec<u16>,
    piece: Vec<Event<W>>,
}

impl<W: Own> Sorter<W> {
    pub fn new(slots: usize) -> Self {
        Self {
            slots,
            ends: vec![0; slots.div_ceil(GROUP) + 1],
            events: Vec::new(),
            places: Vec::new(),
            piece: Vec::new(),
        }
    }

    /// Calls `each` with the rows of a batch, piece by piece.
    pub fn pieces(&mut self, batch: &Batch<'_, W>, mut each: impl FnMut(&[Event<W>])) {
        let groups = self.ends.len() - 1;
        if groups <= 1 || batch.len() < groups * GROUP_ROWS {
            let mut piece = Vec::with_capacity(batch.len().min(PIECE));
            let mut from = 0;
            while from < batch.len() {
                let to = batch.len().min(from + PIECE);
                piece.clear();
                batch.for_each(from, to, |event| piece.push(event));
                each(self.by_slot(&piece));
                from = to;
            }
        } else {
            let mut events = std::mem::take(&mut self.events);
            if events.is_empty() {
                events = lent();
            }
            self.by_group(batch, &mut events);
            let mut from = 0;
            for group in 0..groups {
                let to = self.ends[group];
                for piece in events[from..to].chunks(PIECE) {
                    each(self.by_slot(piece));
                }
                from = to;
            }
            self.events = events;
        }
    }

    /// Hands the room back for the next column.
    pub fn done(self) {
        let mut room = W::room().lock().unwrap_or_else(PoisonError::into_inner);
        if room.len() < self.events.len() {
            *room = self.events;
        }
    }

    #[inline(never)]
    fn by_group(&mut self, batch: &Batch<'_, W>, events: &mut Vec<Event<W>>) {
        if events.len() < batch.len() {
            events.resize(batch.len(), Event::default());
        }
        let ends = &mut self.ends;
        ends.fill(0);
        for slot in batch.slots() {
            let count = &mut ends[(slot >> SHIFT) as usize + 1];
            *count = count.wrapping_add(1);
        }
        for group in 1..ends.len() {
            ends[group] += ends[group - 1];
        }
        // From here on the start of each group moves up to its end.
        batch.for_each(0, batch.len(), |event| {
            let next = &mut ends[(event.slot() >> SHIFT) as usize];
            events[*next] = event;
            *next = next.wrapping_add(1);
        });
    }

    #[inline(never)]
    fn by_slot<'a>(&'a mut self, events: &'a [Event<W>]) -> &'a [Event<W>] {
        let used = self.slots.next_power_of_two().min(GROUP);
        if events.len() < used / 4 {
            return events;
        }
        if self.piece.len() < events.len() {
            self.piece.resize(events.len(), Event::default());
        }
        let (places, sorted) = (&mut self.places, &mut self.piece[..events.len()]);
        places.clear();
        places.resize(used, 0);
        // A power of two.
        let lower = used - 1;
        for event in events {
            let count = &mut places[event.slot() as usize & lower];
            *count = count.wrapping_add(1);
        }
        let mut below = 0_u16;
        for place in places.iter_mut() {
            let count = std::mem::replace(place, below);
            below = below.wrapping_add(count);
        }
        for event in events {
            let next = &mut places[event.slot() as usize & lower];
            sorted[usize::from(*next)] = *event;
            *next = next.wrapping_add(1);
        }
        sorted
    }
}

/// The room that the last column left, or none.
fn lent<W: Own>() -> Vec<Event<W>> {
    let mut room = W::room().lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut *room)
}
