//! Control messages in, control messages out.

use crate::effect::{Effect, Frame};
use crate::fields::Fields;
use crate::message::{About, Inbound, Outbound};
use crate::relay::{Relay, Verdict};
use crate::slots::SessionId;
use crate::timers::Timer;
use crate::transitions::{next_session, LinkInput, SessionInput, SessionState};
use crate::CloseCode;

impl Relay {
    pub(crate) fn control(&mut self, id: SessionId, text: &str) -> Verdict {
        let Some(session) = self.sessions.get_mut(id) else {
            return Ok(());
        };
        if session.messages_bucket.take(self.now).is_err() {
            return Err(CloseCode::Flood);
        }
        let fields = Fields::parse(text).map_err(|_| CloseCode::Protocol)?;
        let input = if fields.kind() == "hello" {
            SessionInput::Hello
        } else {
            SessionInput::Control
        };
        let Some(state) = next_session(session.state, input) else {
            return Err(CloseCode::OutOfOrder);
        };
        match Inbound::read(&fields) {
            Ok(message) => {
                session.state = state;
                self.dispatch(id, message)
            }
            Err(_) if input == SessionInput::Hello => Err(CloseCode::Protocol),
            Err(rule) => {
                let about = About {
                    request: fields.optional_number("request"),
                    ask: fields.optional_number("ask"),
                    link: fields.optional_number("link"),
                };
                self.complain(id, "invalid_input", &rule, about, None);
                Ok(())
            }
        }
    }

    fn dispatch(&mut self, id: SessionId, message: Inbound) -> Verdict {
        match message {
            Inbound::Hello {
                token,
                device_id,
                proof,
            } => {
                let now = self.now;
                let Some(session) = self.sessions.get_mut(id) else {
                    return Ok(());
                };
                session.hello_at = now;
                let nonce = session.nonce;
                self.start_handshake(id, self.limits.authenticate_ms);
                self.effects.push_back(Effect::Authenticate {
                    session: id,
                    token,
                    device_id,
                    proof,
                    nonce,
                });
                Ok(())
            }
            Inbound::Discover { request } => self.discover(id, request),
            Inbound::Connect {
                request,
                to,
                purpose,
                relay_never,
            } => self.connect(id, request, &to, &purpose, relay_never),
            Inbound::Allow { ask } => {
                self.consent(id, ask, true);
                Ok(())
            }
            Inbound::Deny { ask } => {
                self.consent(id, ask, false);
                Ok(())
            }
            Inbound::Action(action) => self.action(id, &action),
            Inbound::ActionResult { ask, ok, result } => {
                self.action_result(id, ask, ok, &result);
                Ok(())
            }
            Inbound::Ping { id: number } => {
                if self.charge(id, About::default()) {
                    self.post(id, &Outbound::Pong { id: number });
                }
                Ok(())
            }
            Inbound::Pong { id: number } => {
                self.pong(id, number);
                Ok(())
            }
            Inbound::Credit { link, bytes } => self.credit(id, link, bytes),
            Inbound::Disconnect { link } => self.link_move(id, link, LinkInput::Disconnect, None),
            Inbound::Accept { link } => self.link_move(id, link, LinkInput::Accept, None),
            Inbound::Busy { link, message } => self.link_move(
                id,
                link,
                LinkInput::Busy,
                Some(crate::JobEnd::Busy { message }),
            ),
            Inbound::Done {
                link,
                prompt_tokens,
                completion_tokens,
            } => {
                let end = crate::JobEnd::Done {
                    prompt_tokens,
                    completion_tokens,
                };
                self.link_move(id, link, LinkInput::Done, Some(end))
            }
            Inbound::Fault {
                link,
                code,
                message,
            } => self.link_move(
                id,
                link,
                LinkInput::Fault,
                Some(crate::JobEnd::Fault { code, message }),
            ),
        }
    }

    fn pong(&mut self, id: SessionId, number: u32) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        if session.ping_id != number {
            return;
        }
        if let Some(at) = session.pong_at.take() {
            session.rtt_ms = Some(self.now - session.ping_sent_at);
            self.timers.stop(at, Timer::Pong(id));
        }
    }

    /// The last measured round trip of a live session.
    #[must_use]
    pub fn rtt_ms(&self, id: SessionId) -> Option<u64> {
        self.sessions.get(id).and_then(|session| session.rtt_ms)
    }

    /// Takes one request from the session's rate; tells it when there is none left.
    pub(crate) fn charge(&mut self, id: SessionId, about: About) -> bool {
        let Some(session) = self.sessions.get_mut(id) else {
            return false;
        };
        match session.requests_bucket.take(self.now) {
            Ok(()) => true,
            Err(wait_ms) => {
                let text = format!(
                    "at most {} requests per second",
                    self.limits.requests_per_second
                );
                self.complain(id, "limit_reached", &text, about, Some(wait_ms));
                false
            }
        }
    }

    pub(crate) fn complain(
        &mut self,
        id: SessionId,
        code: &'static str,
        message: &str,
        about: About,
        retry_after_ms: Option<u64>,
    ) {
        let About { request, ask, link } = about;
        self.post(
            id,
            &Outbound::Error {
                code,
                message,
                request,
                ask,
                link,
                retry_after_ms,
            },
        );
    }

    /// Control: goes before all data.
    pub(crate) fn post(&mut self, id: SessionId, message: &Outbound<'_>) {
        let limit = self.limits.control_bytes_max;
        self.push(id, |outbox| outbox.push_control(message.encode(), limit));
    }

    /// Keeps its place among the data.
    pub(crate) fn post_ordered(&mut self, id: SessionId, frame: Frame) {
        let limit = self.limits.data_bytes_max;
        self.push(id, |outbox| outbox.push_ordered(frame, limit));
    }

    /// Puts something into an outbox, wakes its shell, and cuts a reader that let it grow too long.
    pub(crate) fn push(
        &mut self,
        id: SessionId,
        put: impl FnOnce(&mut crate::outbox::Outbox) -> Result<(), ()>,
    ) {
        let now = self.now;
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let outbox = &mut session.outbox;
        if outbox.is_empty() {
            outbox.moved_at = now;
        }
        if put(outbox).is_err() {
            self.doom(id, CloseCode::Slow);
            return;
        }
        if !outbox.woken {
            outbox.woken = true;
            self.effects.push_back(Effect::Wake { session: id });
        }
        if !outbox.stall_watched {
            outbox.stall_watched = true;
            let at = now + u64::from(self.limits.stall_ms);
            session.stall_at = Some(at);
            self.timers.start(at, Timer::Stall(id));
        }
    }

    /// The network and name of a live session.
    pub(crate) fn identity(&self, id: SessionId) -> Option<(crate::Uuid, &str)> {
        let session = self.sessions.get(id)?;
        let member = session
            .member
            .as_ref()
            .filter(|_| session.state == SessionState::Live)?;
        Some((member.network, &member.device_id))
    }
}
