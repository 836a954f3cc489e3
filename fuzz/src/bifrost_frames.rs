//! Frames of any kind from members of two networks: no panic, no leak across the border, nothing left behind.
//!
//! The bytes are a script: what happens (one byte), to whom (one byte), and a slice behind its length.

use bifrost::{
    CloseCode, DeviceInfo, Effect, Frame, JobId, Limits, Member, OpenJob, Relay, Revocation,
    SessionId, Uuid,
};

use crate::source::Source;

const HOME: Uuid = [1; 16];
const AWAY: Uuid = [2; 16];
/// A device at home; the other network must never read its name, unless it wrote it itself.
const HIDDEN: &str = "gullinkambi";
const STEPS_MAX: usize = 400;

struct World {
    relay: Relay,
    now: u64,
    sessions: Vec<(SessionId, Uuid)>,
    jobs: Vec<JobId>,
    nonces: u8,
    /// Verdicts on a hello go by turns.
    verdicts: u8,
    drained: bool,
}

impl World {
    fn new() -> Self {
        let limits = Limits {
            messages_burst: 40,
            ..Limits::default()
        };
        let mut world = Self {
            relay: Relay::new(limits),
            now: 1_000,
            sessions: Vec::new(),
            jobs: Vec::new(),
            nonces: 0,
            verdicts: 0,
            drained: false,
        };
        for (network, name) in [(HOME, "pc"), (HOME, HIDDEN), (AWAY, "spy")] {
            world.live(network, name);
        }
        world
    }

    fn open(&mut self, network: Uuid) -> Option<SessionId> {
        self.nonces = self.nonces.wrapping_add(1);
        let session = self.relay.open(self.now, [self.nonces; 32]).ok()?;
        self.sessions.push((session, network));
        Some(session)
    }

    fn live(&mut self, network: Uuid, name: &str) {
        if let Some(session) = self.open(network) {
            let hello = r#"{"type":"hello","token":"t","device_id":"d","proof":"p"}"#;
            let frame = Frame::Text(hello.to_owned());
            self.relay.receive(session, frame, self.now);
            let verdict = Ok(member(network, name));
            self.relay.authenticated(session, verdict, self.now);
            self.answer();
        }
    }

    /// What a shell does after every call.
    fn answer(&mut self) {
        let mut effects = 0;
        while let Some(effect) = self.relay.poll_effect() {
            effects += 1;
            assert!(effects < 100_000, "effects without an end");
            match effect {
                Effect::Authenticate { session, .. } => {
                    self.verdicts = self.verdicts.wrapping_add(1);
                    let known = self.sessions.iter().find(|known| known.0 == session);
                    let network = known.map_or(AWAY, |known| known.1);
                    let verdict = match self.verdicts % 5 {
                        0 => Err(CloseCode::Unauthenticated),
                        1 => continue,
                        number => Ok(member(network, &format!("d{number}"))),
                    };
                    self.relay.authenticated(session, verdict, self.now);
                }
                Effect::Directory { ticket, session } => {
                    let at_home = self.sessions.contains(&(session, HOME));
                    let names: &[&str] = if at_home { &["pc", HIDDEN] } else { &["spy"] };
                    let devices: Vec<DeviceInfo> = names.iter().map(|name| device(name)).collect();
                    self.relay.directory(ticket, Ok(&devices), self.now);
                }
                Effect::Exists { ticket, .. } => self.relay.exists(ticket, Ok(false), self.now),
                Effect::Job { job } => {
                    self.relay.take_job(job, self.now);
                }
                _ => {}
            }
        }
    }

    fn pull(&mut self, place: usize) {
        let (session, network) = self.sessions[place];
        while let Some(frame) = self.relay.poll_transmit(session, self.now) {
            if let (Frame::Text(text), AWAY) = (&frame, network) {
                assert!(!text.contains(HIDDEN), "{text}");
            }
        }
    }

    fn job(&mut self, body: &[u8]) {
        let open = OpenJob {
            job: "j".to_owned(),
            kind: "chat".to_owned(),
            model: "m".to_owned(),
            body: body.repeat(300),
            deadline_ms: 60_000,
        };
        let device = member(HOME, "pc").device;
        self.jobs
            .extend(self.relay.open_job(&HOME, &device, open, self.now));
    }

    fn step(&mut self, source: &mut Source<'_>) {
        let (what, whom) = (source.byte() % 16, usize::from(source.byte()));
        let slice = source.slice();
        let place = whom % self.sessions.len();
        let (session, network) = self.sessions[place];
        match what {
            0..=5 => {
                let mut text = String::from_utf8_lossy(slice).into_owned();
                if network == AWAY {
                    text = text.replace(HIDDEN, "someone");
                }
                self.relay.receive(session, Frame::Text(text), self.now);
            }
            6 | 7 => {
                // Long ones too, which a slice is not.
                let times = if what == 7 { 1 + whom } else { 1 };
                let mut frame = slice[..slice.len().min(4)].to_vec();
                frame.extend(slice.get(4..).unwrap_or_default().repeat(times));
                self.relay.receive(session, Frame::Binary(frame), self.now);
            }
            8 => {
                self.now += whom as u64 * 97;
                self.relay.on_timeout(self.now);
            }
            9 => self.pull(place),
            10 => self.job(slice),
            11 => match self.jobs.pop() {
                Some(job) => self.relay.cancel_job(job, self.now),
                None => self.relay.end(session, CloseCode::Internal, self.now),
            },
            12 if self.sessions.len() < 12 => {
                self.open(if whom % 2 == 0 { HOME } else { AWAY });
            }
            13 => self.relay.closed(session, self.now),
            14 if whom == 255 => {
                self.relay.drain(1_000, self.now);
                self.drained = true;
            }
            14 => self.live(network, ["pc", "spy", "other"][whom % 3]),
            15 if whom > 250 => {
                let revoked = Revocation {
                    key: Some([7; 16]),
                    ..Revocation::default()
                };
                self.relay.revoke(&revoked, self.now);
            }
            _ => {
                let wait = self.relay.next_timeout().unwrap_or(self.now);
                self.now = self.now.max(wait);
                self.relay.on_timeout(self.now);
            }
        }
        self.answer();
    }
}

