//! Devices and networks: their offers, the slots taken of them, and whether their breakers let requests through.

use crate::breaker::Breaker;
use crate::offer::Key;
use crate::router::Router;
use crate::settings::Settings;

/// No slot, model or party.
pub const NONE: u32 = u32::MAX;

/// A list of offers: the first of them.
pub type List = u32;

/// An offer's neighbours in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    pub next: u32,
    pub previous: u32,
}

impl Link {
    pub const ALONE: Self = Self {
        next: NONE,
        previous: NONE,
    };
}

/// Each offer is in three lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Model,
    Owner,
    Group,
}

/// A device or a network that has offers. One id may be both.
#[derive(Clone, Debug)]
pub struct Party {
    pub key: Key,
    /// Offers that it owns, and those of them on the market.
    pub owned: u32,
    pub market: u32,
    /// Offers on it.
    pub grouped: u32,
    /// Slots taken of it.
    pub load: u32,
    pub by_owner: List,
    pub by_group: List,
    /// Whether its breaker keeps requests away, at the time of [`Router::sync`].
    pub broken: bool,
}

impl Router {
    /// The device or network of a key, made if it is new.
    pub(crate) fn party(&mut self, key: &Key) -> u32 {
        if let Some(party) = self.party_of.get(key, &self.parties) {
            return party;
        }
        let new = Party {
            key: *key,
            owned: 0,
            market: 0,
            grouped: 0,
            load: 0,
            by_owner: NONE,
            by_group: NONE,
            broken: self.opens_ms(key) > self.now_ms,
        };
        let party = if let Some(party) = self.parties_free.pop() {
            self.parties[party as usize] = new;
            party
        } else {
            // An offer brings an owner and a device at most.
            let most = self.settings.offers_max.saturating_mul(2);
            large_pages::room_for_one(&mut self.parties, most);
            self.parties.push(new);
            u32::try_from(self.parties.len() - 1).unwrap_or(NONE)
        };
        self.party_of.insert(party, &self.parties);
        party
    }

    /// Forgets a device or network that has no offer left.
    pub(crate) fn leave(&mut self, party: u32) {
        let one = &self.parties[party as usize];
        if one.owned == 0
            && one.grouped == 0
            && self.party_of.remove(&one.key, &self.parties).is_some()
        {
            self.parties_free.push(party);
            let queues = self.queues.range((party, 0)..=(party, NONE));
            let gone: Vec<_> = queues.map(|(&queue, _)| queue).collect();
            for queue in gone {
                self.queues.remove(&queue);
            }
        }
    }

    fn head(&mut self, by: By, list: u32) -> &mut u32 {
        match by {
            By::Model => &mut self.models[list as usize].offers,
            By::Owner => &mut self.parties[list as usize].by_owner,
            By::Group => &mut self.parties[list as usize].by_group,
        }
    }

    /// Puts an offer at the head of a list.
    pub(crate) fn link(&mut self, by: By, list: u32, slot: u32) {
        let first = std::mem::replace(self.head(by, list), slot);
        if first != NONE {
            self.links[first as usize][by as usize].previous = slot;
        }
        self.links[slot as usize][by as usize] = Link {
            next: first,
            previous: NONE,
        };
    }

    pub(crate) fn unlink(&mut self, by: By, list: u32, slot: u32) {
        let Link { next, previous } = self.links[slot as usize][by as usize];
        if previous == NONE {
            *self.head(by, list) = next;
        } else {
            self.links[previous as usize][by as usize].next = next;
        }
        if next != NONE {
            self.links[next as usize][by as usize].previous = previous;
        }
        self.links[slot as usize][by as usize] = Link::ALONE;
    }

    /// The offer behind one in a list.
    pub(crate) fn next(&self, by: By, slot: u32) -> u32 {
        self.links[slot as usize][by as usize].next
    }

    /// From when on the breaker of a key lets requests through.
    pub(crate) fn opens_ms(&self, key: &Key) -> i64 {
        self.breakers
            .get(key)
            .map_or(i64::MIN, |breaker| breaker.opens_ms(&self.settings))
    }

    /// Changes a breaker, and what hangs on it.
    pub(crate) fn with_breaker(&mut self, key: &Key, change: impl FnOnce(&mut Breaker)) {
        let Some(breaker) = self.breakers.get_mut(key) else {
            return;
        };
        let before = breaker.opens_ms(&self.settings);
        change(breaker);
        let after = breaker.opens_ms(&self.settings);
        if before != after {
            self.thresholds.remove(&(before, *key));
            if after > i64::MIN {
                self.thresholds.insert((after, *key));
            }
            self.set_broken(key, after > self.now_ms);
        }
    }

    /// Lets the breakers see what time it is. Times may go back.
    pub(crate) fn sync(&mut self, now_ms: i64) {
        if now_ms == self.now_ms {
            return;
        }
        let (from, to) = (self.now_ms.min(now_ms), self.now_ms.max(now_ms));
        let opened = now_ms > self.now_ms;
        self.now_ms = now_ms;
        if self.thresholds.is_empty() {
            return;
        }
        let after = (from.saturating_add(1), [0; 16])..=(to, [255; 16]);
        let passed: Vec<Key> = self.thresholds.range(after).map(|one| one.1).collect();
        for key in passed {
            self.set_broken(&key, !opened);
        }
    }

    fn set_broken(&mut self, key: &Key, broken: bool) {
        let Some(party) = self.party_of.get(key, &self.parties) else {
            return;
        };
        let one = &mut self.parties[party as usize];
        if one.broken == broken {
            return;
        }
        one.broken = broken;
        let (owned, grouped) = (one.by_owner, one.by_group);
        self.restate_list(By::Owner, owned);
        self.restate_list(By::Group, grouped);
    }

    pub(crate) fn restate_list(&mut self, by: By, first: u32) {
        let mut slot = first;
        while slot != NONE {
            self.restate(slot);
            slot = self.next(by, slot);
        }
    }

    /// Takes slots of a device, or gives them back. The states of its offers follow, but for that of an only one: who
    /// takes or gives back a slot sees to it.
    pub(crate) fn load_by(&mut self, group: u32, slots: i64) {
        let one = &mut self.parties[group as usize];
        let load = (i64::from(one.load) + slots).clamp(0, i64::from(u32::MAX));
        one.load = u32::try_from(load).unwrap_or(u32::MAX);
        let first = one.by_group;
        if one.grouped > 1 {
            self.restate_list(By::Group, first);
        }
    }

    pub(crate) fn report_to(&mut self, key: &Key, ok: bool, now_ms: i64, settings: &Settings) {
        let room = self.breakers.len() < 2 * settings.offers_max;
        // Without a window a breaker begins with a failure.
        if !self.breakers.contains_key(key) && room && (!ok || settings.breaker_window > 0) {
            self.breakers.insert(*key, Breaker::default());
        }
        self.with_breaker(key, |breaker| breaker.report(ok, now_ms, settings));
    }

    /// Forgets breakers that heard nothing for long.
    pub(crate) fn forget_breakers(&mut self, now_ms: i64) {
        let settings = &self.settings;
        let mut gone = Vec::new();
        self.breakers.retain(|key, breaker| {
            let idle = breaker.is_idle(now_ms);
            if idle {
                gone.push((breaker.opens_ms(settings), *key));
            }
            !idle
        });
        for threshold in gone {
            self.thresholds.remove(&threshold);
            self.set_broken(&threshold.1, false);
        }
    }
}
