//! Every target on its seeds, on what was once found, and for a while on mutations of both. No coverage guides it.
//!
//! `YGG_FUZZ_SECONDS` is the time for each target, `YGG_FUZZ_SEED` the seed of the chance (1): a failure prints it, and the
//! round; the same seed comes to the same round. Without a time the rounds are limited too, so that a fast machine tries
//! what a slow one does and no more: what is new is for a campaign to find.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::time::{Duration, Instant};

use fuzz::drawn::Drawn;
use fuzz::{Target, TARGETS};

const LENGTH_MAX: usize = 8_192;
const SECONDS_USUAL: u64 = 2;
const ROUNDS_USUAL: u64 = 100_000;
/// Mutations that become seeds themselves.
const POOL_MAX: usize = 64;

fn setting(name: &str, usual: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.map_or(usual, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} must be a whole number"))
    })
}

fn target(name: &str) -> Target {
    let found = TARGETS.into_iter().find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("{name} is no target"))
}

/// Files of `found/NAME/`: inputs that once failed.
fn found(name: &str) -> Vec<Vec<u8>> {
    let directory = format!("{}/found/{name}", env!("CARGO_MANIFEST_DIR"));
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

/// None if it went well.
fn tried(run: fn(&[u8]), bytes: &[u8]) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(|| run(bytes))).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    let shown: String = bytes.escape_ascii().to_string();
    Some(format!("{}\ninput: b\"{shown}\"", text.unwrap_or_default()))
}

/// The number of inputs tried, or the first failure.
fn campaign(target: &Target, seed: u64, time: Duration, rounds: u64) -> Result<u64, String> {
    let mut pool = (target.seeds)();
    pool.extend(found(target.name));
    assert!(!pool.is_empty());
    for (number, bytes) in pool.iter().enumerate() {
        if let Some(failure) = tried(target.run, bytes) {
            return Err(format!("{} fails on seed {number}: {failure}", target.name));
        }
    }
    let mut drawn = Drawn(seed);
    let (kept, start, mut round) = (pool.len(), Instant::now(), 0);
    while round < rounds && start.elapsed() < time {
        round += 1;
        let bytes = drawn.changed(&pool, LENGTH_MAX);
        if let Some(failure) = tried(target.run, &bytes) {
            return Err(format!(
                "{} fails in round {round} of YGG_FUZZ_SEED={seed}: {failure}",
                target.name
            ));
        }
        if drawn.below(50) == 0 {
            if pool.len() < kept + POOL_MAX {
                pool.push(bytes);
            } else {
                let place = kept + drawn.below(POOL_MAX);
                pool[place] = bytes;
            }
        }
    }
    Ok(round)
}

fn try_target(name: &str) {
    let seed = setting("YGG_FUZZ_SEED", 1);
    let seconds = setting("YGG_FUZZ_SECONDS", 0);
    let (time, most) = match seconds {
        0 => (SECONDS_USUAL, ROUNDS_USUAL),
        given => (given, u64::MAX),
    };
    let time = Duration::from_secs(time);
    let rounds =
        campaign(&target(name), seed, time, most).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{name}: {rounds} inputs of YGG_FUZZ_SEED={seed}");
    assert!(rounds > 0);
}

macro_rules! targets {
    ($($name:ident),*) => {
        $(#[test] fn $name() { try_target(stringify!($name)); })*

        #[test]
        fn each_target_is_tried() {
            let names = [$(stringify!($name)),*];
            assert!(TARGETS.iter().map(|target| target.name).eq(names));
        }
    };
}

targets!(
    heidrun_register,
    heidrun_count,
    heidrun_counter,
    eikthyrnir_restore,
    scoring_restore,
    scoring_table,
    bifrost_frames
);

/// The control: a target with a bug is found, and the failure says how to come back to it.
#[test]
fn a_bug_is_found() {
    fn buggy(data: &[u8]) {
        assert!(data.len() < 12 || data[5] != 0xFF, "the bug");
    }
    let target = Target {
        name: "buggy",
        run: buggy,
        seeds: || vec![vec![0; 16]],
    };
    let failure = campaign(&target, 1, Duration::from_secs(60), u64::MAX).unwrap_err();
    assert!(
        failure.contains("YGG_FUZZ_SEED=1") && failure.contains("the bug"),
        "{failure}"
    );
    let again = campaign(&target, 1, Duration::from_secs(60), u64::MAX).unwrap_err();
    assert_eq!(failure, again);
}