fn member(network: Uuid, name: &str) -> Member {
    let mut device = [0; 16];
    let bytes = &name.as_bytes()[..name.len().min(16)];
    device[..bytes.len()].copy_from_slice(bytes);
    Member {
        network,
        user: network,
        device,
        device_id: name.to_owned(),
        session: None,
        key: Some([7; 16]),
    }
}

fn device(name: &str) -> DeviceInfo {
    DeviceInfo {
        device_id: name.to_owned(),
        name: name.to_owned(),
        kind: "phone".to_owned(),
    }
}

/// Tries it.
///
/// # Panics
/// If the engine is wrong: that is what it is for.
pub fn run(data: &[u8]) {
    let mut world = World::new();
    let mut source = Source(data);
    for _ in 0..STEPS_MAX {
        if source.0.is_empty() {
            break;
        }
        world.step(&mut source);
    }
    for place in 0..world.sessions.len() {
        world.pull(place);
        world.relay.closed(world.sessions[place].0, world.now);
    }
    for job in std::mem::take(&mut world.jobs) {
        world.relay.cancel_job(job, world.now);
    }
    world.answer();
    assert_eq!((world.relay.sessions(), world.relay.jobs()), (0, 0));
    if world.drained {
        // The end of a drain is the relay's own and comes once.
        world.now = world.relay.next_timeout().unwrap_or(world.now);
        world.relay.on_timeout(world.now);
    }
    assert_eq!(world.relay.next_timeout(), None, "a timer is left");
}

/// Scripts in which honest members do what the protocol is for.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    const PC: u8 = 0;
    const PHONE: u8 = 1;
    const SPY: u8 = 2;
    let text = |whom: u8, text: &str| step(0, whom, text.as_bytes());
    let pull = |whom: u8| step(9, whom, b"");
    let connected = || {
        [
            text(
                PC,
                r#"{"type":"connect","request":1,"to":"gullinkambi","purpose":"p"}"#,
            ),
            pull(PHONE),
            text(PHONE, r#"{"type":"allow","ask":1}"#),
            pull(PC),
        ]
        .concat()
    };
    let messages = |whom: u8| {
        [
            r#"{"type":"discover","request":2}"#,
            r#"{"type":"ping","id":3}"#,
            r#"{"type":"action","request":4,"to":"pc","name":"n","arguments":{"a":[1,"b"]},"deadline_ms":900,"idempotency_id":"i"}"#,
            r#"{"type":"action_result","request":1,"ok":true,"result":{"x":null}}"#,
            r#"{"type":"connect","request":5,"to":"spy","purpose":"p","relay":"force"}"#,
            r#"{"type":"deny","ask":1}"#,
            r#"{"type":"credit","link":1,"bytes":200000}"#,
            r#"{"type":"candidates","link":1,"data":["c"]}"#,
            r#"{"type":"disconnect","link":1}"#,
            r#"{"type":"event","name":"e","data":{}}"#,
            "{}",
            "[1]",
        ]
        .map(|message| text(whom, message))
        .concat()
    };
    let data = |whom: u8, link: u8| step(6, whom, &[0, 0, 0, link, 1, 2, 3, 4]);
    let job = [
        step(10, PC, &[7; 200]),
        pull(PC),
        text(PC, r#"{"type":"accept","link":1}"#),
        data(PC, 1),
        text(
            PC,
            r#"{"type":"done","link":1,"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
        ),
    ];
    let refused = [
        step(10, PC, b"x"),
        text(PC, r#"{"type":"busy","link":1}"#),
        step(10, PC, b"y"),
        text(PC, r#"{"type":"fault","link":2,"code":"c","message":"m"}"#),
    ];
    vec![
        [
            connected(),
            data(PC, 1),
            data(PHONE, 1),
            pull(PC),
            pull(PHONE),
        ]
        .concat(),
        [
            messages(PC),
            messages(SPY),
            step(8, 200, b""),
            pull(PC),
            pull(SPY),
        ]
        .concat(),
        job.concat(),
        refused.concat(),
        [
            connected(),
            step(7, 255, &[0, 0, 0, 1, 9, 9, 9, 9, 9, 9]),
            step(13, PHONE, b""),
        ]
        .concat(),
        [
            step(12, 0, b""),
            text(
                3,
                r#"{"type":"hello","token":"t","device_id":"d","proof":"p"}"#,
            ),
            pull(3),
        ]
        .concat(),
        [
            connected(),
            step(14, 255, b""),
            step(8, 255, b""),
            step(15, 0, b""),
            step(15, 255, b""),
        ]
        .concat(),
    ]
}

fn step(what: u8, whom: u8, slice: &[u8]) -> Vec<u8> {
    let length = u8::try_from(slice.len()).unwrap_or(u8::MAX);
    [&[what, whom, length], slice].concat()
}
