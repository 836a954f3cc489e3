//! A breaker keeps requests from a device, or from all devices of an owner, that fails one after another or too often.
//!
//! ```text
//! closed --failures in a row--> open --its time passes--> half-open --success--> closed
//!                                ^                            |
//!                                +---- failure: twice as long-+
//! ```
//! Half-open admits one probe at a time, or none if it is tested apart. A probe that never reports is given up after the
//! length of the last opening.

use crate::offer::Key;
use crate::settings::Settings;

/// A breaker that heard nothing for this long is forgotten.
const SILENCE_MS: i64 = 3_600_000;

/// Of the last requests, the share in percent that opens.
const FAILED_PERCENT: u32 = 40;

/// The state of one device or owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    pub(crate) failures: u32,
    /// Successes in a row since it is half-open.
    pub(crate) successes: u32,
    /// How the last requests ended, the latest in the lowest bit, 1 for a failure; and how many are known.
    pub(crate) history: u32,
    pub(crate) known: u32,
    /// Length of the present opening; 0 while closed.
    pub(crate) open_ms: i64,
    pub(crate) open_until_ms: i64,
    /// The offer whose request is the probe, and when that is given up.
    pub(crate) probe: Option<(Key, i64)>,
    pub(crate) heard_ms: i64,
}

impl Breaker {
    /// From when on a request may go there: always while closed, never if somebody else tests it.
    pub fn opens_ms(&self, settings: &Settings) -> i64 {
        if self.open_ms == 0 {
            i64::MIN
        } else if settings.breaker_tested_apart {
            i64::MAX
        } else {
            let probed_ms = self.probe.map_or(i64::MIN, |(_, until_ms)| until_ms);
            // A half-open one stays within the times of the breakers that are not closed.
            self.open_until_ms.max(probed_ms).max(i64::MIN + 1)
        }
    }

    /// A request goes to `offer` there: in half-open, it is the probe.
    pub fn picked(&mut self, offer: Key, now_ms: i64) {
        if self.open_ms > 0 {
            self.probe = Some((offer, now_ms.saturating_add(self.open_ms)));
        }
    }

    /// A request to `offer` ended, perhaps without a report: another may be the probe.
    pub fn released(&mut self, offer: Key) {
        if self.probe.is_some_and(|(key, _)| key == offer) {
            self.probe = None;
        }
    }

    /// Whether nothing would change if it were forgotten.
    pub fn is_idle(&self, now_ms: i64) -> bool {
        now_ms >= self.open_until_ms && now_ms.saturating_sub(self.heard_ms) >= SILENCE_MS
    }

    /// How a request there ended.
    pub fn report(&mut self, ok: bool, now_ms: i64, settings: &Settings) {
        let open = self.open_ms > 0;
        if open && now_ms < self.open_until_ms {
            // Sent before the opening: says nothing new.
            return;
        }
        self.heard_ms = now_ms;
        if open && ok {
            self.successes += 1;
            if self.successes >= settings.breaker_successes {
                *self = Self {
                    heard_ms: now_ms,
                    ..Self::default()
                };
            }
            return;
        }
        self.history = (self.history << 1) | u32::from(!ok);
        self.known = (self.known + 1).min(settings.breaker_window);
        if ok {
            self.failures = 0;
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.successes = 0;
        if open || self.failures >= settings.breaker_failures || self.fails_often(settings) {
            self.open_ms = if open {
                self.open_ms
                    .saturating_mul(2)
                    .min(settings.breaker_open_ms_max)
            } else {
                settings.breaker_open_ms
            };
            self.open_until_ms = now_ms.saturating_add(self.open_ms);
            self.probe = None;
        }
    }

    fn fails_often(&self, settings: &Settings) -> bool {
        let window = settings.breaker_window;
        let seen = match window {
            0 => return false,
            1..=31 => self.history & ((1 << window) - 1),
            _ => self.history,
        };
        self.known * 2 >= window && seen.count_ones() * 100 >= self.known * FAILED_PERCENT
    }

    /// The name of the state, for people.
    pub fn state(&self, now_ms: i64) -> &'static str {
        if self.open_ms == 0 {
            "closed"
        } else if now_ms < self.open_until_ms {
            "open"
        } else {
            "half_open"
        }
    }
}
