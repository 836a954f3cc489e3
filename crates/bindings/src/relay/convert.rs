//! Settings in, effects out.

use bifrost::{CloseCode, Effect, Limits};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::IntoPyObjectExt;

use crate::errors::invalid;

pub(super) fn limit<'a>(limits: &'a mut Limits, name: &str) -> Option<&'a mut u32> {
    Some(match name {
        "sessions_max" => &mut limits.sessions_max,
        "links_max" => &mut limits.links_max,
        "connects_max" => &mut limits.connects_max,
        "actions_max" => &mut limits.actions_max,
        "asks_max" => &mut limits.asks_max,
        "requests_per_second" => &mut limits.requests_per_second,
        "requests_burst" => &mut limits.requests_burst,
        "messages_per_second" => &mut limits.messages_per_second,
        "messages_burst" => &mut limits.messages_burst,
        "control_bytes_max" => &mut limits.control_bytes_max,
        "data_bytes_max" => &mut limits.data_bytes_max,
        "hello_ms" => &mut limits.hello_ms,
        "authenticate_ms" => &mut limits.authenticate_ms,
        "heartbeat_ms" => &mut limits.heartbeat_ms,
        "pong_ms" => &mut limits.pong_ms,
        "stall_ms" => &mut limits.stall_ms,
        "consent_ms" => &mut limits.consent_ms,
        "accept_ms" => &mut limits.accept_ms,
        _ => return None,
    })
}

pub(super) fn effect_tuple(py: Python<'_>, effect: Effect) -> PyResult<Bound<'_, PyAny>> {
    match effect {
        Effect::Wake { session } => ("wake", session.to_u64()).into_bound_py_any(py),
        Effect::Authenticate {
            session,
            token,
            device_id,
            proof,
            nonce,
        } => {
            let nonce = PyBytes::new(py, &nonce);
            (
                "authenticate",
                session.to_u64(),
                token,
                device_id,
                proof,
                nonce,
            )
                .into_bound_py_any(py)
        }
        Effect::Directory { ticket, session } => {
            ("directory", session.to_u64(), ticket).into_bound_py_any(py)
        }
        Effect::Exists {
            ticket,
            session,
            device_id,
        } => ("exists", session.to_u64(), ticket, device_id).into_bound_py_any(py),
        Effect::Presence { session, online } => {
            ("presence", session.to_u64(), online).into_bound_py_any(py)
        }
        Effect::Close { session, code } => {
            ("close", session.to_u64(), code.code(), code.reason()).into_bound_py_any(py)
        }
        Effect::Job { job } => ("job", job.to_u64()).into_bound_py_any(py),
    }
}

pub(super) fn close_code(py: Python<'_>, code: u16) -> PyResult<CloseCode> {
    CloseCode::ALL
        .iter()
        .map(|(known, _)| *known)
        .find(|known| known.code() == code)
        .ok_or_else(|| invalid(py, "code", "must be a close code of the protocol"))
}
