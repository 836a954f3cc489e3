//! The relay driven by hand: every move of the tables, legal and illegal, and garbage.

mod garbage;
mod links;
mod sessions;

use crate::{CloseCode, Effect, Frame, JobId, Limits, Member, OpenJob, Relay, SessionId, Uuid};

pub(super) const HOME: Uuid = [1; 16];
pub(super) const AWAY: Uuid = [2; 16];

/// A relay with a shell that only collects.
pub(super) struct World {
    pub(super) relay: Relay,
    pub(super) now: u64,
    pub(super) closes: Vec<(SessionId, CloseCode)>,
    pub(super) effects: Vec<Effect>,
    nonces: u8,
}

impl World {
    pub(super) fn new(limits: Limits) -> Self {
        let (closes, effects) = (Vec::new(), Vec::new());
        Self {
            relay: Relay::new(limits),
            now: 1_000,
            closes,
            effects,
            nonces: 0,
        }
    }

    pub(super) fn open(&mut self) -> SessionId {
        self.nonces += 1;
        let session = self
            .relay
            .open(self.now, [self.nonces; 32])
            .expect("there is room");
        self.collect();
        session
    }

    pub(super) fn live(&mut self, network: Uuid, name: &str) -> SessionId {
        let session = self.open();
        self.text(
            session,
            r#"{"type":"hello","token":"t","device_id":"d","proof":"p"}"#,
        );
        self.admit(session, network, name);
        self.pull(session);
        session
    }

    pub(super) fn admit(&mut self, session: SessionId, network: Uuid, name: &str) {
        self.relay
            .authenticated(session, Ok(member(network, name)), self.now);
        self.collect();
    }

    pub(super) fn text(&mut self, session: SessionId, text: &str) {
        self.relay
            .receive(session, Frame::Text(text.to_owned()), self.now);
        self.collect();
    }

    pub(super) fn binary(&mut self, session: SessionId, link: u32, payload: &[u8]) {
        let frame = [&link.to_be_bytes(), payload].concat();
        self.relay.receive(session, Frame::Binary(frame), self.now);
        self.collect();
    }

    pub(super) fn wait(&mut self, ms: u64) {
        self.now += ms;
        self.relay.on_timeout(self.now);
        self.collect();
    }

    pub(super) fn job(&mut self, network: Uuid, name: &str, body: &[u8]) -> JobId {
        let open = OpenJob {
            job: "j".to_owned(),
            kind: "chat".to_owned(),
            model: "m".to_owned(),
            body: body.to_vec(),
            deadline_ms: 60_000,
        };
        let device = member(network, name).device;
        let job = self
            .relay
            .open_job(&network, &device, open, self.now)
            .expect("online");
        self.collect();
        job
    }

    /// Every frame waiting for a session, text as it is, data as its length.
    pub(super) fn pull(&mut self, session: SessionId) -> Vec<String> {
        let mut frames = Vec::new();
        while let Some(frame) = self.relay.poll_transmit(session, self.now) {
            frames.push(match frame {
                Frame::Text(text) => text,
                Frame::Binary(bytes) => format!("data {}", bytes.len()),
            });
        }
        frames
    }

    pub(super) fn collect(&mut self) {
        while let Some(effect) = self.relay.poll_effect() {
            if let Effect::Close { session, code } = effect {
                self.closes.push((session, code));
            }
            self.effects.push(effect);
        }
    }

    pub(super) fn link(&mut self, one: SessionId, two: SessionId, name: &str) {
        self.text(
            one,
            &format!(r#"{{"type":"connect","request":1,"to":"{name}","purpose":"p"}}"#),
        );
        self.text(two, r#"{"type":"allow","ask":1}"#);
        assert!(self.pull(one)[0].starts_with(r#"{"type":"connected","link":1"#));
        self.pull(two);
    }
}

pub(super) fn member(network: Uuid, name: &str) -> Member {
    let mut device = [0; 16];
    device[..name.len().min(16)].copy_from_slice(&name.as_bytes()[..name.len().min(16)]);
    Member {
        network,
        user: network,
        device,
        device_id: name.to_owned(),
        session: None,
        key: None,
    }
}
