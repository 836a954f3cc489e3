//! One shard: how sessions come, live and go.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::effect::{Effect, Frame, Member, Uuid};
use crate::job::{Job, JobId};
use crate::limits::{Limits, MESSAGE_BYTES_MAX, WINDOW_BYTES};
use crate::message::{Outbound, SessionLimits};
use crate::outbox::Pull;
use crate::session::Session;
use crate::slots::{SessionId, Slots};
use crate::timers::{Timer, Timers};
use crate::transitions::{next_session, SessionInput, SessionState};
use crate::CloseCode;

/// A peer's fault ends its session with this code.
pub(crate) type Verdict = Result<(), CloseCode>;

/// The sessions of one network: the only place where routing looks.
#[derive(Default)]
pub(crate) struct Network {
    pub(crate) by_name: HashMap<String, SessionId>,
    pub(crate) by_device: HashMap<Uuid, SessionId>,
}

/// Which sessions to end. Every field that is given must match; without any, none does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocation {
    /// All of a network.
    pub network: Option<Uuid>,
    /// All of a user.
    pub user: Option<Uuid>,
    /// Those of a device (internal id).
    pub device: Option<Uuid>,
    /// Those of a login session.
    pub session: Option<Uuid>,
    /// Those of an API key.
    pub key: Option<Uuid>,
}

impl Revocation {
    fn matches(&self, member: &Member) -> bool {
        let same = |wanted: Option<Uuid>, had: Option<Uuid>| wanted.is_none() || wanted == had;
        *self != Self::default()
            && same(self.network, Some(member.network))
            && same(self.user, Some(member.user))
            && same(self.device, Some(member.device))
            && same(self.session, member.session)
            && same(self.key, member.key)
    }
}

/// One shard of the relay, owned by one thread.
#[derive(Default)]
pub struct Relay {
    pub(crate) limits: Limits,
    pub(crate) now: u64,
    pub(crate) sessions: Slots,
    pub(crate) networks: HashMap<Uuid, Network>,
    pub(crate) jobs: BTreeMap<JobId, Job>,
    pub(crate) jobs_opened: u64,
    pub(crate) tickets: HashMap<u64, (SessionId, u32)>,
    pub(crate) tickets_issued: u64,
    pub(crate) timers: Timers,
    pub(crate) effects: VecDeque<Effect>,
    /// Sessions to end when the call is through: nothing is removed while something else is looked at.
    doomed: VecDeque<(SessionId, CloseCode)>,
    /// Revocations that a verdict still under way may not have seen.
    revocations: Vec<(u64, Revocation)>,
    pub(crate) draining: bool,
}

impl Relay {
    /// An empty shard.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// A socket came in. `nonce`: 32 fresh random bytes. The code says why there is no room.
    ///
    /// # Errors
    /// `GoingAway` while draining, `Full` at the limit.
    pub fn open(&mut self, now: u64, nonce: [u8; 32]) -> Result<SessionId, CloseCode> {
        self.tick(now);
        if self.draining {
            return Err(CloseCode::GoingAway);
        }
        if self.sessions.len() >= self.limits.sessions_max {
            return Err(CloseCode::Full);
        }
        let session = Session::new(nonce, &self.limits, self.now);
        let id = self.sessions.insert(session).ok_or(CloseCode::Full)?;
        self.post(
            id,
            &Outbound::Challenge {
                nonce: &base64url(&nonce),
            },
        );
        self.start_handshake(id, self.limits.hello_ms);
        self.settle();
        Ok(id)
    }

    /// One message of a socket. Nothing a peer sends is an error of the caller.
    pub fn receive(&mut self, id: SessionId, frame: Frame, now: u64) {
        self.tick(now);
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        session.heard = true;
        let verdict = if frame.len() > MESSAGE_BYTES_MAX {
            Err(CloseCode::TooLarge)
        } else {
            match frame {
                Frame::Text(text) => self.control(id, &text),
                Frame::Binary(bytes) => self.data(id, bytes),
            }
        };
        if let Err(code) = verdict {
            self.doom(id, code);
        }
        self.settle();
    }

