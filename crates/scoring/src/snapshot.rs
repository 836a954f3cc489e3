//! A router as bytes, and back. Only facts and counts are written; every index is built anew.

use std::collections::VecDeque;

use crate::breaker::Breaker;
use crate::codec::{broken, whole, Reader, Writer};
use crate::history::{History, Win, LEVEL, LEVELS_MAX, NEWEST};
use crate::party::NONE;
use crate::pool::{Class, Seen};
use crate::queue::Queue;
use crate::router::Router;
use crate::score::References;
use crate::settings::Settings;
use crate::tally::{Tally, REASONS};
use crate::Invalid;

const MAGIC: &[u8; 8] = b"YggRoutr";
/// 2: bands from the best down, turns of 64 bits with a mean, weights.
const VERSION: u32 = 2;

impl Router {
    /// The whole state, so that a router restored from it decides and counts like this one, to the last bit.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let mut to = Writer::default();
        to.bytes(MAGIC);
        to.u32(VERSION);
        self.settings.write(&mut to);
        to.i64(self.epoch_ms);
        to.u32(self.epoch);
        to.f64(self.factor);
        to.length(self.swept);
        to.u64(self.served);
        to.i64(self.now_ms);
        to.u64(self.asked);
        to.length(self.asked_by.len());
        for (network, asked) in &self.asked_by {
            to.bytes(network);
            to.u64(*asked);
        }
        let mut breakers: Vec<_> = self.breakers.iter().collect();
        breakers.sort_unstable_by_key(|one| one.0);
        to.length(breakers.len());
        for (key, breaker) in breakers {
            to.bytes(key);
            breaker.write(&mut to);
        }
        let mut names: Vec<(&String, u32)> = self.names.iter().map(|one| (one.0, *one.1)).collect();
        names.sort_unstable();
        to.length(names.len());
        let mut numbers = vec![NONE; self.models.len()];
        for (number, (name, model)) in (0..).zip(&names) {
            numbers[*model as usize] = number;
            to.text(name);
            self.write_model(*model, &mut to);
        }
        self.write_standings(&numbers, &mut to);
        let plain = |(&(owner, model), queue): (&(u32, u32), &Queue)| {
            let owner = self.parties[owner as usize].key;
            (owner, numbers[model as usize], *queue)
        };
        let mut queues: Vec<_> = self.queues.iter().map(plain).collect();
        queues.sort_unstable_by_key(|&(owner, model, _)| (owner, model));
        to.length(queues.len());
        for (owner, model, queue) in queues {
            to.bytes(&owner);
            to.u32(model);
            write_queue(queue, &mut to);
        }
        to.0
    }

    fn write_model(&self, model: u32, to: &mut Writer) {
        let model = &self.models[model as usize];
        to.flag(model.references.is_some());
        if let Some(references) = &model.references {
            to.f64(references.price);
            to.f64(references.latency_ms);
        }
        write_queue(model.pool.queue, to);
        to.u64(model.pool.number);
        to.length(model.pool.classes.len());
        for ((context, output), class) in model.pool.classes.iter() {
            to.i64(context);
            to.i64(output);
            write_seen(&class.seen, to);
            to.length(class.wins.counted().count());
            for (step, wins) in class.wins.counted() {
                to.u16(step);
                to.u32(wins);
            }
        }
        write_history(&model.pool.plain, to);
        write_history(&model.pool.cut, to);
    }

    /// A router from the bytes of [`Router::snapshot`].
    ///
    /// # Errors
    /// [`Invalid`] if they are anything else.
    pub fn restore(snapshot: &[u8]) -> Result<Self, Invalid> {
        let mut from = Reader(snapshot);
        let from = &mut from;
        let magic = from.key().is_ok_and(|head| head.starts_with(MAGIC));
        if !magic {
            return Err(broken("must be what Router.snapshot returned"));
        }
        from.0 = &snapshot[MAGIC.len()..];
        match from.u32()? {
            VERSION => {}
            1 => {
                return Err(broken(
                    "must be of version 2, not 1: it holds other bands and turns",
                ))
            }
            0 => {
                return Err(broken(
                    "must be of version 2, not 0: there was no such version",
                ))
            }
            _ => return Err(broken("must be of version 2, not a later one")),
        }
        let mut router = Self::new(Settings::read(from)?)?;
        router.epoch_ms = from.i64()?;
        router.epoch = from.u32()?;
        router.factor = from.amount()?;
        router.swept = usize::try_from(from.count()?).unwrap_or(usize::MAX);
        router.served = from.count()?;
        router.now_ms = from.i64()?;
        router.asked = from.count()?;
        for _ in 0..from.length()? {
            let network = from.key()?;
            let asked = from.count()?;
            whole(router.asked_by.insert(network, asked).is_none())?;
        }
        for _ in 0..from.length()? {
            let key = from.key()?;
            let breaker = Breaker::read(from)?;
            let opens_ms = breaker.opens_ms(&router.settings);
            whole(router.breakers.insert(key, breaker).is_none())?;
            if opens_ms > i64::MIN {
                router.thresholds.insert((opens_ms, key));
            }
        }
        let mut classes = Vec::new();
        let mut names = Vec::new();
        for _ in 0..from.length()? {
            let name = from.text()?;
            crate::bounds::model(name)?;
            whole(!router.names.contains_key(name))?;
            let model = router.model(name);
            names.push(name);
            router.read_model(model, from, &mut classes)?;
        }
        let seen = router.read_standings(&names, from)?;
        for (model, lengths, counted) in classes {
            let class = router.models[model as usize].pool.classes.get_mut(lengths);
            let class = class.ok_or(broken("must not count for offers that are not there"))?;
            (class.seen, class.wins) = (counted.seen, counted.wins);
        }
        for (slot, seen) in seen {
            router.standings[slot as usize].seen = seen;
        }
        for _ in 0..from.length()? {
            let owner = from.key()?;
            let model = from.u32()?;
            let queue = read_queue(from)?;
            let party = router.party_of.get(&owner, &router.parties);
            let party = party.ok_or(broken("must not queue for networks that are not there"))?;
            whole((model as usize) < names.len())?;
            router.queues.insert((party, model), queue);
        }
        let unused = |one: &crate::standing::Model| one.count == 0 && one.references.is_none();
        whole(!router.models.iter().any(unused) && router.swept <= router.standings.len())?;
        whole(from.0.is_empty())?;
        Ok(router)
    }

    fn read_model(
        &mut self,
        model: u32,
        from: &mut Reader<'_>,
        classes: &mut Vec<(u32, (i64, i64), Class)>,
    ) -> Result<(), Invalid> {
        let work = self.settings.references.work;
        let one = &mut self.models[model as usize];
        if from.flag()? {
            let references = References {
                price: from.f64()?,
                latency_ms: from.f64()?,
                work,
            };
            crate::score::references_checked(&references)?;
            one.references = Some(references);
        }
        one.pool.queue = read_queue(from)?;
        one.pool.number = from.count()?;
        for _ in 0..from.length()? {
            let lengths = (from.i64()?, from.i64()?);
            let mut class = Class {
                seen: read_seen(from)?,
                ..Class::default()
            };
            for _ in 0..from.length()? {
                class.wins.add(from.step()?, from.u32()?);
            }
            classes.push((model, lengths, class));
        }
        one.pool.plain = read_history(from)?;
        one.pool.cut = read_history(from)?;
        Ok(())
    }
}

