//! What waits to be written to one socket: a control lane that goes first, and an ordered lane for data.
//!
//! What ends a link travels in the ordered lane behind the link's data; job bodies are not copied in but cut off the job
//! when there is room, turn about with the ordered lane.

use std::collections::VecDeque;

use crate::effect::Frame;
use crate::job::JobId;
use crate::limits::frame_cost;

#[derive(Default)]
pub(crate) struct Outbox {
    control: VecDeque<String>,
    control_bytes: u32,
    ordered: VecDeque<Frame>,
    ordered_bytes: u32,
    /// Jobs with body left to send and credit to send it.
    pub(crate) bodies: VecDeque<JobId>,
    body_turn: bool,
    /// `Wake` was sent and not yet answered by an empty pull.
    pub(crate) woken: bool,
    /// When the queue last moved, while there is something in it.
    pub(crate) moved_at: u64,
    pub(crate) stall_watched: bool,
}

/// What `Outbox::pull` found.
pub(crate) enum Pull {
    Frame(Frame),
    Body(JobId),
    Empty,
}

impl Outbox {
    pub(crate) fn push_control(&mut self, text: String, bytes_max: u32) -> Result<(), ()> {
        let cost = frame_cost(text.len());
        if self.control_bytes.saturating_add(cost) > bytes_max {
            return Err(());
        }
        self.control_bytes += cost;
        self.control.push_back(text);
        Ok(())
    }

    pub(crate) fn push_ordered(&mut self, frame: Frame, bytes_max: u32) -> Result<(), ()> {
        let cost = frame_cost(frame.len());
        if self.ordered_bytes.saturating_add(cost) > bytes_max {
            return Err(());
        }
        self.ordered_bytes += cost;
        self.ordered.push_back(frame);
        Ok(())
    }

    pub(crate) fn ordered_bytes(&self) -> u32 {
        self.ordered_bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.control.is_empty() && self.ordered.is_empty() && self.bodies.is_empty()
    }

    pub(crate) fn pull(&mut self) -> Pull {
        if let Some(text) = self.control.pop_front() {
            self.control_bytes -= frame_cost(text.len());
            return Pull::Frame(Frame::Text(text));
        }
        self.body_turn = !self.body_turn;
        if self.body_turn || self.ordered.is_empty() {
            if let Some(job) = self.bodies.pop_front() {
                return Pull::Body(job);
            }
        }
        match self.ordered.pop_front() {
            Some(frame) => {
                self.ordered_bytes -= frame_cost(frame.len());
                Pull::Frame(frame)
            }
            None => Pull::Empty,
        }
    }
}
