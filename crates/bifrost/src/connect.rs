//! Discovery and consent: from `connect` to a link.

use crate::effect::{DeviceInfo, Effect, Frame};
use crate::limits::{frame_cost, DEVICES_MAX, MESSAGE_BYTES_MAX, WINDOW_BYTES};
use crate::link::{Far, Link};
use crate::message::{About, DeviceLine, Outbound};
use crate::relay::{Relay, Verdict};
use crate::session::{Ask, RequestKind};
use crate::slots::SessionId;
use crate::transitions::LinkState;

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
    pub(crate) fn consent(&mut self, id: SessionId, ask: u32, allowed: bool) {
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
            return;
        };
        if !allowed {
            self.complain(
                origin,
                "denied",
                "the device denied the link",
                About::request(request),
                None,
            );
            return;
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
            return;
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
}
