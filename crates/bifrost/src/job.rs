//! Links that end in the server: a compute job, its body out, its answer in.

use crate::effect::{Effect, Frame, Uuid};
use crate::limits::{
    frame_cost, BODY_BYTES_MAX, DATA_HEADER_BYTES, DEADLINE_MS_MAX, FRAME_COST_BYTES_MIN,
    MESSAGE_BYTES_MAX, NAME_CHARS_MAX, TEXT_CHARS_MAX, WINDOW_BYTES,
};
use crate::link::{granted, Far};
use crate::message::Outbound;
use crate::relay::{Relay, Verdict};
use crate::slots::SessionId;
use crate::timers::Timer;
use crate::transitions::LinkState;

/// Names one job of this shard, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(u64);

impl JobId {
    /// One number, for shells.
    #[must_use]
    pub fn to_u64(self) -> u64 {
        self.0
    }

    /// The inverse of `to_u64`; any number is allowed.
    #[must_use]
    pub fn from_u64(number: u64) -> Self {
        Self(number)
    }
}

/// What `Relay::open_job` is to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenJob {
    /// The application's id of the job, shown to the device.
    pub job: String,
    /// What sort of work.
    pub kind: String,
    /// Which model.
    pub model: String,
    /// The request itself.
    pub body: Vec<u8>,
    /// From now.
    pub deadline_ms: u32,
}

/// Why there is no job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenJobError {
    /// The device is not online in this network.
    NotFound,
    /// Field and rule.
    Invalid(&'static str, String),
}

/// How a job ended; exactly once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEnd {
    /// The device cannot take it now.
    Busy {
        /// For people.
        message: String,
    },
    /// Complete.
    Done {
        /// The device's claim.
        prompt_tokens: u64,
        /// The device's claim.
        completion_tokens: u64,
    },
    /// Failed; `lost` and `timeout` are the relay's own codes.
    Fault {
        /// For programs.
        code: String,
        /// For people.
        message: String,
    },
}

/// What came since the last take, in order: acceptance, data, end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobBatch {
    /// The device accepted.
    pub accepted: bool,
    /// Payloads, one per frame.
    pub parts: Vec<Vec<u8>>,
    /// Nothing comes after it; the job is forgotten.
    pub end: Option<JobEnd>,
}

pub(crate) struct Job {
    session: SessionId,
    link: u32,
    body: Vec<u8>,
    body_sent: usize,
    may_send_bytes: u32,
    /// In the session's queue of bodies.
    queued: bool,
    batch: JobBatch,
    /// Cost of the parts in `batch`.
    held_bytes: u32,
    /// Cost of parts taken and not yet granted back.
    owed_bytes: u32,
    announced: bool,
    accept_at: u64,
    overdue_at: u64,
}

impl Relay {
    /// Opens a link to a device and offers it a job. A device with all its links in use is busy.
    ///
    /// # Errors
    /// `NotFound` if the device is not online there; `Invalid` names a field that breaks its rule.
    pub fn open_job(
        &mut self,
        network: &Uuid,
        device: &Uuid,
        open: OpenJob,
        now: u64,
    ) -> Result<JobId, OpenJobError> {
        self.tick(now);
        check(&open)?;
        let OpenJob {
            job: name,
            kind,
            model,
            body,
            deadline_ms,
        } = open;
        let bytes = body.len();
        let session = self
            .session_of(network, device)
            .ok_or(OpenJobError::NotFound)?;
        let link = self.free_link(session);
        self.jobs_opened += 1;
        let id = JobId(self.jobs_opened);
        let mut job = Job {
            session,
            link: link.unwrap_or(0),
            body,
            body_sent: 0,
            may_send_bytes: WINDOW_BYTES,
            queued: false,
            batch: JobBatch::default(),
            held_bytes: 0,
            owed_bytes: 0,
            announced: false,
            accept_at: self.now + u64::from(self.limits.accept_ms.min(deadline_ms)),
            overdue_at: self.now + u64::from(deadline_ms),
        };
        let Some(link) = link else {
            job.batch.end = Some(JobEnd::Busy {
                message: "the device has all its links in use".to_owned(),
            });
            job.announced = true;
            self.jobs.insert(id, job);
            self.effects.push_back(Effect::Job { job: id });
            return Ok(id);
        };
        self.timers.start(job.accept_at, Timer::Accept(id));
        self.timers.start(job.overdue_at, Timer::Job(id));
        self.jobs.insert(id, job);
        self.put_link(session, link, LinkState::Offered, Far::Job(id));
        let (job, kind, model) = (&name, &kind, &model);
        self.post(
            session,
            &Outbound::Job {
                link,
                job,
                kind,
                model,
                bytes,
                deadline_ms,
            },
        );
        self.queue_body(id);
        self.settle();
        Ok(id)
    }

    /// What came for a job. The next take grants the device credit for what this one gave. `None`: no such job (any more).
    pub fn take_job(&mut self, id: JobId, now: u64) -> Option<JobBatch> {
        self.tick(now);
        let job = self.jobs.get_mut(&id)?;
        job.announced = false;
        let batch = std::mem::take(&mut job.batch);
        if batch.end.is_some() {
            self.jobs.remove(&id);
            return Some(batch);
        }
        let (grant, session, link) = (job.owed_bytes, job.session, job.link);
        let worth = grant >= WINDOW_BYTES / 4;
        job.owed_bytes = if worth { 0 } else { grant } + std::mem::take(&mut job.held_bytes);
        if worth {
            if let Some(near) = self
                .sessions
                .get_mut(session)
                .and_then(|s| s.links.get_mut(&link))
            {
                near.may_send_bytes += grant;
                self.post(session, &Outbound::Credit { link, bytes: grant });
            }
        }
        self.settle();
        Some(batch)
    }