    /// The socket is gone.
    pub fn closed(&mut self, id: SessionId, now: u64) {
        self.tick(now);
        self.remove(id);
        self.settle();
    }

    /// The shell cannot go on with this socket (a message over its own limit, a write that failed).
    pub fn end(&mut self, id: SessionId, code: CloseCode, now: u64) {
        self.tick(now);
        self.doom(id, code);
        self.settle();
    }

    /// The application's verdict on a `hello`: the member, or the code to close with.
    pub fn authenticated(&mut self, id: SessionId, verdict: Result<Member, CloseCode>, now: u64) {
        self.tick(now);
        if let Err(code) = self.admit(id, verdict) {
            self.doom(id, code);
        }
        self.settle();
    }

    fn admit(&mut self, id: SessionId, verdict: Result<Member, CloseCode>) -> Verdict {
        let Some(session) = self.sessions.get(id) else {
            return Ok(());
        };
        let Some(state) = next_session(session.state, SessionInput::Welcomed) else {
            return Ok(());
        };
        let (hello_at, name) = (session.hello_at, session_name(&session.nonce));
        let member = verdict?;
        if self
            .revocations
            .iter()
            .any(|(at, revocation)| *at >= hello_at && revocation.matches(&member))
        {
            return Err(CloseCode::Revoked);
        }
        self.replace_older(&member);
        let network = self.networks.entry(member.network).or_default();
        network.by_name.insert(member.device_id.clone(), id);
        network.by_device.insert(member.device, id);
        let ping_at = self.now + u64::from(self.limits.heartbeat_ms);
        if let Some(session) = self.sessions.get_mut(id) {
            session.state = state;
            session.member = Some(member);
            session.ping_at = Some(ping_at);
            if let Some(at) = session.handshake_at.take() {
                self.timers.stop(at, Timer::Handshake(id));
            }
        }
        self.timers.start(ping_at, Timer::Ping(id));
        self.effects.push_back(Effect::Presence {
            session: id,
            online: true,
        });
        let limits = SessionLimits {
            message_bytes_max: MESSAGE_BYTES_MAX,
            window_bytes: WINDOW_BYTES,
            links_max: self.limits.links_max,
            connects_max: self.limits.connects_max,
            actions_max: self.limits.actions_max,
            requests_per_second: self.limits.requests_per_second,
        };
        let heartbeat_seconds = self.limits.heartbeat_ms.div_ceil(1_000);
        self.post(
            id,
            &Outbound::Welcome {
                session: &name,
                heartbeat_seconds,
                limits,
            },
        );
        Ok(())
    }

    /// One session a device: by its internal id, and by its name (deleted and made anew, or renamed).
    fn replace_older(&mut self, member: &Member) {
        let Some(network) = self.networks.get(&member.network) else {
            return;
        };
        let by_device = network.by_device.get(&member.device).copied();
        let by_name = network.by_name.get(&member.device_id).copied();
        for older in [by_device, by_name].into_iter().flatten() {
            if self.remove(older) {
                self.effects.push_back(Effect::Close {
                    session: older,
                    code: CloseCode::Replaced,
                });
            }
        }
    }

    /// Ends every session that matches, those whose `hello` is still being judged included. Returns how many now.
    pub fn revoke(&mut self, revocation: &Revocation, now: u64) -> usize {
        self.tick(now);
        let horizon = self
            .now
            .saturating_sub(u64::from(self.limits.authenticate_ms));
        self.revocations.retain(|(at, _)| *at >= horizon);
        let authenticating = |session: &Session| session.state == SessionState::Authenticating;
        if self
            .sessions
            .ids()
            .any(|id| self.sessions.get(id).is_some_and(authenticating))
        {
            self.revocations.push((self.now, revocation.clone()));
        }
        let member_matches = |id: &SessionId| {
            self.sessions
                .get(*id)
                .and_then(|s| s.member.as_ref())
                .is_some_and(|member| revocation.matches(member))
        };
        let matching: Vec<SessionId> = self.sessions.ids().filter(member_matches).collect();
        for id in &matching {
            self.doom(*id, CloseCode::Revoked);
        }
        self.settle();
        matching.len()
    }

