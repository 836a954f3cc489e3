//! Conversions for the Bifrost relay: every call returns all its effects as a list of tuples, the kind first.

mod convert;
mod facts;

use bifrost::{
    DeviceInfo, Frame, JobEnd, JobId, Limits, Member, OpenJob, OpenJobError, Revocation, SessionId,
};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use pyo3::IntoPyObjectExt;

use self::convert::{close_code, effect_tuple, limit};
use crate::errors::{caught, invalid, key, text};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Relay>()?;
    module.add_function(wrap_pyfunction!(facts::relay_facts, module)?)
}

/// One shard. Not for several threads at a time.
#[pyclass(module = "yggdrasil._core")]
pub struct Relay {
    inner: bifrost::Relay,
}

type Id = Option<[u8; 16]>;

fn optional_key(py: Python<'_>, field: &str, value: Option<&[u8]>) -> PyResult<Id> {
    value.map(|bytes| key(py, field, bytes)).transpose()
}

impl Relay {
    /// Runs one call, then takes all effects of it.
    fn run<'py, T>(
        &mut self,
        py: Python<'py>,
        call: impl FnOnce(&mut bifrost::Relay) -> PyResult<T>,
    ) -> PyResult<(T, Bound<'py, PyList>)> {
        let inner = &mut self.inner;
        let value = caught(|| call(inner))?;
        let effects = PyList::empty(py);
        while let Some(effect) = inner.poll_effect() {
            effects.append(effect_tuple(py, effect)?)?;
        }
        Ok((value, effects))
    }

    fn effects<'py>(
        &mut self,
        py: Python<'py>,
        call: impl FnOnce(&mut bifrost::Relay),
    ) -> PyResult<Bound<'py, PyList>> {
        Ok(self
            .run(py, |relay| {
                call(relay);
                Ok(())
            })?
            .1)
    }
}

#[pymethods]
impl Relay {
    #[new]
    #[pyo3(signature = (**settings))]
    fn new(py: Python<'_>, settings: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let mut limits = Limits::default();
        for (name, value) in settings.into_iter().flat_map(PyDictMethods::iter) {
            let name: String = name.extract()?;
            let slot = limit(&mut limits, &name)
                .ok_or_else(|| invalid(py, &name, "is no limit of the relay"))?;
            let value: u32 = value
                .extract()
                .map_err(|_| invalid(py, &name, "must be a whole number below 2^32"))?;
            if value == 0 {
                return Err(invalid(py, &name, "must be at least 1"));
            }
            *slot = value;
        }
        Ok(Self {
            inner: bifrost::Relay::new(limits),
        })
    }

