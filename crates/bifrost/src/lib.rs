//! The relay of Bifrost v1: sessions, consent, links, credit, bounded queues and quotas.
//!
//! It touches no socket and no clock. A [`Relay`] is one shard, owned by one thread; frames and `now` (milliseconds of any
//! monotonic clock) go in, [`Effect`]s and frames come out:
//!
//! * after every call, take all of [`Relay::poll_effect`];
//! * on [`Effect::Wake`], and whenever that socket is writable, take frames from [`Relay::poll_transmit`] until `None`;
//! * at [`Relay::next_timeout`], call [`Relay::on_timeout`].
//!
//! What a peer does wrong ends its session with a close code or is answered with an `error` message; nothing a peer sends
//! can panic or grow memory without bound. What the shell does wrong (a stale session, a job that is gone) is a no-op or a
//! typed error. Routing looks only into the map of the member's own network, so there is no path across a border to guard.
#![forbid(unsafe_code)]

mod action;
mod bucket;
mod close;
mod connect;
mod control;
mod due;
mod effect;
mod fields;
mod job;
mod limits;
mod link;
mod message;
mod outbox;
mod relay;
mod request;
mod session;
mod slots;
mod timers;
mod transitions;

pub use close::CloseCode;
pub use effect::{DeviceInfo, Effect, Frame, Member, Uuid};
pub use job::{JobBatch, JobEnd, JobId, OpenJob, OpenJobError};
pub use limits::{
    frame_cost, Limits, BODY_BYTES_MAX, DEADLINE_MS_MAX, DEVICES_MAX, FRAME_COST_BYTES_MIN,
    MESSAGE_BYTES_MAX, NAME_CHARS_MAX, OPAQUE_BYTES_MAX, TEXT_CHARS_MAX, TOKEN_BYTES_MAX,
    WINDOW_BYTES,
};
pub use relay::{Relay, Revocation};
pub use slots::SessionId;
pub use transitions::{
    next_link, next_session, LinkInput, LinkState, LinkStep, SessionInput, SessionState,
    LINK_TRANSITIONS, SESSION_TRANSITIONS,
};

#[cfg(test)]
mod tests;
