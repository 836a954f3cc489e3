//! The router against its definition, event by event.

// Small numbers of the tests.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_lossless
)]

mod oracle;

use std::collections::BTreeMap;

use oracle::{Counted, Facts, Oracle};
use scoring::{
    Key, Offer, Request, Router, Scope, Settings, Tally, Visibility, Weights, REASON_NAMES,
};

const OFFERS: u64 = 40;

struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let word = self.0;
        (word ^ (word >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD) ^ (word >> 29)
    }
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
    fn unit(&mut self) -> f64 {
        self.below(1 << 40) as f64 / (1u64 << 40) as f64
    }
}

fn key(number: u64) -> Key {
    u128::from(number).to_be_bytes()
}

/// Each seed of a world its own: wide and narrow bands, other weights, huge requests capped early or late.
fn settings(seed: u64) -> Settings {
    let others = [0.4, 0.0, 3.0, 0.2, 1.7];
    Settings {
        weights: if seed.is_multiple_of(3) {
            Weights::default()
        } else {
            Weights::new(others).unwrap()
        },
        band_width: [0.05, 0.1, 0.4, 0.003][seed as usize % 4],
        turn_times_max: [8, 1, 1_000_000][seed as usize % 3],
        explore_ppm: 100_000,
        newcomer_ppm: 50_000,
        breaker_failures: 3,
        breaker_open_ms: 2_000,
        breaker_open_ms_max: 10_000,
        ..Settings::default()
    }
}

struct World {
    chance: Chance,
    ours: Router,
    theirs: Oracle,
    now_ms: i64,
    busy: Vec<(Key, Key, Key)>,
    picked: u64,
    since_taken: u64,
}

