//! The control messages: what a device may say, what the server says.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::fields::{FieldError, Fields};
use crate::limits::{DEADLINE_MS_MAX, TEXT_CHARS_MAX, TOKEN_BYTES_MAX, WINDOW_BYTES};

/// What a device may say.
#[derive(Debug)]
pub(crate) enum Inbound {
    Hello {
        token: String,
        device_id: String,
        proof: String,
    },
    Discover {
        request: u32,
    },
    Connect {
        request: u32,
        to: String,
        purpose: String,
        relay_never: bool,
    },
    Allow {
        ask: u32,
    },
    Deny {
        ask: u32,
    },
    Credit {
        link: u32,
        bytes: u32,
    },
    Action(Box<InboundAction>),
    ActionResult {
        ask: u32,
        ok: bool,
        result: Box<RawValue>,
    },
    Disconnect {
        link: u32,
    },
    Ping {
        id: u32,
    },
    Pong {
        id: u32,
    },
    Accept {
        link: u32,
    },
    Busy {
        link: u32,
        message: String,
    },
    Done {
        link: u32,
        prompt_tokens: u64,
        completion_tokens: u64,
    },
    Fault {
        link: u32,
        code: String,
        message: String,
    },
}

#[derive(Debug)]
pub(crate) struct InboundAction {
    pub(crate) request: u32,
    pub(crate) to: String,
    pub(crate) name: String,
    pub(crate) deadline_ms: u32,
    pub(crate) idempotency_id: String,
    pub(crate) arguments: Box<RawValue>,
}

impl Inbound {
    pub(crate) fn read(fields: &Fields<'_>) -> Result<Self, FieldError> {
        let number = |field| fields.number(field, u32::MAX);
        Ok(match fields.kind() {
            "hello" => Self::Hello {
                token: fields.text("token", 1, TOKEN_BYTES_MAX)?,
                device_id: fields.device("device_id")?,
                proof: fields.text("proof", 0, 128)?,
            },
            "discover" => Self::Discover {
                request: number("request")?,
            },
            "connect" => Self::Connect {
                request: number("request")?,
                to: fields.device("to")?,
                purpose: fields.name("purpose")?,
                relay_never: match fields.text_or("relay", "auto", TEXT_CHARS_MAX).as_deref() {
                    Ok("auto" | "force") => false,
                    Ok("never") => true,
                    _ => return Err("relay: auto, force or never".to_owned()),
                },
            },
            "allow" => Self::Allow {
                ask: number("ask")?,
            },
            "deny" => Self::Deny {
                ask: number("ask")?,
            },
            "credit" => Self::Credit {
                link: number("link")?,
                bytes: fields.number("bytes", WINDOW_BYTES)?,
            },
            "action" => Self::Action(Box::new(InboundAction {
                request: number("request")?,
                to: fields.device("to")?,
                name: fields.name("name")?,
                deadline_ms: fields.number("deadline_ms", DEADLINE_MS_MAX)?,
                idempotency_id: fields.name("idempotency_id")?,
                arguments: fields.opaque("arguments")?,
            })),
            "action_result" => Self::ActionResult {
                ask: number("ask")?,
                ok: fields.flag("ok")?,
                result: fields.opaque("result")?,
            },
            "disconnect" => Self::Disconnect {
                link: number("link")?,
            },
            "ping" => Self::Ping { id: number("id")? },
            "pong" => Self::Pong { id: number("id")? },
            "accept" => Self::Accept {
                link: number("link")?,
            },
            "busy" => Self::Busy {
                link: number("link")?,
                message: fields.text_or("message", "", TEXT_CHARS_MAX)?,
            },
            "done" => {
                let (prompt_tokens, completion_tokens) = fields.usage("usage")?;
                Self::Done {
                    link: number("link")?,
                    prompt_tokens,
                    completion_tokens,
                }
            }
            "fault" => Self::Fault {
                link: number("link")?,
                code: fields.name("code")?,
                message: fields.text_or("message", "", TEXT_CHARS_MAX)?,
            },
            _ => return Err("type: not a message a device sends".to_owned()),
        })
    }
}

/// What the server says.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Outbound<'a> {
    Challenge {
        nonce: &'a str,
    },
    Welcome {
        session: &'a str,
        heartbeat_seconds: u32,
        limits: SessionLimits,
    },
    Devices {
        request: u32,
        devices: &'a [DeviceLine<'a>],
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        more: bool,
    },
    ConnectRequest {
        ask: u32,
        from: &'a str,
        purpose: &'a str,
    },
    Connected {
        link: u32,
        peer: &'a str,
        path: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        request: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        ask: Option<u32>,
    },
    Credit {
        link: u32,
        bytes: u32,
    },
    Action {
        ask: u32,
        from: &'a str,
        name: &'a str,
        deadline_ms: u32,
        idempotency_id: &'a str,
        arguments: &'a RawValue,
    },
    ActionResult {
        request: u32,
        ok: bool,
        result: &'a RawValue,
    },
    Disconnect {
        link: u32,
    },
    Ping {
        id: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        rtt_ms: Option<u64>,
    },
    Pong {
        id: u32,
    },
    Event {
        name: &'a str,
        data: &'a RawValue,
    },
    Error {
        code: &'static str,
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        request: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        ask: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        link: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
    Drain {
        reconnect_after_ms: u64,
    },
    Job {
        link: u32,
        job: &'a str,
        kind: &'a str,
        model: &'a str,
        bytes: usize,
        deadline_ms: u32,
    },
}

#[derive(Serialize)]
#[allow(clippy::struct_field_names)] // names of the protocol
pub(crate) struct SessionLimits {
    pub(crate) message_bytes_max: usize,
    pub(crate) window_bytes: u32,
    pub(crate) links_max: u32,
    pub(crate) connects_max: u32,
    pub(crate) actions_max: u32,
    pub(crate) requests_per_second: u32,
}

#[derive(Serialize)]
pub(crate) struct DeviceLine<'a> {
    pub(crate) device_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) kind: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) online: bool,
}

impl Outbound<'_> {
    pub(crate) fn encode(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() // strings and numbers: there is nothing that can fail
    }
}

/// What an error belongs to.
#[derive(Clone, Copy, Default)]
pub(crate) struct About {
    pub(crate) request: Option<u32>,
    pub(crate) ask: Option<u32>,
    pub(crate) link: Option<u32>,
}

impl About {
    pub(crate) fn request(request: u32) -> Self {
        Self {
            request: Some(request),
            ..Self::default()
        }
    }

    pub(crate) fn ask(ask: u32) -> Self {
        Self {
            ask: Some(ask),
            ..Self::default()
        }
    }
}
