//! Sessions by (slot, generation): a stale id finds nothing, a slot is used again.

use crate::session::Session;

/// Names one session of this shard, for ever: a slot used again has a new generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId {
    slot: u32,
    generation: u32,
}

impl SessionId {
    /// One number, for shells.
    #[must_use]
    pub fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// The inverse of `to_u64`. Any number is allowed; one that names no session finds nothing.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // the two halves
    pub fn from_u64(number: u64) -> Self {
        Self {
            slot: number as u32,
            generation: (number >> 32) as u32,
        }
    }
}

#[derive(Default)]
pub(crate) struct Slots {
    entries: Vec<(u32, Option<Box<Session>>)>,
    free: Vec<u32>,
    used: u32,
}

impl Slots {
    pub(crate) fn len(&self) -> u32 {
        self.used
    }

    /// Puts a session in; `None` when no slot is left at all.
    pub(crate) fn insert(&mut self, session: Session) -> Option<SessionId> {
        let slot = if let Some(slot) = self.free.pop() {
            slot
        } else {
            let slot = u32::try_from(self.entries.len()).ok()?;
            self.entries.push((0, None));
            slot
        };
        let entry = self.entries.get_mut(slot as usize)?;
        entry.1 = Some(Box::new(session));
        self.used += 1;
        Some(SessionId {
            slot,
            generation: entry.0,
        })
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<&Session> {
        let (generation, session) = self.entries.get(id.slot as usize)?;
        if *generation == id.generation {
            session.as_deref()
        } else {
            None
        }
    }

    pub(crate) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        let (generation, session) = self.entries.get_mut(id.slot as usize)?;
        if *generation == id.generation {
            session.as_deref_mut()
        } else {
            None
        }
    }

    pub(crate) fn remove(&mut self, id: SessionId) -> Option<Session> {
        let entry = self.entries.get_mut(id.slot as usize)?;
        if entry.0 != id.generation {
            return None;
        }
        let session = entry.1.take()?;
        self.used -= 1;
        // A slot whose generations are used up is retired rather than made ambiguous.
        if let Some(next) = entry.0.checked_add(1) {
            entry.0 = next;
            self.free.push(id.slot);
        }
        Some(*session)
    }

    #[allow(clippy::cast_possible_truncation)] // `insert` keeps the length within u32
    pub(crate) fn ids(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.entries
            .iter()
            .enumerate()
            .filter(|(_, (_, session))| session.is_some())
            .map(|(slot, (generation, _))| SessionId {
                slot: slot as u32,
                generation: *generation,
            })
    }
}
