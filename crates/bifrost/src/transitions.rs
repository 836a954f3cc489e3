//! Every move of a session and of a link lives in this file. What is not in a table is the peer's fault.

/// Where a session stands. A closed session is gone; its id is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// `challenge` sent, waits for `hello`.
    Greeting,
    /// The application judges the `hello`.
    Authenticating,
    /// Welcomed.
    Live,
}

/// What can happen to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionInput {
    /// The peer said `hello`.
    Hello,
    /// The application knows the member.
    Welcomed,
    /// Any other control message of the peer.
    Control,
    /// A data frame of the peer.
    Data,
}

/// All moves of a session.
pub const SESSION_TRANSITIONS: &[(SessionState, SessionInput, SessionState)] = &[
    (
        SessionState::Greeting,
        SessionInput::Hello,
        SessionState::Authenticating,
    ),
    (
        SessionState::Authenticating,
        SessionInput::Welcomed,
        SessionState::Live,
    ),
    (
        SessionState::Live,
        SessionInput::Control,
        SessionState::Live,
    ),
    (SessionState::Live, SessionInput::Data, SessionState::Live),
];

/// The state after `input`, if the table has the move.
#[must_use]
pub fn next_session(state: SessionState, input: SessionInput) -> Option<SessionState> {
    SESSION_TRANSITIONS
        .iter()
        .find(|(from, on, _)| *from == state && *on == input)
        .map(|(_, _, to)| *to)
}

/// Where a link stands, seen from one session. An ended link is gone; its number is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Between two devices.
    Open,
    /// A job, not answered yet.
    Offered,
    /// A job, accepted.
    Running,
}

/// What the peer can do on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkInput {
    /// A data frame.
    Data,
    /// `credit`
    Credit,
    /// `disconnect`
    Disconnect,
    /// `accept`
    Accept,
    /// `busy`
    Busy,
    /// `done`
    Done,
    /// `fault`
    Fault,
}

/// Where a move on a link leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkStep {
    /// The link goes on in this state.
    To(LinkState),
    /// The link ends.
    End,
}

/// All moves of a link.
pub const LINK_TRANSITIONS: &[(LinkState, LinkInput, LinkStep)] = &[
    (
        LinkState::Open,
        LinkInput::Data,
        LinkStep::To(LinkState::Open),
    ),
    (
        LinkState::Open,
        LinkInput::Credit,
        LinkStep::To(LinkState::Open),
    ),
    (LinkState::Open, LinkInput::Disconnect, LinkStep::End),
    (
        LinkState::Offered,
        LinkInput::Credit,
        LinkStep::To(LinkState::Offered),
    ),
    (
        LinkState::Offered,
        LinkInput::Accept,
        LinkStep::To(LinkState::Running),
    ),
    (LinkState::Offered, LinkInput::Busy, LinkStep::End),
    (LinkState::Offered, LinkInput::Fault, LinkStep::End),
    (
        LinkState::Running,
        LinkInput::Credit,
        LinkStep::To(LinkState::Running),
    ),
    (
        LinkState::Running,
        LinkInput::Data,
        LinkStep::To(LinkState::Running),
    ),
    (LinkState::Running, LinkInput::Done, LinkStep::End),
    (LinkState::Running, LinkInput::Fault, LinkStep::End),
];

/// Where `input` leads, if the table has the move.
#[must_use]
pub fn next_link(state: LinkState, input: LinkInput) -> Option<LinkStep> {
    LINK_TRANSITIONS
        .iter()
        .find(|(from, on, _)| *from == state && *on == input)
        .map(|(_, _, step)| *step)
}
