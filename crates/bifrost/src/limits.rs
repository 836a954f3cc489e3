//! The numbers of the protocol (fixed) and of this server (settings).

/// Any one message, text or binary, header included.
pub const MESSAGE_BYTES_MAX: usize = 65_536;
/// `arguments`, `result`, `data`: JSON that the relay carries and does not read.
pub const OPAQUE_BYTES_MAX: usize = 61_440;
/// What a sender may have in flight on one link in one direction.
pub const WINDOW_BYTES: u32 = 262_144;
/// The least a frame costs, so that every bound in bytes bounds the number of frames too.
pub const FRAME_COST_BYTES_MIN: u32 = 64;
/// The body of one job.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A token in `hello`.
pub const TOKEN_BYTES_MAX: usize = 4_096;
/// `device_id`, purpose, names of actions and events, idempotency id, job kind.
pub const NAME_CHARS_MAX: usize = 64;
/// Human-readable text and model names.
pub const TEXT_CHARS_MAX: usize = 256;
/// Of actions and jobs.
pub const DEADLINE_MS_MAX: u32 = 600_000;
/// Devices one `discover` shows.
pub const DEVICES_MAX: usize = 1_000;
/// Link id in front of a payload.
pub(crate) const DATA_HEADER_BYTES: usize = 4;

/// What a frame of `bytes` takes from credit and queues.
#[must_use]
pub fn frame_cost(bytes: usize) -> u32 {
    u32::try_from(bytes)
        .unwrap_or(u32::MAX)
        .max(FRAME_COST_BYTES_MIN)
}

/// The settings of one shard. All counts are per session unless they say otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions of the whole shard, greeted or not.
    pub sessions_max: u32,
    /// Open links, jobs included.
    pub links_max: u32,
    /// Connects waiting for consent or for a lookup.
    pub connects_max: u32,
    /// Actions waiting for their result.
    pub actions_max: u32,
    /// Questions of others (connects and actions) waiting for this device.
    pub asks_max: u32,
    /// Sustained `discover`, `connect`, `action` and `ping`.
    pub requests_per_second: u32,
    /// The same, at once.
    pub requests_burst: u32,
    /// Sustained control messages of any kind; more is a flood.
    pub messages_per_second: u32,
    /// The same, at once.
    pub messages_burst: u32,
    /// Unsent control.
    pub control_bytes_max: u32,
    /// Unsent data.
    pub data_bytes_max: u32,
    /// From `open` to `hello`.
    pub hello_ms: u32,
    /// For the application's verdict on a `hello`.
    pub authenticate_ms: u32,
    /// Between two pings.
    pub heartbeat_ms: u32,
    /// From a ping to any sign of life.
    pub pong_ms: u32,
    /// A queue that does not move this long ends the session.
    pub stall_ms: u32,
    /// From `connect_request` to `allow` or `deny`.
    pub consent_ms: u32,
    /// From `job` to `accept` or `busy`.
    pub accept_ms: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions_max: 100_000,
            links_max: 64,
            connects_max: 16,
            actions_max: 32,
            asks_max: 64,
            requests_per_second: 50,
            requests_burst: 100,
            messages_per_second: 2_000,
            messages_burst: 4_000,
            control_bytes_max: 256 * 1024,
            data_bytes_max: 4 * 1024 * 1024,
            hello_ms: 5_000,
            authenticate_ms: 10_000,
            heartbeat_ms: 25_000,
            pong_ms: 10_000,
            stall_ms: 5_000,
            consent_ms: 30_000,
            accept_ms: 10_000,
        }
    }
}
