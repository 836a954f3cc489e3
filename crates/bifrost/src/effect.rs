//! What goes between the relay and its shell.

use crate::job::JobId;
use crate::slots::SessionId;
use crate::CloseCode;

/// 16 bytes; the relay only compares them.
pub type Uuid = [u8; 16];

/// One message of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Control.
    Text(String),
    /// Data on a link.
    Binary(Vec<u8>),
}

impl Frame {
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Frame::Text(text) => text.len(),
            Frame::Binary(bytes) => bytes.len(),
        }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Who a session speaks for; the application's verdict on a `hello`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The only network this session can see.
    pub network: Uuid,
    /// The user of the token.
    pub user: Uuid,
    /// Internal id of the device.
    pub device: Uuid,
    /// The name the device has in its network.
    pub device_id: String,
    /// The login session of the token, if it has one.
    pub session: Option<Uuid>,
    /// The API key, if one was used.
    pub key: Option<Uuid>,
}

/// One line of `devices`; `online` is the relay's own knowledge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Unique in its network.
    pub device_id: String,
    /// For people.
    pub name: String,
    /// What sort of device.
    pub kind: String,
}

/// What the shell must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// There are frames to pull. Sent once until `poll_transmit` has said `None`.
    Wake {
        /// Whose.
        session: SessionId,
    },
    /// Judge a `hello`, then call `Relay::authenticated`.
    Authenticate {
        /// Whose.
        session: SessionId,
        /// As sent.
        token: String,
        /// As claimed.
        device_id: String,
        /// As sent.
        proof: String,
        /// What the proof must cover.
        nonce: [u8; 32],
    },
    /// List the devices of the session's own network, then call `Relay::directory`.
    Directory {
        /// Names this question.
        ticket: u64,
        /// Who asks.
        session: SessionId,
    },
    /// Say whether a device of this name is in the session's own network, then call `Relay::exists`.
    Exists {
        /// Names this question.
        ticket: u64,
        /// Who asks.
        session: SessionId,
        /// The name.
        device_id: String,
    },
    /// A member came (true) or went (false): once each for every welcomed session.
    Presence {
        /// Whose.
        session: SessionId,
        /// Came or went.
        online: bool,
    },
    /// Close the socket. The session is gone already.
    Close {
        /// Whose.
        session: SessionId,
        /// With this code.
        code: CloseCode,
    },
    /// There is something in `Relay::take_job`. Sent once until taken.
    Job {
        /// Which.
        job: JobId,
    },
}