    /// The server wants no more of it. Nothing comes after this.
    pub fn cancel_job(&mut self, id: JobId, now: u64) {
        self.tick(now);
        if let Some(job) = self.jobs.remove(&id) {
            if job.batch.end.is_none() {
                self.stop_job_timers(id, &job);
                self.withdraw(job.session, job.link);
            }
        }
        self.settle();
    }

    /// How many jobs are not yet taken to their end.
    #[must_use]
    pub fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// How many sessions there are, greeted or not.
    #[must_use]
    pub fn sessions(&self) -> u32 {
        self.sessions.len()
    }

    fn withdraw(&mut self, session: SessionId, link: u32) {
        if self
            .sessions
            .get_mut(session)
            .and_then(|s| s.links.remove(&link))
            .is_some()
        {
            self.post(session, &Outbound::Disconnect { link });
        }
    }

    fn stop_job_timers(&mut self, id: JobId, job: &Job) {
        self.timers.stop(job.accept_at, Timer::Accept(id));
        self.timers.stop(job.overdue_at, Timer::Job(id));
    }

    fn announce(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id) {
            if !job.announced {
                job.announced = true;
                self.effects.push_back(Effect::Job { job: id });
            }
        }
    }

    pub(crate) fn job_accepted(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.batch.accepted = true;
            self.timers.stop(job.accept_at, Timer::Accept(id));
        }
        self.announce(id);
    }

    pub(crate) fn job_data(&mut self, id: JobId, payload: Vec<u8>) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.held_bytes += frame_cost(payload.len() + DATA_HEADER_BYTES);
            job.batch.parts.push(payload);
        }
        self.announce(id);
    }

    /// The link is gone; what the device sent before stays to be taken.
    pub(crate) fn job_ended(&mut self, id: JobId, end: JobEnd) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if job.batch.end.is_some() {
            return;
        }
        job.batch.end = Some(end);
        job.body = Vec::new();
        let (accept_at, overdue_at) = (job.accept_at, job.overdue_at);
        self.timers.stop(accept_at, Timer::Accept(id));
        self.timers.stop(overdue_at, Timer::Job(id));
        self.announce(id);
    }

    pub(crate) fn accept_overdue(&mut self, id: JobId) {
        self.job_timeout(id, "the device did not accept in time");
    }

    pub(crate) fn job_overdue(&mut self, id: JobId) {
        self.job_timeout(id, "the deadline passed");
    }

    fn job_timeout(&mut self, id: JobId, message: &str) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let (session, link) = (job.session, job.link);
        self.job_ended(
            id,
            JobEnd::Fault {
                code: "timeout".to_owned(),
                message: message.to_owned(),
            },
        );
        self.withdraw(session, link);
    }

    pub(crate) fn job_credit(&mut self, id: JobId, bytes: u32) -> Verdict {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.may_send_bytes = granted(job.may_send_bytes, bytes)?;
            self.queue_body(id);
        }
        Ok(())
    }

    /// Puts the job in line if it has body left and credit for a frame.
    fn queue_body(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if job.queued
            || job.body_sent >= job.body.len()
            || job.may_send_bytes < FRAME_COST_BYTES_MIN
        {
            return;
        }
        job.queued = true;
        let session = job.session;
        self.push(session, |outbox| {
            outbox.bodies.push_back(id);
            Ok(())
        });
    }

    /// The next piece of a job's body; `None` if the job is gone.
    pub(crate) fn body_frame(&mut self, session: SessionId, id: JobId) -> Option<Frame> {
        let job = self
            .jobs
            .get_mut(&id)
            .filter(|job| job.session == session)?;
        job.queued = false;
        let room = (job.may_send_bytes as usize).min(MESSAGE_BYTES_MAX) - DATA_HEADER_BYTES;
        let rest = job
            .body
            .get(job.body_sent..)
            .filter(|rest| !rest.is_empty())?;
        let payload = &rest[..rest.len().min(room)];
        let mut frame = Vec::with_capacity(DATA_HEADER_BYTES + payload.len());
        frame.extend_from_slice(&job.link.to_be_bytes());
        frame.extend_from_slice(payload);
        job.body_sent += payload.len();
        job.may_send_bytes = job.may_send_bytes.saturating_sub(frame_cost(frame.len()));
        if job.body_sent == job.body.len() {
            (job.body, job.body_sent) = (Vec::new(), 0);
        }
        self.queue_body(id);
        Some(Frame::Binary(frame))
    }
}

fn check(open: &OpenJob) -> Result<(), OpenJobError> {
    let chars = |text: &str, max: usize| text.chars().count() <= max;
    let rules = [
        (
            "job",
            !open.job.is_empty() && chars(&open.job, 36),
            "must be 1 to 36 characters".to_owned(),
        ),
        (
            "kind",
            !open.kind.is_empty() && chars(&open.kind, NAME_CHARS_MAX),
            format!("must be 1 to {NAME_CHARS_MAX} characters"),
        ),
        (
            "model",
            chars(&open.model, TEXT_CHARS_MAX),
            format!("must be at most {TEXT_CHARS_MAX} characters"),
        ),
        (
            "body",
            open.body.len() <= BODY_BYTES_MAX,
            format!("must be at most {BODY_BYTES_MAX} bytes"),
        ),
        (
            "deadline_ms",
            (1..=DEADLINE_MS_MAX).contains(&open.deadline_ms),
            format!("must be 1 to {DEADLINE_MS_MAX}"),
        ),
    ];
    match rules.into_iter().find(|(_, kept, _)| !kept) {
        None => Ok(()),
        Some((field, _, rule)) => Err(OpenJobError::Invalid(field, rule)),
    }
}
