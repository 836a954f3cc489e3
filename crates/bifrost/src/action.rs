//! Actions between devices, and events from the server.

use serde_json::value::RawValue;

use crate::effect::Uuid;
use crate::limits::{NAME_CHARS_MAX, OPAQUE_BYTES_MAX};
use crate::message::{About, InboundAction, Outbound};
use crate::relay::{Relay, Verdict};
use crate::session::RequestKind;
use crate::slots::SessionId;

impl Relay {
    pub(crate) fn action(&mut self, id: SessionId, action: &InboundAction) -> Verdict {
        let request = action.request;
        if !self.may_ask(id, request, RequestKind::Action, self.limits.actions_max)? {
            return Ok(());
        }
        if let Some((other, ask)) = self.route(
            id,
            request,
            &action.to,
            RequestKind::Action,
            action.deadline_ms,
        ) {
            let from = self
                .identity(id)
                .map(|(_, name)| name.to_owned())
                .unwrap_or_default();
            self.post(
                other,
                &Outbound::Action {
                    ask,
                    from: &from,
                    name: &action.name,
                    deadline_ms: action.deadline_ms,
                    idempotency_id: &action.idempotency_id,
                    arguments: &action.arguments,
                },
            );
        }
        Ok(())
    }

    pub(crate) fn action_result(&mut self, id: SessionId, ask: u32, ok: bool, result: &RawValue) {
        match self.take_ask(id, ask, RequestKind::Action) {
            Some(found) => {
                self.post(
                    found.origin,
                    &Outbound::ActionResult {
                        request: found.request,
                        ok,
                        result,
                    },
                );
            }
            None => self.complain(
                id,
                "not_found",
                "ask: this question is over",
                About::ask(ask),
                None,
            ),
        }
    }

    /// Sends news to a device. False if it is not online, or if name or data (a JSON object) break the limits.
    pub fn event(
        &mut self,
        network: &Uuid,
        device: &Uuid,
        name: &str,
        data: &str,
        now: u64,
    ) -> bool {
        self.tick(now);
        let Some(id) = self.session_of(network, device) else {
            return false;
        };
        let name_fits = (1..=NAME_CHARS_MAX).contains(&name.chars().count());
        let Ok(data) = serde_json::from_str::<&RawValue>(data) else {
            return false;
        };
        if !name_fits || data.get().len() > OPAQUE_BYTES_MAX || !data.get().starts_with('{') {
            return false;
        }
        self.post(id, &Outbound::Event { name, data });
        self.settle();
        true
    }

    /// Whether a device (by internal id) of this network is connected.
    #[must_use]
    pub fn online(&self, network: &Uuid, device: &Uuid) -> bool {
        self.session_of(network, device).is_some()
    }

    /// The live session of a device; none while draining.
    pub(crate) fn session_of(&self, network: &Uuid, device: &Uuid) -> Option<SessionId> {
        if self.draining {
            return None;
        }
        self.networks.get(network)?.by_device.get(device).copied()
    }
}