fn plain(tallies: Vec<(Key, Tally)>) -> BTreeMap<Key, Counted> {
    tallies
        .into_iter()
        .map(|(key, tally)| {
            let missed = REASON_NAMES.iter().copied().zip(tally.missed);
            let missed = missed.filter(|one| one.1 > 0).collect();
            (key, (tally.asked, tally.got, tally.fair_share, missed))
        })
        .collect()
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            chance: Chance(seed),
            ours: Router::new(settings(seed)).unwrap(),
            theirs: Oracle::new(settings(seed)),
            now_ms: 0,
            busy: Vec::new(),
            picked: 0,
            since_taken: 0,
        }
    }

    fn any(&mut self) -> Key {
        key(self.chance.below(OFFERS))
    }

    fn some(&mut self) -> Vec<Key> {
        let count = self.chance.of(&[0, 0, 0, 0, 0, 1, 3, 20]);
        (0..count).map(|_| self.any()).collect()
    }

    fn network(&mut self) -> Key {
        [200 + self.chance.below(4) as u8; 16]
    }

    fn upsert(&mut self) {
        let facts = Facts {
            key: self.any(),
            owner: self.network(),
            group: [100 + self.chance.below(16) as u8; 16],
            model: self.chance.of(&["even", "even", "odd"]),
            price: self
                .chance
                .of(&[0, 5_000_000, 90_000_000, 90_000_001, 100_000_000, 1 << 62]),
            context: self.chance.of(&[4_096, 131_072, 131_072]),
            output: self.chance.of(&[4_096, i64::MAX]),
            capacity: self.chance.of(&[0, 1, 2, 3, 8]),
            group_capacity: self.chance.of(&[2, 8, u32::MAX]),
            visibility: self
                .chance
                .of(&[Visibility::Market, Visibility::Market, Visibility::Own]),
        };
        let offer = Offer {
            key: facts.key,
            owner: facts.owner,
            group: facts.group,
            model: facts.model,
            price_microcents: facts.price,
            context_tokens: facts.context,
            output_tokens: facts.output,
            capacity: facts.capacity,
            group_capacity: facts.group_capacity,
            visibility: facts.visibility,
        };
        self.ours.upsert(&offer).unwrap();
        let key = facts.key;
        self.theirs.upsert(facts);
        assert_eq!(
            self.ours.set_online(&key, true),
            self.theirs.set_online(&key, true)
        );
    }

    /// Goes on with what a snapshot holds.
    fn reload(&mut self) {
        let snapshot = self.ours.snapshot();
        self.ours = Router::restore(&snapshot).unwrap();
        assert!(self.ours.snapshot() == snapshot);
    }

    fn step(&mut self) {
        self.now_ms += self.chance.of(&[0, 0, 1, 50, 700]);
        match self.chance.below(100) {
            0..42 => self.pick(),
            42..72 => self.end(),
            72..80 => self.upsert(),
            80..84 => {
                let (key, online) = (self.any(), self.chance.below(5) > 0);
                assert_eq!(
                    self.ours.set_online(&key, online),
                    self.theirs.set_online(&key, online)
                );
            }
            84..87 => {
                let (key, open) = (self.any(), self.chance.below(5) > 0);
                assert_eq!(
                    self.ours.set_open(&key, open),
                    self.theirs.set_open(&key, open)
                );
            }
            87..92 => {
                let key = self.any();
                let unit = self.chance.unit();
                let share = self.chance.of(&[0.0, 1.0, unit]);
                let latency = self.chance.unit() * 3_000.0;
                let known = self.ours.set_estimates(&key, share, latency, unit).unwrap();
                assert_eq!(known, self.theirs.set_estimates(&key, share, latency, unit));
            }
            92..94 => {
                let now_ms = self.now_ms - self.chance.of(&[0, 0, 5_000]);
                while !self.ours.tick(now_ms, 7) {}
                self.theirs.tick(now_ms);
            }
            94..97 => {
                let (group, ok) = (
                    [100 + self.chance.below(16) as u8; 16],
                    self.chance.below(3) == 0,
                );
                self.ours.report(&group, ok, self.now_ms);
                self.theirs.report(&group, ok, self.now_ms, 3);
            }
            97 => {
                let key = self.any();
                assert_eq!(self.ours.remove(&key), self.theirs.remove(&key));
            }
            98 => {
                if self.chance.below(4) == 0 {
                    let model = self.chance.of(&["even", "odd"]);
                    let (price, latency) = (
                        self.chance.of(&[5e6, 1e8]),
                        self.chance.of(&[200.0, 2_000.0]),
                    );
                    self.ours.set_references(model, price, latency).unwrap();
                    self.theirs.set_references(model, price, latency);
                }
            }
            _ => self.take(),
        }
        if self.since_taken == 15 {
            self.take();
        }
    }

    fn take(&mut self) {
        let ours = plain(self.ours.take_tallies());
        let theirs = self.theirs.take_tallies();
        assert_eq!(ours.len(), theirs.len());
        for (key, counted) in theirs {
            let found = &ours[&key];
            assert_eq!(
                (found.0, found.1, &found.3),
                (counted.0, counted.1, &counted.3)
            );
            assert!((found.2 - counted.2).abs() < 1e-9, "{found:?} {counted:?}");
        }
        self.since_taken = 0;
    }

    fn end(&mut self) {
        if self.busy.is_empty() {
            return;
        }
        let at = self.chance.below(self.busy.len() as u64) as usize;
        let (group, owner, done) = self.busy.swap_remove(at);
        if self.chance.below(10) > 0 {
            let ok = self.chance.below(10) < 7;
            self.ours.report(&group, ok, self.now_ms);
            self.theirs.report(&group, ok, self.now_ms, 3);
            self.ours.report_owner(&owner, ok, self.now_ms);
            self.theirs.report(&owner, ok, self.now_ms, 12);
        }
        assert_eq!(self.ours.release(&done), self.theirs.release(&done));
    }

    fn pick(&mut self) {
        self.since_taken += 1;
        let (only, ignore, tried) = (self.some(), self.some(), self.some());
        let (wish, preferred) = (self.chance.below(3), self.any());
        let request = Request {
            model: self.chance.of(&["even", "even", "odd", "none"]),
            network: self.network(),
            scope: self
                .chance
                .of(&[Scope::Market, Scope::Market, Scope::Market, Scope::Own]),
            context_tokens: self.chance.of(&[0, 100, 8_192]),
            output_tokens: self.chance.of(&[0, 0, 5_000]),
            work_tokens: self.chance.of(&[0, 1, 150, 150, 3_000, 100_000, i64::MAX]),
            price_microcents_max: self.chance.of(&[
                None,
                None,
                Some(0),
                Some(90_000_000),
                Some(i64::MAX),
            ]),
            only: &only,
            ignore: &ignore,
            tried: &tried,
            prefer: (wish == 0).then_some(preferred),
            now_ms: self.now_ms,
            seed: self.chance.next(),
        };
        let theirs = self.theirs.pick(&request);
        let ours = self.ours.pick(&request).unwrap();
        assert_eq!(ours.gates.named().to_vec(), theirs.gates, "{request:?}");
        assert_eq!(ours.feasible, theirs.feasible);
        assert_eq!(ours.pick.map(|pick| pick.key), theirs.key, "{request:?}");
        let listed: Vec<_> = ours
            .candidates()
            .iter()
            .map(|one| (one.key, one.score, one.band))
            .collect();
        assert_eq!(listed, theirs.candidates);
        if let Some(pick) = ours.pick {
            assert_eq!(pick.explored, theirs.explored);
            assert!((pick.propensity - theirs.propensity.unwrap()).abs() < 1e-12);
            let weights = ours.effective_weights();
            let sum: f64 = weights.iter().sum();
            assert!(
                sum.abs() < 1e-12 || (sum - 1.0).abs() < 1e-12,
                "{weights:?}"
            );
            self.busy.push((pick.group, pick.owner, pick.key));
            self.picked += 1;
        }
    }
}

/// `ROUTER_EVENTS=1000000` for the long run.
#[test]
fn the_same_winner_card_and_counts_as_by_definition() {
    let events: u64 = std::env::var("ROUTER_EVENTS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(100_000);
    let mut picked = 0;
    for seed in 0..10 {
        let mut world = World::new(seed);
        for event in 0..events / 10 {
            world.step();
            if event % 1_000 == 0 {
                world.reload();
            }
        }
        picked += world.picked;
    }
    assert!(picked > events / 10, "{picked}");
}
