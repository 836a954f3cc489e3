//! All deadlines of a shard in one ordered set.

use std::collections::BTreeSet;

use crate::job::JobId;
use crate::slots::SessionId;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// `hello`, then the verdict on it.
    Handshake(SessionId),
    /// The next ping is due.
    Ping(SessionId),
    /// A sign of life is due.
    Pong(SessionId),
    /// Look whether the queue has moved.
    Stall(SessionId),
    /// A connect or action is overdue.
    Request(SessionId, u32),
    /// `accept` or `busy` is due.
    Accept(JobId),
    /// The job's deadline.
    Job(JobId),
    /// The last sessions of a draining shard end.
    Drain,
}

#[derive(Default)]
pub(crate) struct Timers {
    set: BTreeSet<(u64, Timer)>,
}

impl Timers {
    pub(crate) fn start(&mut self, at: u64, timer: Timer) {
        self.set.insert((at, timer));
    }

    pub(crate) fn stop(&mut self, at: u64, timer: Timer) {
        self.set.remove(&(at, timer));
    }

    pub(crate) fn next(&self) -> Option<u64> {
        self.set.first().map(|(at, _)| *at)
    }

    pub(crate) fn pop_due(&mut self, now: u64) -> Option<Timer> {
        let first = *self.set.first()?;
        if first.0 > now {
            return None;
        }
        self.set.remove(&first);
        Some(first.1)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.set.len()
    }
}
