//! What the relay knows of one socket.

use std::collections::BTreeMap;

use crate::bucket::Bucket;
use crate::effect::Member;
use crate::limits::Limits;
use crate::link::Link;
use crate::outbox::Outbox;
use crate::slots::SessionId;
use crate::transitions::SessionState;

pub(crate) struct Session {
    pub(crate) state: SessionState,
    pub(crate) nonce: [u8; 32],
    pub(crate) member: Option<Member>,
    pub(crate) outbox: Outbox,
    pub(crate) requests_bucket: Bucket,
    pub(crate) messages_bucket: Bucket,
    pub(crate) links: BTreeMap<u32, Link>,
    /// The next link's number; every smaller one was used.
    pub(crate) next_link: u32,
    pub(crate) next_ask: u32,
    pub(crate) requests: BTreeMap<u32, Request>,
    pub(crate) asks: BTreeMap<u32, Ask>,
    pub(crate) hello_at: u64,
    pub(crate) handshake_at: Option<u64>,
    pub(crate) ping_at: Option<u64>,
    pub(crate) pong_at: Option<u64>,
    pub(crate) stall_at: Option<u64>,
    pub(crate) heard: bool,
    pub(crate) ping_id: u32,
    pub(crate) ping_sent_at: u64,
    pub(crate) rtt_ms: Option<u64>,
}

impl Session {
    pub(crate) fn new(nonce: [u8; 32], limits: &Limits, now: u64) -> Self {
        Self {
            state: SessionState::Greeting,
            nonce,
            member: None,
            outbox: Outbox::default(),
            requests_bucket: Bucket::new(limits.requests_per_second, limits.requests_burst, now),
            messages_bucket: Bucket::new(limits.messages_per_second, limits.messages_burst, now),
            links: BTreeMap::new(),
            next_link: 1,
            next_ask: 1,
            requests: BTreeMap::new(),
            asks: BTreeMap::new(),
            hello_at: now,
            handshake_at: None,
            ping_at: None,
            pong_at: None,
            stall_at: None,
            heard: true,
            ping_id: 0,
            ping_sent_at: now,
            rtt_ms: None,
        }
    }

    pub(crate) fn count(&self, kind: RequestKind) -> usize {
        self.requests
            .values()
            .filter(|request| request.kind == kind)
            .count()
    }

    /// A number never used before in this session; `None` when they are used up.
    pub(crate) fn take_ask(&mut self) -> Option<u32> {
        let ask = self.next_ask;
        self.next_ask = ask.checked_add(1)?;
        Some(ask)
    }

    pub(crate) fn take_link(&mut self) -> Option<u32> {
        let link = self.next_link;
        self.next_link = link.checked_add(1)?;
        Some(link)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestKind {
    Discover,
    Connect,
    Action,
}

/// What this device asked and still waits for.
pub(crate) struct Request {
    pub(crate) kind: RequestKind,
    pub(crate) waits_for: WaitsFor,
    pub(crate) overdue_at: u64,
}

#[derive(Clone, Copy)]
pub(crate) enum WaitsFor {
    /// The application's answer.
    Ticket(u64),
    /// Another device's answer.
    Device { session: SessionId, ask: u32 },
}

/// What another device asked this one.
#[derive(Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) kind: RequestKind,
    pub(crate) origin: SessionId,
    pub(crate) request: u32,
}
