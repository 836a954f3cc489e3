//! What the protocol fixes, for the tests that hold wire and documentation to it.

use bifrost::{CloseCode, LINK_TRANSITIONS, SESSION_TRANSITIONS};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The protocol's constants, close codes and tables, for the tests that hold wire and documentation to them.
#[pyfunction]
pub fn relay_facts(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let facts = PyDict::new(py);
    let number = |name: &str, value: usize| facts.set_item(name, value);
    number("message_bytes_max", bifrost::MESSAGE_BYTES_MAX)?;
    number("opaque_bytes_max", bifrost::OPAQUE_BYTES_MAX)?;
    number("window_bytes", bifrost::WINDOW_BYTES as usize)?;
    number(
        "frame_cost_bytes_min",
        bifrost::FRAME_COST_BYTES_MIN as usize,
    )?;
    number("body_bytes_max", bifrost::BODY_BYTES_MAX)?;
    number("token_bytes_max", bifrost::TOKEN_BYTES_MAX)?;
    number("name_chars_max", bifrost::NAME_CHARS_MAX)?;
    number("text_chars_max", bifrost::TEXT_CHARS_MAX)?;
    number("deadline_ms_max", bifrost::DEADLINE_MS_MAX as usize)?;
    number("devices_max", bifrost::DEVICES_MAX)?;
    let codes: Vec<(u16, &str)> = CloseCode::ALL
        .iter()
        .map(|(code, reason)| (code.code(), *reason))
        .collect();
    facts.set_item("close_codes", codes)?;
    let rows: Vec<(String, String, String)> = SESSION_TRANSITIONS
        .iter()
        .map(|(from, on, to)| (format!("{from:?}"), format!("{on:?}"), format!("{to:?}")))
        .collect();
    facts.set_item("session_transitions", rows)?;
    let rows: Vec<(String, String, String)> = LINK_TRANSITIONS
        .iter()
        .map(|(from, on, step)| {
            let to = match step {
                bifrost::LinkStep::To(state) => format!("{state:?}"),
                bifrost::LinkStep::End => "(ended)".to_owned(),
            };
            (format!("{from:?}"), format!("{on:?}"), to)
        })
        .collect();
    facts.set_item("link_transitions", rows)?;
    Ok(facts)
}
