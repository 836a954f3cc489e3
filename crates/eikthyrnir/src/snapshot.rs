//! A registry as bytes, and back.
//!
//! Version 1, all little-endian: `EIKTHYRN`, version (u16), the settings, the number of providers (u64), then each
//! provider by rising key (length u8, key, four aggregates, the bins of two metrics if quantiles are kept, what was last
//! told if changes are noticed, the raters of two metrics), and the CRC-32 of all before. Equal registries give equal
//! bytes. Nothing is believed: every count is checked against what is left, every number against its range.

use crate::aggregate::Aggregate;
use crate::bins::Bin;
use crate::bounds::{ensure, Invalid};
use crate::change::Notice;
use crate::estimate::Prior;
use crate::kept::Kept;
use crate::mapping::{KEY_MAX, KEY_MIN};
use crate::quality::{check_provider, Quality};
use crate::raters::Rater;
use crate::settings::{Metric, Settings};

const MAGIC: &[u8; 8] = b"EIKTHYRN";
const VERSION: u16 = 1;
const QUANTILES: u8 = 1;
const NOTICE: u8 = 2;

impl Quality {
    /// All of it.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 + 256 * self.len());
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        write_settings(&mut out, &self.settings);
        out.extend((self.len() as u64).to_le_bytes());
        let mut providers: Vec<(&[u8], usize)> =
            self.slots.iter().map(|(slot, key)| (key, slot)).collect();
        providers.sort_unstable();
        for (key, slot) in providers {
            self.write_provider(&mut out, key, slot);
        }
        out.extend(crc32fast::hash(&out).to_le_bytes());
        out
    }

    fn write_provider(&self, out: &mut Vec<u8>, key: &[u8], slot: usize) {
        // At most 64 bytes, as checked when it came.
        out.push(u8::try_from(key.len()).unwrap_or(u8::MAX));
        out.extend(key);
        for kept in &self.kept {
            write_aggregate(out, kept.aggregate(slot));
        }
        for spreads in self.kept.iter().filter_map(Kept::spreads) {
            out.extend(spreads.aggregate(slot).landmark.to_le_bytes());
            write_count(out, spreads.iter(slot).count());
            for bin in spreads.iter(slot) {
                out.extend(bin.key.to_le_bytes());
                out.extend(bin.weight.to_le_bytes());
            }
        }
        for mean in self.told.get(slot).into_iter().flatten() {
            out.extend(mean.to_le_bytes());
        }
        for metric in 0..2 {
            let said = self.raters.of(slot, metric);
            write_count(out, said.len());
            for (rater, said) in said {
                out.extend(rater);
                write_aggregate(out, said);
            }
        }
    }

    /// The registry that gave these bytes.
    ///
    /// # Errors
    /// [`Invalid`] for anything but a snapshot of this version, whole and unchanged.
    pub fn restore(bytes: &[u8]) -> Result<Self, Invalid> {
        let (body, crc) = bytes
            .split_last_chunk::<4>()
            .ok_or_else(|| wrong("must be a snapshot: it is too short"))?;
        ensure(
            body.starts_with(MAGIC),
            "snapshot",
            "must be a snapshot of a Quality registry",
        )?;
        ensure(
            crc32fast::hash(body) == u32::from_le_bytes(*crc),
            "snapshot",
            "must be unchanged: its checksum does not fit",
        )?;
        let mut from = Reader(&body[MAGIC.len()..]);
        ensure(
            u16::from_le_bytes(from.take()?) == VERSION,
            "snapshot",
            "must be of version 1",
        )?;
        let mut quality = Self::new(read_settings(&mut from)?)?;
        let providers = u64::from_le_bytes(from.take()?);
        ensure(
            usize::try_from(providers).is_ok_and(|count| count <= quality.settings.providers_max),
            "snapshot",
            "must not have more providers than its own setting allows",
        )?;
        let mut last: &[u8] = &[];
        for _ in 0..providers {
            let key = quality.read_provider(&mut from)?;
            ensure(
                key > last,
                "snapshot",
                "must have its providers by rising key",
            )?;
            last = key;
        }
        ensure(
            from.0.is_empty(),
            "snapshot",
            "must end after the last provider",
        )?;
        Ok(quality)
    }

    fn read_provider<'a>(&mut self, from: &mut Reader<'a>) -> Result<&'a [u8], Invalid> {
        let [length] = from.take()?;
        let key = from.slice(usize::from(length))?;
        check_provider(key)?;
        ensure(
            self.slots.find(key).is_none(),
            "snapshot",
            "must have each provider once",
        )?;
        let slot = self.slot(key);
        let mut aggregates = [Aggregate::default(); 4];
        for (metric, aggregate) in Metric::ALL.into_iter().zip(&mut aggregates) {
            *aggregate = read_aggregate(from, metric)?;
        }
        for (kept, aggregate) in self.kept.iter_mut().zip(aggregates) {
            match kept {
                Kept::Means(means) => means[slot] = aggregate,
                Kept::Spreads(spreads) => {
                    spreads.put(slot, aggregate, &read_bins(from, &aggregate)?);
                }
            }
        }
        if let Some(told) = self.told.get_mut(slot) {
            for mean in told {
                *mean = amount(f64::from_le_bytes(from.take()?))?;
            }
        }
        for metric in [Metric::Success, Metric::Quality] {
            let mut last: Option<Rater> = None;
            for _ in 0..from.count(16 + 32)? {
                let rater: Rater = from.take()?;
                ensure(
                    last < Some(rater),
                    "snapshot",
                    "must have its raters by rising id",
                )?;
                last = Some(rater);
                let said = read_aggregate(from, metric)?;
                *self.raters.entry(slot, metric as u8, rater) = said;
            }
        }
        ensure(
            self.raters.len() <= self.settings.raters_max,
            "snapshot",
            "must not have more raters than its own setting allows",
        )?;
        Ok(key)
    }
}

