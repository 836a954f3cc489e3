//! What a device asked and waits for: rate, quota, routing in its own network, and every way a request ends.

use std::collections::BTreeMap;

use crate::effect::Effect;
use crate::message::About;
use crate::relay::Relay;
use crate::session::{Ask, Request, RequestKind, WaitsFor};
use crate::slots::SessionId;
use crate::timers::Timer;
use crate::CloseCode;

impl Relay {
    /// Rate, quota and a number not in use.
    pub(crate) fn may_ask(
        &mut self,
        id: SessionId,
        request: u32,
        kind: RequestKind,
        limit: u32,
    ) -> Result<bool, CloseCode> {
        let Some(session) = self.sessions.get(id) else {
            return Ok(false);
        };
        if session.requests.contains_key(&request) {
            return Err(CloseCode::OutOfOrder);
        }
        if session.count(kind) >= limit as usize {
            let text = format!("at most {limit} of these at a time");
            self.complain(id, "limit_reached", &text, About::request(request), None);
            return Ok(false);
        }
        Ok(self.charge(id, About::request(request)))
    }

    /// Finds the device in the session's own network and opens a question to it. If it is not connected, the application
    /// is asked whether it exists there: a device unknown and a device of another network are the same thing here.
    pub(crate) fn route(
        &mut self,
        id: SessionId,
        request: u32,
        to: &str,
        kind: RequestKind,
        within_ms: u32,
    ) -> Option<(SessionId, u32)> {
        let (network, own_name) = self.identity(id)?;
        if to == own_name {
            self.complain(
                id,
                "invalid_input",
                "to: not this device itself",
                About::request(request),
                None,
            );
            return None;
        }
        let Some(other) = self
            .networks
            .get(&network)
            .and_then(|network| network.by_name.get(to))
            .copied()
        else {
            let ticket = self.issue_ticket(id, request, kind, within_ms);
            self.effects.push_back(Effect::Exists {
                ticket,
                session: id,
                device_id: to.to_owned(),
            });
            return None;
        };
        let asks_max = self.limits.asks_max as usize;
        let target = self.sessions.get_mut(other)?;
        let ask = if target.asks.len() < asks_max {
            target.take_ask()
        } else {
            None
        };
        let Some(ask) = ask else {
            let text = "the device has too many questions open";
            self.complain(
                id,
                "limit_reached",
                text,
                About::request(request),
                Some(1_000),
            );
            return None;
        };
        target.asks.insert(
            ask,
            Ask {
                kind,
                origin: id,
                request,
            },
        );
        self.put_request(
            id,
            request,
            kind,
            WaitsFor::Device {
                session: other,
                ask,
            },
            within_ms,
        );
        Some((other, ask))
    }

    /// The application's answer to `Effect::Exists`; an error means it cannot answer now.
    #[allow(clippy::result_unit_err)] // there is nothing to tell but "not now"
    pub fn exists(&mut self, ticket: u64, answer: Result<bool, ()>, now: u64) {
        self.tick(now);
        if let Some((id, request)) = self.tickets.get(&ticket).copied() {
            self.end_request(id, request);
            let about = About::request(request);
            match answer {
                Ok(true) => {
                    self.complain(id, "offline", "the device is not connected", about, None);
                }
                Ok(false) => self.complain(id, "not_found", "no such device", about, None),
                Err(()) => self.unavailable(id, request),
            }
        }
        self.settle();
    }

    pub(crate) fn unavailable(&mut self, id: SessionId, request: u32) {
        self.complain(
            id,
            "unavailable",
            "try again later",
            About::request(request),
            Some(1_000),
        );
    }

    pub(crate) fn issue_ticket(
        &mut self,
        id: SessionId,
        request: u32,
        kind: RequestKind,
        within_ms: u32,
    ) -> u64 {
        self.tickets_issued += 1;
        self.tickets.insert(self.tickets_issued, (id, request));
        self.put_request(
            id,
            request,
            kind,
            WaitsFor::Ticket(self.tickets_issued),
            within_ms,
        );
        self.tickets_issued
    }

    fn put_request(
        &mut self,
        id: SessionId,
        request: u32,
        kind: RequestKind,
        waits_for: WaitsFor,
        within_ms: u32,
    ) {
        let overdue_at = self.now + u64::from(within_ms);
        if let Some(session) = self.sessions.get_mut(id) {
            session.requests.insert(
                request,
                Request {
                    kind,
                    waits_for,
                    overdue_at,
                },
            );
            self.timers.start(overdue_at, Timer::Request(id, request));
        }
    }

    /// The request is over: takes it out with its timer, its ticket and the other side's question.
    pub(crate) fn end_request(&mut self, id: SessionId, request: u32) {
        if let Some(found) = self
            .sessions
            .get_mut(id)
            .and_then(|session| session.requests.remove(&request))
        {
            self.forget_request(id, request, &found);
        }
    }

    fn forget_request(&mut self, id: SessionId, request: u32, found: &Request) {
        self.timers
            .stop(found.overdue_at, Timer::Request(id, request));
        match found.waits_for {
            WaitsFor::Ticket(ticket) => {
                self.tickets.remove(&ticket);
            }
            WaitsFor::Device { session, ask } => {
                if let Some(target) = self.sessions.get_mut(session) {
                    target.asks.remove(&ask);
                }
            }
        }
    }

    pub(crate) fn request_overdue(&mut self, id: SessionId, request: u32) {
        self.end_request(id, request);
        self.complain(
            id,
            "timeout",
            "no answer in time",
            About::request(request),
            None,
        );
    }

    /// An open question of this kind, now answered.
    pub(crate) fn take_ask(&mut self, id: SessionId, ask: u32, kind: RequestKind) -> Option<Ask> {
        let found = self
            .sessions
            .get(id)?
            .asks
            .get(&ask)
            .copied()
            .filter(|found| found.kind == kind)?;
        self.end_request(found.origin, found.request);
        Some(found)
    }

    pub(crate) fn drop_requests(&mut self, id: SessionId, requests: BTreeMap<u32, Request>) {
        for (request, found) in requests {
            self.forget_request(id, request, &found);
        }
    }

    pub(crate) fn drop_asks(&mut self, asks: BTreeMap<u32, Ask>) {
        for Ask {
            origin, request, ..
        } in asks.into_values()
        {
            self.end_request(origin, request);
            self.complain(
                origin,
                "offline",
                "the device is not connected",
                About::request(request),
                None,
            );
        }
    }
}
