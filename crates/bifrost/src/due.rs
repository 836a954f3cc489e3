//! What time brings: overdue handshakes and answers, heartbeats, stalled queues, and the end of a drain.

use crate::message::Outbound;
use crate::relay::Relay;
use crate::slots::SessionId;
use crate::timers::Timer;
use crate::transitions::SessionState;
use crate::CloseCode;

impl Relay {
    /// The server is about to stop: tells every live session, refuses new ones, and ends what is left after that time.
    pub fn drain(&mut self, reconnect_after_ms: u64, now: u64) {
        self.tick(now);
        if self.draining {
            return;
        }
        self.draining = true;
        let ids: Vec<SessionId> = self.sessions.ids().collect();
        for id in ids {
            match self.sessions.get(id).map(|session| session.state) {
                Some(SessionState::Live) => self.post(id, &Outbound::Drain { reconnect_after_ms }),
                _ => self.doom(id, CloseCode::GoingAway),
            }
        }
        self.timers
            .start(self.now.saturating_add(reconnect_after_ms), Timer::Drain);
        self.settle();
    }

    /// When `on_timeout` wants to be called.
    #[must_use]
    pub fn next_timeout(&self) -> Option<u64> {
        self.timers.next()
    }

    /// Time passed.
    pub fn on_timeout(&mut self, now: u64) {
        self.tick(now);
        while let Some(timer) = self.timers.pop_due(self.now) {
            self.fire(timer);
        }
        self.settle();
    }

    fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Handshake(id) => {
                let Some(session) = self.sessions.get_mut(id) else {
                    return;
                };
                session.handshake_at = None;
                let code = match session.state {
                    SessionState::Greeting => CloseCode::HelloTimeout,
                    _ => CloseCode::Unavailable,
                };
                self.doom(id, code);
            }
            Timer::Ping(id) => self.ping_due(id),
            Timer::Pong(id) => {
                let Some(session) = self.sessions.get_mut(id) else {
                    return;
                };
                session.pong_at = None;
                if !session.heard {
                    self.doom(id, CloseCode::Heartbeat);
                }
            }
            Timer::Stall(id) => self.stall_due(id),
            Timer::Request(id, request) => self.request_overdue(id, request),
            Timer::Accept(job) => self.accept_overdue(job),
            Timer::Job(job) => self.job_overdue(job),
            Timer::Drain => {
                let ids: Vec<SessionId> = self.sessions.ids().collect();
                for id in ids {
                    self.doom(id, CloseCode::GoingAway);
                }
            }
        }
    }

    fn ping_due(&mut self, id: SessionId) {
        let next_at = self.now + u64::from(self.limits.heartbeat_ms);
        let overdue_at = self.now + u64::from(self.limits.pong_ms);
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        session.ping_id = session.ping_id.wrapping_add(1).max(1);
        session.ping_sent_at = self.now;
        session.heard = false;
        session.ping_at = Some(next_at);
        let stale = session.pong_at.replace(overdue_at);
        let (ping, rtt_ms) = (session.ping_id, session.rtt_ms);
        if let Some(at) = stale {
            self.timers.stop(at, Timer::Pong(id));
        }
        self.timers.start(next_at, Timer::Ping(id));
        self.timers.start(overdue_at, Timer::Pong(id));
        self.post(id, &Outbound::Ping { id: ping, rtt_ms });
    }

    fn stall_due(&mut self, id: SessionId) {
        let stall_ms = u64::from(self.limits.stall_ms);
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        session.stall_at = None;
        session.outbox.stall_watched = false;
        if session.outbox.is_empty() {
            return;
        }
        let stalled_at = session.outbox.moved_at + stall_ms;
        if stalled_at <= self.now {
            self.doom(id, CloseCode::Slow);
            return;
        }
        session.outbox.stall_watched = true;
        session.stall_at = Some(stalled_at);
        self.timers.start(stalled_at, Timer::Stall(id));
    }
}
