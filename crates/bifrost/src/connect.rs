//! Discovery and consent: from `connect` to a link.

use std::collections::BTreeMap;

use crate::effect::{DeviceInfo, Effect, Frame};
use crate::limits::{frame_cost, DEVICES_MAX, MESSAGE_BYTES_MAX, WINDOW_BYTES};
use crate::link::{Far, Link};
use crate::message::{About, DeviceLine, Outbound};
use crate::relay::{Relay, Verdict};
use crate::session::{Ask, Request, RequestKind, WaitsFor};
use crate::slots::SessionId;
use crate::timers::Timer;
use crate::transitions::LinkState;
use crate::CloseCode;

impl Relay {
    pub(crate) fn discover(&mut self, id: SessionId, request: u32) -> Verdict {
        if self.may_ask(id, request, RequestKind::Discover, self.limits.connects_max)? {
            let ticket = self.issue_ticket(
                id,
                request,
                RequestKind::Discover,
                self.limits.authenticate_ms,
            );
            self.effects.push_back(Effect::Directory {
                ticket,
                session: id,
            });
        }
        Ok(())
    }

    /// The application's answer to `Effect::Directory`; an error means it cannot answer now.
    #[allow(clippy::result_unit_err)] // there is nothing to tell but "not now"
    pub fn directory(&mut self, ticket: u64, answer: Result<&[DeviceInfo], ()>, now: u64) {
        self.tick(now);
        if let Some((id, request)) = self.tickets.get(&ticket).copied() {
            self.end_request(id, request);
            match answer {
                Ok(devices) => self.list(id, request, devices),
                Err(()) => self.unavailable(id, request),
            }
        }
        self.settle();
    }

    fn list(&mut self, id: SessionId, request: u32, devices: &[DeviceInfo]) {
        let Some((network, _)) = self.identity(id) else {
            return;
        };
        let network = self.networks.get(&network);
        let mut lines = devices.iter().take(DEVICES_MAX).map(|device| DeviceLine {
            device_id: &device.device_id,
            name: &device.name,
            kind: &device.kind,
            online: network.is_some_and(|network| network.by_name.contains_key(&device.device_id)),
        });
        // Pages of half a message: every line counted at its longest escaped length would waste more than it saves.
        let mut pages: Vec<Vec<DeviceLine<'_>>> = vec![Vec::new()];
        let mut page_bytes = 0;
        for line in lines.by_ref() {
            let bytes = 64 + 6 * (line.device_id.len() + line.name.len() + line.kind.len());
            if page_bytes + bytes > MESSAGE_BYTES_MAX / 2 {
                pages.push(Vec::new());
                page_bytes = 0;
            }
            page_bytes += bytes;
            if let Some(page) = pages.last_mut() {
                page.push(line);
            }
        }
        let last = pages.len() - 1;
        let texts: Vec<String> = pages
            .iter()
            .enumerate()
            .map(|(index, page)| {
                Outbound::Devices {
                    request,
                    devices: page,
                    more: index < last,
                }
                .encode()
            })
            .collect();
        let cost: u32 = texts.iter().map(|text| frame_cost(text.len())).sum();
        let room = self
            .sessions
            .get(id)
            .map_or(0, |s| self.limits.data_bytes_max - s.outbox.ordered_bytes());
        if cost > room {
            let text = "earlier answers are not read yet";
            return self.complain(
                id,
                "limit_reached",
                text,
                About::request(request),
                Some(1_000),
            );
        }
        for text in texts {
            self.post_ordered(id, Frame::Text(text));
        }
    }

    pub(crate) fn connect(
        &mut self,
        id: SessionId,
        request: u32,
        to: &str,
        purpose: &str,
        relay_never: bool,
    ) -> Verdict {
        if !self.may_ask(id, request, RequestKind::Connect, self.limits.connects_max)? {
            return Ok(());
        }
        if relay_never {
            // Said before anyone looks for the device: it tells nothing about it.
            let text = "relay: a direct path is not offered yet; use auto or force";
            self.complain(id, "invalid_input", text, About::request(request), None);
            return Ok(());
        }
        let within_ms = self.limits.consent_ms;
        if let Some((other, ask)) = self.route(id, request, to, RequestKind::Connect, within_ms) {
            let from = self
                .identity(id)
                .map(|(_, name)| name.to_owned())
                .unwrap_or_default();
            self.post(
                other,
                &Outbound::ConnectRequest {
                    ask,
                    from: &from,
                    purpose,
                },
            );
        }
        Ok(())
    }

    /// `allow` or `deny`.
    pub(crate) fn consent(&mut self, id: SessionId, ask: u32, allowed: bool) -> Verdict {
        let Some(Ask {
            origin, request, ..
        }) = self.take_ask(id, ask, RequestKind::Connect)
        else {
            self.complain(
                id,
                "not_found",
                "ask: this question is over",
                About::ask(ask),
                None,
            );
            return Ok(());
        };
        if !allowed {
            self.complain(
                origin,
                "denied",
                "the device denied the link",
                About::request(request),
                None,
            );
            return Ok(());
        }
        let (Some(one), Some(two)) = (self.free_link(origin), self.free_link(id)) else {
            let text = format!("at most {} open links per session", self.limits.links_max);
            self.complain(
                origin,
                "limit_reached",
                &text,
                About::request(request),
                None,
            );
            self.complain(id, "limit_reached", &text, About::ask(ask), None);
            return Ok(());
        };
        self.put_link(
            origin,
            one,
            LinkState::Open,
            Far::Device {
                session: id,
                link: two,
            },
        );
        self.put_link(
            id,
            two,
            LinkState::Open,
            Far::Device {
                session: origin,
                link: one,
            },
        );
        for (session, link, other, request, ask) in [
            (origin, one, id, Some(request), None),
            (id, two, origin, None, Some(ask)),
        ] {
            let peer = self
                .identity(other)
                .map(|(_, name)| name.to_owned())
                .unwrap_or_default();
            self.post(
                session,
                &Outbound::Connected {
                    link,
                    peer: &peer,
                    path: "relay",
                    request,
                    ask,
                },
            );
        }
        Ok(())
    }

    /// The number of the session's next link, if it may have one more.
    pub(crate) fn free_link(&mut self, id: SessionId) -> Option<u32> {
        let session = self.sessions.get_mut(id)?;
        if session.links.len() >= self.limits.links_max as usize {
            return None;
        }
        session.take_link()
    }

    pub(crate) fn put_link(&mut self, id: SessionId, number: u32, state: LinkState, far: Far) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.links.insert(
                number,
                Link {
                    state,
                    far,
                    may_send_bytes: WINDOW_BYTES,
                },
            );
        }
    }

    // ---- requests, for connect and action alike ------------------------------------------------------------------

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
                    self.complain(id, "offline", "the device is not connected", about, None)
                }
                Ok(false) => self.complain(id, "not_found", "no such device", about, None),
                Err(()) => self.unavailable(id, request),
            }
        }
        self.settle();
    }

    fn unavailable(&mut self, id: SessionId, request: u32) {
        self.complain(
            id,
            "unavailable",
            "try again later",
            About::request(request),
            Some(1_000),
        );
    }

    fn issue_ticket(
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