    fn open<'py>(
        &mut self,
        py: Python<'py>,
        now_ms: u64,
        nonce: &[u8],
    ) -> PyResult<Bound<'py, PyAny>> {
        let nonce = nonce
            .try_into()
            .map_err(|_| invalid(py, "nonce", "must be 32 bytes"))?;
        let (opened, effects) = self.run(py, |relay| Ok(relay.open(now_ms, nonce)))?;
        match opened {
            Ok(session) => (session.to_u64(), effects).into_bound_py_any(py),
            Err(code) => (-i32::from(code.code()), effects).into_bound_py_any(py),
        }
    }

    fn receive_text<'py>(
        &mut self,
        py: Python<'py>,
        session: u64,
        frame: &Bound<'py, PyString>,
        now_ms: u64,
    ) -> PyResult<Bound<'py, PyList>> {
        let frame = Frame::Text(text("frame", frame)?.to_owned());
        self.effects(py, |relay| {
            relay.receive(SessionId::from_u64(session), frame, now_ms);
        })
    }

    fn receive_binary<'py>(
        &mut self,
        py: Python<'py>,
        session: u64,
        frame: &[u8],
        now_ms: u64,
    ) -> PyResult<Bound<'py, PyList>> {
        let frame = Frame::Binary(frame.to_vec());
        self.effects(py, |relay| {
            relay.receive(SessionId::from_u64(session), frame, now_ms);
        })
    }

    fn closed<'py>(
        &mut self,
        py: Python<'py>,
        session: u64,
        now_ms: u64,
    ) -> PyResult<Bound<'py, PyList>> {
        self.effects(py, |relay| {
            relay.closed(SessionId::from_u64(session), now_ms);
        })
    }

    fn end<'py>(
        &mut self,
        py: Python<'py>,
        session: u64,
        code: u16,
        now_ms: u64,
    ) -> PyResult<Bound<'py, PyList>> {
        let code = close_code(py, code)?;
        self.effects(py, |relay| {
            relay.end(SessionId::from_u64(session), code, now_ms);
        })
    }

    #[pyo3(signature = (session, now_ms, *, network_id, user_id, device, device_id, session_id, key_id))]
    #[allow(clippy::too_many_arguments)] // one call does a whole thought
    fn authenticated<'py>(
        &mut self,
        py: Python<'py>,
        session: u64,
        now_ms: u64,
        network_id: &[u8],
        user_id: &[u8],
        device: &[u8],
        device_id: String,
        session_id: Option<&[u8]>,
        key_id: Option<&[u8]>,
    ) -> PyResult<Bound<'py, PyList>> {
        let member = Member {
            network: key(py, "network_id", network_id)?,
            user: key(py, "user_id", user_id)?,
            device: key(py, "device", device)?,
            device_id,
            session: optional_key(py, "session_id", session_id)?,
            key: optional_key(py, "key_id", key_id)?,
        };
        let id = SessionId::from_u64(session);
        self.effects(py, |relay| relay.authenticated(id, Ok(member), now_ms))
    }

    fn refused<'py>(
        &mut self,
        py: Python<'py>,
        session: u64,
        code: u16,
        now_ms: u64,
    ) -> PyResult<Bound<'py, PyList>> {
        let code = close_code(py, code)?;
        let id = SessionId::from_u64(session);
        self.effects(py, |relay| relay.authenticated(id, Err(code), now_ms))
    }

    fn directory<'py>(
        &mut self,
        py: Python<'py>,
        ticket: u64,
        devices: Option<Vec<(String, String, String)>>,
        now_ms: u64,
    ) -> PyResult<Bound<'py, PyList>> {
        let devices: Option<Vec<DeviceInfo>> = devices.map(|devices| {
            let info = |(device_id, name, kind)| DeviceInfo {
                device_id,
                name,
                kind,
            };
            devices.into_iter().map(info).collect()
        });
        self.effects(py, |relay| {
            relay.directory(ticket, devices.as_deref().ok_or(()), now_ms);
        })
    }

    fn exists<'py>(
        &mut self,
        py: Python<'py>,
        ticket: u64,
        found: Option<bool>,
        now_ms: u64,
    ) -> PyResult<Bound<'py, PyList>> {
        self.effects(py, |relay| relay.exists(ticket, found.ok_or(()), now_ms))
    }

    fn poll_transmit<'py>(
        &mut self,
        py: Python<'py>,
        session: u64,
        now_ms: u64,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let inner = &mut self.inner;
        match caught(|| Ok(inner.poll_transmit(SessionId::from_u64(session), now_ms)))? {
            Some(Frame::Text(text)) => Ok(Some(PyString::new(py, &text).into_any())),
            Some(Frame::Binary(bytes)) => Ok(Some(PyBytes::new(py, &bytes).into_any())),
            None => Ok(None),
        }
    }

    fn next_timeout(&self) -> Option<u64> {
        self.inner.next_timeout()
    }

    fn on_timeout<'py>(&mut self, py: Python<'py>, now_ms: u64) -> PyResult<Bound<'py, PyList>> {
        self.effects(py, |relay| relay.on_timeout(now_ms))
    }

    #[pyo3(signature = (now_ms, *, network_id, device, job, kind, model, body, deadline_ms))]
    #[allow(clippy::too_many_arguments)] // one call does a whole thought
    fn open_job<'py>(
        &mut self,
        py: Python<'py>,
        now_ms: u64,
        network_id: &[u8],
        device: &[u8],
        job: String,
        kind: String,
        model: String,
        body: &[u8],
        deadline_ms: u32,
    ) -> PyResult<(Option<u64>, Bound<'py, PyList>)> {
        let (network, device) = (
            key(py, "network_id", network_id)?,
            key(py, "device", device)?,
        );
        let open = OpenJob {
            job,
            kind,
            model,
            body: body.to_vec(),
            deadline_ms,
        };
        self.run(py, |relay| {
            match relay.open_job(&network, &device, open, now_ms) {
                Ok(job) => Ok(Some(job.to_u64())),
                Err(OpenJobError::NotFound) => Ok(None),
                Err(OpenJobError::Invalid(field, rule)) => Err(invalid(py, field, &rule)),
            }
        })
    }

    #[allow(clippy::type_complexity)] // the tuple of the stub
    fn take_job<'py>(
        &mut self,
        py: Python<'py>,
        job: u64,
        now_ms: u64,
    ) -> PyResult<(Option<Bound<'py, PyTuple>>, Bound<'py, PyList>)> {
        let (batch, effects) =
            self.run(py, |relay| Ok(relay.take_job(JobId::from_u64(job), now_ms)))?;
        let Some(batch) = batch else {
            return Ok((None, effects));
        };
        let parts = PyList::new(py, batch.parts.iter().map(|part| PyBytes::new(py, part)))?;
        let end = match batch.end {
            None => None,
            Some(JobEnd::Busy { message }) => Some(("busy", message).into_pyobject(py)?),
            Some(JobEnd::Done {
                prompt_tokens,
                completion_tokens,
            }) => Some(("done", prompt_tokens, completion_tokens).into_pyobject(py)?),
            Some(JobEnd::Fault { code, message }) => {
                Some(("fault", code, message).into_pyobject(py)?)
            }
        };
        Ok((
            Some((batch.accepted, parts, end).into_pyobject(py)?),
            effects,
        ))
    }

    fn cancel_job<'py>(
        &mut self,
        py: Python<'py>,
        job: u64,
        now_ms: u64,
    ) -> PyResult<Bound<'py, PyList>> {
        self.effects(py, |relay| relay.cancel_job(JobId::from_u64(job), now_ms))
    }

    fn event<'py>(
        &mut self,
        py: Python<'py>,
        network_id: &[u8],
        device: &[u8],
        name: &str,
        data: &str,
        now_ms: u64,
    ) -> PyResult<(bool, Bound<'py, PyList>)> {
        let (network, device) = (
            key(py, "network_id", network_id)?,
            key(py, "device", device)?,
        );
        self.run(py, |relay| {
            Ok(relay.event(&network, &device, name, data, now_ms))
        })
    }

    #[pyo3(signature = (now_ms, *, network_id, user_id, device, session_id, key_id))]
    #[allow(clippy::too_many_arguments)] // one call does a whole thought
    fn revoke<'py>(
        &mut self,
        py: Python<'py>,
        now_ms: u64,
        network_id: Option<&[u8]>,
        user_id: Option<&[u8]>,
        device: Option<&[u8]>,
        session_id: Option<&[u8]>,
        key_id: Option<&[u8]>,
    ) -> PyResult<(usize, Bound<'py, PyList>)> {
        let revocation = Revocation {
            network: optional_key(py, "network_id", network_id)?,
            user: optional_key(py, "user_id", user_id)?,
            device: optional_key(py, "device", device)?,
            session: optional_key(py, "session_id", session_id)?,
            key: optional_key(py, "key_id", key_id)?,
        };
        self.run(py, |relay| Ok(relay.revoke(&revocation, now_ms)))
    }

    fn drain<'py>(
        &mut self,
        py: Python<'py>,
        reconnect_after_ms: u64,
        now_ms: u64,
    ) -> PyResult<Bound<'py, PyList>> {
        self.effects(py, |relay| relay.drain(reconnect_after_ms, now_ms))
    }

    fn online(&self, py: Python<'_>, network_id: &[u8], device: &[u8]) -> PyResult<bool> {
        Ok(self.inner.online(
            &key(py, "network_id", network_id)?,
            &key(py, "device", device)?,
        ))
    }

    fn rtt_ms(&self, session: u64) -> Option<u64> {
        self.inner.rtt_ms(SessionId::from_u64(session))
    }

    /// (sessions, jobs)
    fn counts(&self) -> (u32, usize) {
        (self.inner.sessions(), self.inner.jobs())
    }
}
