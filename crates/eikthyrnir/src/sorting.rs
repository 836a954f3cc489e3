//! Rows brought together by where their aggregates lie.
//!
//! Twice: a batch by the upper bits of the slot, so that what is worked on together fits in the second cache, and then a piece
//! of that by the lower bits, so that all rows of a provider follow each other. Both are counting sorts and stable: every
//! provider's rows keep their order.

use std::sync::PoisonError;

use crate::batches::{Batch, Event, Own};
use crate::pieces::Piece;

/// Rows brought together at a time, 16 bytes each: the more, the less often a provider's memory is waited for.
pub const BATCH: usize = 1 << 21;
/// Groups there are if slots and rows allow: the fewer slots a group has, the more rows of each are brought together.
const GROUPS: usize = 128;
/// Bits of a slot that tell those of a group apart, at most: so many slots are what the second cache can hold.
const GROUP_BITS_MAX: u32 = 13;
/// Rows of a group that are moved on together. One by one, each would wait for a page and a line of the memory that nobody could
/// foresee; so many of every group are what the second cache can hold.
const NEAR: usize = 128;
/// Rows sorted by the lower bits at a time: twice as many as a group of a full batch has, or many a group would be cut. Counted in 16
/// bits.
const PIECE: usize = 1 << 15;
/// Groups are worth it if they have about this many rows.
const GROUP_ROWS: usize = 128;

pub struct Sorter<W> {
    group_bits: u32,
    ends: Vec<usize>,
    /// The rows of each group that were not moved on, and where its next one goes.
    near: Vec<Event<W>>,
    next: Vec<usize>,
    events: Vec<Event<W>>,
    piece: Piece<W>,
}

impl<W: Own> Sorter<W> {
    pub fn new(slots: usize, rows: usize) -> Self {
        let group = slots
            .div_ceil((rows / PIECE).clamp(1, GROUPS))
            .next_power_of_two();
        let group_bits = group.ilog2().min(GROUP_BITS_MAX);
        Self {
            group_bits,
            ends: vec![0; slots.div_ceil(1 << group_bits) + 1],
            near: Vec::new(),
            next: Vec::new(),
            events: Vec::new(),
            piece: Piece::default(),
        }
    }

    /// Calls `each` with the rows of a batch, piece by piece.
    pub fn pieces(&mut self, batch: &Batch<'_, W>, mut each: impl FnMut(&Piece<W>)) {
        let groups = self.ends.len() - 1;
        let mut piece = std::mem::take(&mut self.piece);
        if groups <= 1 || batch.len() < groups * GROUP_ROWS {
            let mut events = Vec::with_capacity(batch.len().min(PIECE));
            let mut from = 0;
            while from < batch.len() {
                let to = batch.len().min(from + PIECE);
                events.clear();
                batch.for_each(from, to, |event| events.push(event));
                if groups <= 1 {
                    piece.sort(&events, self.group_bits);
                } else {
                    piece.take(&events);
                }
                each(&piece);
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
                for events in events[from..to].chunks(PIECE) {
                    piece.sort(events, self.group_bits);
                    each(&piece);
                }
                from = to;
            }
            self.events = events;
        }
        self.piece = piece;
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
        let (ends, bits) = (&mut self.ends, self.group_bits);
        ends.fill(0);
        for slot in batch.slots() {
            let count = &mut ends[(slot >> bits) as usize + 1];
            *count = count.wrapping_add(1);
        }
        for group in 1..ends.len() {
            ends[group] += ends[group - 1];
        }
        // From here on the start of each group moves up to its end.
        let groups = ends.len() - 1;
        self.near.resize(groups * NEAR, Event::default());
        self.next.clear();
        self.next.extend((0..groups).map(|group| group * NEAR));
        let (near, next) = (&mut self.near[..], &mut self.next[..]);
        let (ends, events) = (&mut ends[..], &mut events[..]);
        batch.for_each(
            0,
            batch.len(),
            #[inline(always)]
            |event| {
                let group = (event.slot() >> bits) as usize;
                let next = &mut next[group];
                near[*next] = event;
                *next = next.wrapping_add(1);
                if *next % NEAR == 0 {
                    *next -= NEAR;
                    let start = ends[group];
                    ends[group] += NEAR;
                    events[start..ends[group]].copy_from_slice(&near[*next..][..NEAR]);
                }
            },
        );
        for ((near, &next), end) in near.chunks(NEAR).zip(&*next).zip(ends) {
            let (start, rest) = (*end, next % NEAR);
            *end += rest;
            events[start..*end].copy_from_slice(&near[..rest]);
        }
    }
}

/// The room that the last column left, or none.
fn lent<W: Own>() -> Vec<Event<W>> {
    let mut room = W::room().lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut *room)
}
