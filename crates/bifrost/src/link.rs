//! Links: data within credit, and how they end.

use std::collections::BTreeMap;

use crate::effect::Frame;
use crate::job::{JobEnd, JobId};
use crate::limits::{frame_cost, DATA_HEADER_BYTES, WINDOW_BYTES};
use crate::message::Outbound;
use crate::relay::{Relay, Verdict};
use crate::slots::SessionId;
use crate::transitions::{next_link, next_session, LinkInput, LinkState, LinkStep, SessionInput};
use crate::CloseCode;

/// One end of a link.
pub(crate) struct Link {
    pub(crate) state: LinkState,
    pub(crate) far: Far,
    /// What this end's device may still send.
    pub(crate) may_send_bytes: u32,
}

/// Where a link leads.
#[derive(Clone, Copy)]
pub(crate) enum Far {
    Device { session: SessionId, link: u32 },
    Job(JobId),
}

impl Relay {
    /// A binary message of a device.
    pub(crate) fn data(&mut self, id: SessionId, mut bytes: Vec<u8>) -> Verdict {
        let Some(session) = self.sessions.get_mut(id) else {
            return Ok(());
        };
        next_session(session.state, SessionInput::Data).ok_or(CloseCode::OutOfOrder)?;
        let Some((header, payload)) = bytes.split_first_chunk::<DATA_HEADER_BYTES>() else {
            return Err(CloseCode::Protocol);
        };
        if payload.is_empty() {
            return Err(CloseCode::Protocol);
        }
        let number = u32::from_be_bytes(*header);
        if number == 0 || number >= session.next_link {
            return Err(CloseCode::Link);
        }
        let Some(link) = session.links.get_mut(&number) else {
            // It was on its way when the link ended; many of these are a flood.
            return session
                .messages_bucket
                .take(self.now)
                .map_err(|_| CloseCode::Flood);
        };
        next_link(link.state, LinkInput::Data).ok_or(CloseCode::OutOfOrder)?;
        let cost = frame_cost(bytes.len());
        link.may_send_bytes = link
            .may_send_bytes
            .checked_sub(cost)
            .ok_or(CloseCode::Credit)?;
        match link.far {
            Far::Device {
                session: other,
                link: other_number,
            } => {
                bytes[..DATA_HEADER_BYTES].copy_from_slice(&other_number.to_be_bytes());
                self.post_ordered(other, Frame::Binary(bytes));
            }
            Far::Job(job) => self.job_data(job, bytes.split_off(DATA_HEADER_BYTES)),
        }
        Ok(())
    }

    /// `credit`: the receiver of a link lets its sender go on.
    pub(crate) fn credit(&mut self, id: SessionId, number: u32, bytes: u32) -> Verdict {
        let Some(far) = self.link_far(id, number, LinkInput::Credit)? else {
            return Ok(());
        };
        match far {
            Far::Device {
                session: other,
                link: other_number,
            } => {
                let Some(link) = self
                    .sessions
                    .get_mut(other)
                    .and_then(|s| s.links.get_mut(&other_number))
                else {
                    return Ok(());
                };
                link.may_send_bytes = granted(link.may_send_bytes, bytes)?;
                self.post(
                    other,
                    &Outbound::Credit {
                        link: other_number,
                        bytes,
                    },
                );
                Ok(())
            }
            Far::Job(job) => self.job_credit(job, bytes),
        }
    }

    /// `disconnect`, `accept`, `busy`, `done`, `fault`.
    pub(crate) fn link_move(
        &mut self,
        id: SessionId,
        number: u32,
        input: LinkInput,
        end: Option<JobEnd>,
    ) -> Verdict {
        let Some(far) = self.link_far(id, number, input)? else {
            return Ok(());
        };
        let Some(session) = self.sessions.get_mut(id) else {
            return Ok(());
        };
        let Some(link) = session.links.get_mut(&number) else {
            return Ok(());
        };
        match next_link(link.state, input) {
            Some(LinkStep::To(state)) => {
                link.state = state;
                if let (Far::Job(job), LinkInput::Accept) = (far, input) {
                    self.job_accepted(job);
                }
            }
            Some(LinkStep::End) => {
                session.links.remove(&number);
                match (far, end) {
                    (
                        Far::Device {
                            session: other,
                            link: other_number,
                        },
                        _,
                    ) => self.hang_up(other, other_number),
                    (Far::Job(job), Some(end)) => self.job_ended(job, end),
                    (Far::Job(_), None) => {}
                }
            }
            None => return Err(CloseCode::OutOfOrder),
        }
        Ok(())
    }

    /// Where a link leads, if it is open and allows `input`; `None` if it ended already.
    fn link_far(
        &self,
        id: SessionId,
        number: u32,
        input: LinkInput,
    ) -> Result<Option<Far>, CloseCode> {
        let Some(session) = self.sessions.get(id) else {
            return Ok(None);
        };
        if number >= session.next_link {
            return Err(CloseCode::Link);
        }
        let Some(link) = session.links.get(&number) else {
            return Ok(None);
        };
        next_link(link.state, input).ok_or(CloseCode::OutOfOrder)?;
        Ok(Some(link.far))
    }

    /// Tells the other end of a device link, behind the data it already has coming.
    fn hang_up(&mut self, other: SessionId, other_number: u32) {
        let Some(session) = self.sessions.get_mut(other) else {
            return;
        };
        if session.links.remove(&other_number).is_some() {
            let text = Outbound::Disconnect { link: other_number }.encode();
            self.post_ordered(other, Frame::Text(text));
        }
    }

    /// The session of these links is gone.
    pub(crate) fn drop_links(&mut self, links: BTreeMap<u32, Link>) {
        for link in links.into_values() {
            match link.far {
                Far::Device { session, link } => self.hang_up(session, link),
                Far::Job(job) => self.job_ended(
                    job,
                    JobEnd::Fault {
                        code: "lost".to_owned(),
                        message: "the device's socket is gone".to_owned(),
                    },
                ),
            }
        }
    }
}

/// More credit, never beyond the window: that would be the granter's fault.
pub(crate) fn granted(had_bytes: u32, bytes: u32) -> Result<u32, CloseCode> {
    had_bytes
        .checked_add(bytes)
        .filter(|sum| *sum <= WINDOW_BYTES)
        .ok_or(CloseCode::Credit)
}