fn wrong(rule: &'static str) -> Invalid {
    Invalid {
        field: "snapshot",
        rule,
    }
}

/// What is not yet read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn slice(&mut self, length: usize) -> Result<&'a [u8], Invalid> {
        let (head, rest) = self
            .0
            .split_at_checked(length)
            .ok_or_else(|| wrong("must be whole: it ends too early"))?;
        self.0 = rest;
        Ok(head)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Invalid> {
        let (head, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or_else(|| wrong("must be whole: it ends too early"))?;
        self.0 = rest;
        Ok(*head)
    }

    /// A count of things of `bytes_each`, which must be there: no memory is set aside on a stranger's word.
    fn count(&mut self, bytes_each: usize) -> Result<usize, Invalid> {
        let count = u32::from_le_bytes(self.take()?);
        usize::try_from(count)
            .ok()
            .filter(|&count| count <= self.0.len() / bytes_each)
            .ok_or_else(|| wrong("must be whole: it ends too early"))
    }
}

fn write_count(out: &mut Vec<u8>, count: usize) {
    // Bins are at most 1,729 and raters at most 10⁸.
    out.extend(u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

fn write_aggregate(out: &mut Vec<u8>, aggregate: &Aggregate) {
    out.extend(aggregate.landmark.to_le_bytes());
    for number in [aggregate.weight, aggregate.mean, aggregate.spread] {
        out.extend(number.to_le_bytes());
    }
}

fn amount(value: f64) -> Result<f64, Invalid> {
    ensure(
        value.is_finite() && value >= 0.0,
        "snapshot",
        "must hold finite numbers of at least 0",
    )?;
    Ok(value)
}

fn read_aggregate(from: &mut Reader<'_>, metric: Metric) -> Result<Aggregate, Invalid> {
    let landmark = i64::from_le_bytes(from.take()?);
    let weight = amount(f64::from_le_bytes(from.take()?))?;
    let mean = amount(f64::from_le_bytes(from.take()?))?;
    let spread = amount(f64::from_le_bytes(from.take()?))?;
    // Means of many rounded numbers may lie a little above the largest. No variance is over a quarter of its square.
    let most = if metric.is_share() { 1.0 } else { 1e12 };
    ensure(
        weight <= 1e18 && mean <= most * (1.0 + 1e-9) && spread <= weight * most * most,
        "snapshot",
        "must hold numbers in the range of their metric",
    )?;
    Ok(Aggregate {
        landmark,
        weight,
        mean,
        spread,
    })
}

/// The bins, whose landmark is that of the aggregate.
fn read_bins(from: &mut Reader<'_>, aggregate: &Aggregate) -> Result<Vec<Bin>, Invalid> {
    let landmark = i64::from_le_bytes(from.take()?);
    let count = from.count(2 + 8)?;
    ensure(
        count == 0 || (aggregate.weight > 0.0 && aggregate.landmark == landmark),
        "snapshot",
        "must have bins where it has weight, and in the same half-life",
    )?;
    let mut bins = Vec::with_capacity(count);
    let mut last = None;
    for _ in 0..count {
        let key = i16::from_le_bytes(from.take()?);
        let weight = amount(f64::from_le_bytes(from.take()?))?;
        ensure(
            last < Some(key)
                && (KEY_MIN..=KEY_MAX).contains(&key)
                && weight > 0.0
                && weight <= 1e18,
            "snapshot",
            "must have its bins by rising key, none empty",
        )?;
        last = Some(key);
        bins.push(Bin { key, weight });
    }
    Ok(bins)
}

fn write_settings(out: &mut Vec<u8>, settings: &Settings) {
    let notice = settings.notice.unwrap_or(Notice {
        share: 0.0,
        ratio: 0.0,
    });
    let quantiles = if settings.quantiles { QUANTILES } else { 0 };
    let told = if settings.notice.is_some() { NOTICE } else { 0 };
    out.push(quantiles | told);
    out.extend(settings.half_life_ms.to_le_bytes());
    out.extend(settings.z.to_le_bytes());
    for prior in settings.priors {
        out.extend(prior.mean.to_le_bytes());
        out.extend(prior.weight.to_le_bytes());
    }
    out.extend((settings.providers_max as u64).to_le_bytes());
    for number in [notice.share, notice.ratio, settings.rater_weight_max] {
        out.extend(number.to_le_bytes());
    }
    out.extend((settings.raters_max as u64).to_le_bytes());
}

/// The settings as they stand; their rules are checked when the registry is made.
fn read_settings(from: &mut Reader<'_>) -> Result<Settings, Invalid> {
    let [flags] = from.take()?;
    ensure(
        flags & !(QUANTILES | NOTICE) == 0,
        "snapshot",
        "must have no flag that version 1 has not",
    )?;
    let half_life_ms = i64::from_le_bytes(from.take()?);
    let z = f64::from_le_bytes(from.take()?);
    let mut priors = Settings::default().priors;
    for prior in &mut priors {
        *prior = Prior {
            mean: f64::from_le_bytes(from.take()?),
            weight: f64::from_le_bytes(from.take()?),
        };
    }
    let limit = |bytes| usize::try_from(u64::from_le_bytes(bytes)).unwrap_or(usize::MAX);
    let providers_max = limit(from.take()?);
    let share = f64::from_le_bytes(from.take()?);
    let ratio = f64::from_le_bytes(from.take()?);
    let rater_weight_max = f64::from_le_bytes(from.take()?);
    Ok(Settings {
        half_life_ms,
        z,
        priors,
        providers_max,
        quantiles: flags & QUANTILES != 0,
        notice: (flags & NOTICE != 0).then_some(Notice { share, ratio }),
        rater_weight_max,
        raters_max: limit(from.take()?),
    })
}