fn write_queue(queue: Queue, to: &mut Writer) {
    to.u64(queue.turn);
    to.u64(queue.mean);
    to.u32(queue.waited);
}

fn read_queue(from: &mut Reader<'_>) -> Result<Queue, Invalid> {
    Ok(Queue {
        turn: from.u64()?,
        mean: from.count()?,
        waited: from.u32()?,
    })
}

pub fn write_seen(seen: &Seen, to: &mut Writer) {
    to.u64(seen.number);
    for count in [
        seen.only,
        seen.context,
        seen.entered,
        seen.cut,
        seen.chance,
        seen.turn,
    ] {
        to.u32(count);
    }
    to.f64(seen.share);
}

pub fn read_seen(from: &mut Reader<'_>) -> Result<Seen, Invalid> {
    Ok(Seen {
        number: from.count()?,
        only: from.u32()?,
        context: from.u32()?,
        entered: from.u32()?,
        cut: from.u32()?,
        chance: from.u32()?,
        turn: from.u32()?,
        share: from.amount()?,
    })
}

pub fn write_tally(tally: &Tally, to: &mut Writer) {
    to.u64(tally.asked);
    to.u64(tally.got);
    to.f64(tally.fair_share);
    for missed in tally.missed {
        to.u64(missed);
    }
}

pub fn read_tally(from: &mut Reader<'_>) -> Result<Tally, Invalid> {
    let mut tally = Tally {
        asked: from.count()?,
        got: from.count()?,
        fair_share: from.f64()?,
        missed: [0; REASONS],
    };
    whole(tally.fair_share.is_finite())?;
    for missed in &mut tally.missed {
        *missed = from.count()?;
    }
    Ok(tally)
}

fn write_history(history: &History, to: &mut Writer) {
    to.length(history.levels.len());
    for wins in &history.levels {
        to.length(wins.len());
        for win in wins {
            to.u64(win.number);
            to.u32(win.weight);
            to.i64(win.price_max);
            to.i64(win.context_tokens);
            to.i64(win.output_tokens);
            to.f64(win.share);
            to.flag(win.explored);
            to.u16(win.floor);
            for part in win.parts {
                to.f64(part);
            }
        }
    }
}

fn read_history(from: &mut Reader<'_>) -> Result<History, Invalid> {
    let mut history = History::default();
    let levels = from.length()?;
    whole(levels <= LEVELS_MAX)?;
    for level in 0..levels {
        let length = from.length()?;
        whole(length <= if level == 0 { NEWEST } else { LEVEL })?;
        let mut wins = VecDeque::new();
        for _ in 0..length {
            wins.push_back(Win {
                number: from.count()?,
                weight: from.u32()?,
                price_max: from.i64()?,
                context_tokens: from.i64()?,
                output_tokens: from.i64()?,
                share: from.amount()?,
                explored: from.flag()?,
                floor: from.step()?,
                parts: [
                    from.amount()?,
                    from.amount()?,
                    from.amount()?,
                    from.amount()?,
                    from.amount()?,
                ],
            });
        }
        history.levels.push(wins);
    }
    Ok(history)
}