    /// The next frame to write, or `None`: then a `Wake` will come.
    pub fn poll_transmit(&mut self, id: SessionId, now: u64) -> Option<Frame> {
        self.tick(now);
        loop {
            let session = self.sessions.get_mut(id)?;
            session.outbox.moved_at = self.now;
            match session.outbox.pull() {
                Pull::Frame(frame) => return Some(frame),
                Pull::Body(job) => {
                    if let Some(frame) = self.body_frame(id, job) {
                        return Some(frame);
                    }
                }
                Pull::Empty => {
                    session.outbox.woken = false;
                    return None;
                }
            }
        }
    }

    /// The next effect; take all after every call.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub(crate) fn tick(&mut self, now: u64) {
        self.now = self.now.max(now);
    }

    pub(crate) fn start_handshake(&mut self, id: SessionId, within_ms: u32) {
        let at = self.now + u64::from(within_ms);
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        if let Some(old) = session.handshake_at.replace(at) {
            self.timers.stop(old, Timer::Handshake(id));
        }
        self.timers.start(at, Timer::Handshake(id));
    }

    pub(crate) fn doom(&mut self, id: SessionId, code: CloseCode) {
        self.doomed.push_back((id, code));
    }

    pub(crate) fn settle(&mut self) {
        while let Some((id, code)) = self.doomed.pop_front() {
            if self.remove(id) {
                self.effects.push_back(Effect::Close { session: id, code });
            }
        }
    }

    /// Takes a session out with all that hangs on it; false if it was gone.
    fn remove(&mut self, id: SessionId) -> bool {
        let Some(session) = self.sessions.remove(id) else {
            return false;
        };
        let timers = [
            (session.handshake_at, Timer::Handshake(id)),
            (session.ping_at, Timer::Ping(id)),
            (session.pong_at, Timer::Pong(id)),
            (session.stall_at, Timer::Stall(id)),
        ];
        for (at, timer) in timers {
            if let Some(at) = at {
                self.timers.stop(at, timer);
            }
        }
        if let Some(member) = &session.member {
            if let Some(network) = self.networks.get_mut(&member.network) {
                network.by_name.retain_not(&member.device_id, id);
                network.by_device.retain_not(&member.device, id);
                if network.by_name.is_empty() && network.by_device.is_empty() {
                    self.networks.remove(&member.network);
                }
            }
            self.effects.push_back(Effect::Presence {
                session: id,
                online: false,
            });
        }
        self.drop_requests(id, session.requests);
        self.drop_asks(session.asks);
        self.drop_links(session.links);
        true
    }
}

trait RetainNot<K> {
    /// Takes the entry out if it still points to this session.
    fn retain_not(&mut self, key: &K, id: SessionId);
}

impl<K: std::hash::Hash + Eq> RetainNot<K> for HashMap<K, SessionId> {
    fn retain_not(&mut self, key: &K, id: SessionId) {
        if self.get(key) == Some(&id) {
            self.remove(key);
        }
    }
}

fn session_name(nonce: &[u8; 32]) -> String {
    base64url(&nonce[..9])
}

/// RFC 4648 §5 without padding.
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut group = [0u8; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from(group[0]) << 16 | u32::from(group[1]) << 8 | u32::from(group[2]);
        for sextet in 0..=chunk.len() {
            text.push(char::from(
                ALPHABET[(bits >> (18 - 6 * sextet) & 63) as usize],
            ));
        }
    }
    text
}
