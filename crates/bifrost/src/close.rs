//! Why a session ends: values with a rule.

/// 4000–4499: dial again, with back-off. 4500–4999: final, the same dial would fail again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum CloseCode {
    /// The server stops (after `drain`).
    GoingAway = 4000,
    /// No sign of life after a ping.
    Heartbeat = 4001,
    /// The reader is slower than what it let others send.
    Slow = 4002,
    /// More control messages than any honest client needs.
    Flood = 4003,
    /// No `hello` in time.
    HelloTimeout = 4004,
    /// The `hello` could not be judged now.
    Unavailable = 4005,
    /// Our own bug.
    Internal = 4006,
    /// The server holds all the sessions it may.
    Full = 4007,
    /// Not a message of this protocol.
    Protocol = 4500,
    /// A message that this state does not allow.
    OutOfOrder = 4501,
    /// A message over the size limit.
    TooLarge = 4502,
    /// Data beyond credit, or credit beyond the window.
    Credit = 4503,
    /// Data on a link that never was.
    Link = 4504,
    /// Token or proof not valid: one answer for all reasons.
    Unauthenticated = 4505,
    /// The token, key, device or membership was revoked.
    Revoked = 4506,
    /// The same device said hello on a newer socket.
    Replaced = 4507,
    /// The subprotocol was not offered.
    Subprotocol = 4508,
}

impl CloseCode {
    /// Every code with its reason, for documentation and tests.
    pub const ALL: [(CloseCode, &'static str); 17] = [
        (CloseCode::GoingAway, "the server is going away"),
        (CloseCode::Heartbeat, "no sign of life"),
        (CloseCode::Slow, "reading too slowly"),
        (CloseCode::Flood, "too many messages"),
        (CloseCode::HelloTimeout, "no hello in time"),
        (CloseCode::Unavailable, "try again later"),
        (CloseCode::Internal, "internal error"),
        (CloseCode::Full, "too many sessions"),
        (CloseCode::Protocol, "not a message of this protocol"),
        (CloseCode::OutOfOrder, "message not allowed now"),
        (CloseCode::TooLarge, "message too large"),
        (CloseCode::Credit, "credit exceeded"),
        (CloseCode::Link, "no such link"),
        (CloseCode::Unauthenticated, "hello refused"),
        (CloseCode::Revoked, "revoked"),
        (CloseCode::Replaced, "replaced by a newer session"),
        (CloseCode::Subprotocol, "subprotocol bifrost.v1 is needed"),
    ];

    /// The number on the wire.
    #[must_use]
    pub fn code(self) -> u16 {
        self as u16
    }

    /// The default reason; fits a close frame (123 bytes).
    #[must_use]
    pub fn reason(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(code, _)| *code == self)
            .map_or("", |(_, reason)| reason)
    }
}
