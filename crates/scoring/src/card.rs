//! The decision card: what was chosen, from what, and why.

use std::fmt::Write as _;

use serde::ser::{SerializeStruct, Serializer};
use serde::Serialize;

use crate::node::STEPS;
use crate::offer::Key;
use crate::score::{Inputs, Parts, References};
use crate::settings::Priors;
use crate::tally::Reason;
use crate::weights::Weights;

/// Offers that the request could see, by the first gate that each failed.
///
/// Offers that the requester may not know of are in no count: those of other networks when it asks at home, and other
/// networks' private ones when it asks the market.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Gates {
    /// Another model.
    pub model: u64,
    /// The requester's own offer, when it asks the market.
    pub owner: u64,
    /// Not among the `only`.
    pub only: u64,
    /// Among the `ignore`.
    pub ignore: u64,
    /// This request was there before.
    pub tried: u64,
    /// The context is too short, or the longest completion.
    pub context: u64,
    /// Dearer than the highest price.
    pub max_price: u64,
    /// The device is away, or takes no work at the moment.
    pub online: u64,
    /// The device failed too often of late.
    pub breaker: u64,
    /// All its slots are taken.
    pub capacity: u64,
}

impl Gates {
    /// Counts one more. An offer that is closed shows as one whose device is away.
    pub(crate) fn count(&mut self, failed: Reason) {
        match failed {
            Reason::Only => self.only += 1,
            Reason::Ignore => self.ignore += 1,
            Reason::Tried => self.tried += 1,
            Reason::Context => self.context += 1,
            Reason::MaxPrice => self.max_price += 1,
            Reason::Closed | Reason::Online => self.online += 1,
            Reason::Breaker => self.breaker += 1,
            Reason::Capacity => self.capacity += 1,
            // No gates.
            Reason::Price
            | Reason::Quality
            | Reason::Latency
            | Reason::Availability
            | Reason::Fairness
            | Reason::Turn
            | Reason::Chance => {}
        }
    }

    /// The counts by name, in the order in which the gates are tried.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64); 10] {
        [
            ("model", self.model),
            ("owner", self.owner),
            ("only", self.only),
            ("ignore", self.ignore),
            ("tried", self.tried),
            ("context", self.context),
            ("max_price", self.max_price),
            ("online", self.online),
            ("breaker", self.breaker),
            ("capacity", self.capacity),
        ]
    }
}

/// [`STEPS`] as steps are counted.
#[allow(clippy::cast_possible_truncation)] // 4
const STEPS_EACH: u16 = STEPS as u16;

/// One offer that passed every gate, as it stood when the pick was made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The offer.
    pub key: Key,
    /// Its five parts.
    pub parts: Parts,
    /// Their weighted sum.
    pub score: f64,
    /// 0 for those of the band from which the pick was made, −1 for those in the next as wide, and so on.
    pub band: i32,
    /// Whether it was picked.
    pub chosen: bool,
}

/// What a candidate's entry on the card is made of, if somebody asks for it: as the offer has it, in its order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glance {
    pub key: Key,
    pub price_microcents: i64,
    /// Estimates; NaN: nobody knows.
    pub quality: f64,
    pub latency_ms: f64,
    pub availability: f64,
    pub work: f64,
}

impl Glance {
    #[inline]
    pub fn inputs(&self, references: &References, priors: &Priors) -> Inputs {
        let known = |value: f64, prior| if value.is_nan() { prior } else { value };
        // A price loses its last bits above 2⁵³ micro-cents, where it scores 0 anyway.
        #[allow(clippy::cast_precision_loss)]
        let price = self.price_microcents as f64;
        Inputs {
            price,
            quality: known(self.quality, priors.quality),
            latency_ms: known(self.latency_ms, references.latency_ms),
            availability: known(self.availability, priors.availability),
            work: self.work,
        }
    }
}

impl PartialEq for Glance {
    /// To the last bit, so that one whom nobody knows equals itself.
    fn eq(&self, other: &Self) -> bool {
        let bits = |one: &Self| {
            [one.quality, one.latency_ms, one.availability, one.work].map(f64::to_bits)
        };
        (self.key, self.price_microcents, bits(self))
            == (other.key, other.price_microcents, bits(other))
    }
}

/// So many of them fit in what the allocator has at hand for a thread, where a step more would take a search.
const _: () = assert!(size_of::<Glance>() * GLANCES_MAX <= 1_024);

/// The most candidates of a card.
pub(crate) const GLANCES_MAX: usize = Decision::CANDIDATES_MAX + 1;

/// The offer picked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pick {
    /// The offer.
    pub key: Key,
    /// The device.
    pub group: Key,
    /// The network it belongs to.
    pub owner: Key,
    /// Whether chance picked it, to learn about it.
    pub explored: bool,
    /// The probability with which this request, in this state, picks this offer.
    pub propensity: f64,
}

/// All about one pick.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What was picked, if anything passed the gates.
    pub pick: Option<Pick>,
    /// What did not pass.
    pub gates: Gates,
    /// How many passed.
    pub feasible: u64,
    /// The time of the request.
    pub now_ms: i64,
    /// The epoch of the scores.
    pub epoch_ms: i64,
    /// The seed of the request.
    pub seed: u64,
    /// The candidates, and which of them was picked.
    pub(crate) glances: Vec<Glance>,
    /// The candidates' steps.
    pub(crate) steps: [u16; GLANCES_MAX],
    pub(crate) chosen: usize,
    /// The best step, at which the band begins.
    pub(crate) top: u16,
    pub(crate) weights: Weights,
    pub(crate) references: References,
    pub(crate) priors: Priors,
}

impl Decision {
    /// The weights of the five parts, in their order.
    #[must_use]
    pub fn weights(&self) -> [f64; 5] {
        self.weights.in_order()
    }

    /// The most candidates listed for being among the best.
    pub const CANDIDATES_MAX: usize = 16;

    /// The best of those that passed, by the steps of their scores and in each by turn: at most
    /// [`Decision::CANDIDATES_MAX`], and the one picked besides.
    #[must_use]
    pub fn candidates(&self) -> Vec<Candidate> {
        let candidate = |(index, (glance, step)): (usize, (&Glance, &u16))| {
            let inputs = glance.inputs(&self.references, &self.priors);
            let parts = Parts::new(&inputs, &self.references);
            Candidate {
                key: glance.key,
                parts,
                score: self.weights.total(&parts),
                band: -i32::from(step.saturating_sub(self.top) / STEPS_EACH),
                chosen: index == self.chosen,
            }
        };
        let glances = self.glances.iter().zip(&self.steps);
        glances.enumerate().map(candidate).collect()
    }

    /// How much each part decided, in their order: with `w` the weights, `x` the parts of the offer picked
    /// and `yⱼ` those of the other candidates,
    ///
    /// `effective_i = w_i · Σⱼ |x_i − yⱼ_i| / Σ_k w_k · Σⱼ |x_k − yⱼ_k|`
    ///
    /// A part in which all candidates are alike decided nothing, whatever its weight. The five add up to 1, or are all 0
    /// if nobody differed in anything.
    #[must_use]
    pub fn effective_weights(&self) -> [f64; 5] {
        let candidates = self.candidates();
        let mut spread = [0.0; 5];
        if let Some(chosen) = candidates.get(self.chosen) {
            let chosen = chosen.parts.in_order();
            for other in &candidates {
                let other = other.parts.in_order();
                for (part, weight) in self.weights().into_iter().enumerate() {
                    spread[part] += weight * (chosen[part] - other[part]).abs();
                }
            }
        }
        let sum: f64 = spread.iter().sum();
        if sum > 0.0 {
            spread.map(|part| part / sum)
        } else {
            [0.0; 5]
        }
    }

    /// The card as one JSON object. Keys are in hexadecimal; the seed is a string, for it may exceed 2⁵³.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Nothing in it can fail to serialise: no map with odd keys, no input or output.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Serialize for Candidate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut card = serializer.serialize_struct("Candidate", 9)?;
        card.serialize_field("key", &hex(&self.key))?;
        card.serialize_field("score", &self.score)?;
        card.serialize_field("band", &self.band)?;
        card.serialize_field("price", &self.parts.price)?;
        card.serialize_field("quality", &self.parts.quality)?;
        card.serialize_field("latency", &self.parts.latency)?;
        card.serialize_field("availability", &self.parts.availability)?;
        card.serialize_field("fairness", &self.parts.fairness)?;
        card.serialize_field("chosen", &self.chosen)?;
        card.end()
    }
}

impl Serialize for Decision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut card = serializer.serialize_struct("Decision", 11)?;
        card.serialize_field("chosen", &self.pick.map(|pick| hex(&pick.key)))?;
        card.serialize_field("explored", &self.pick.is_some_and(|pick| pick.explored))?;
        card.serialize_field("propensity", &self.pick.map(|pick| pick.propensity))?;
        card.serialize_field("feasible", &self.feasible)?;
        card.serialize_field("gates", &self.gates)?;
        card.serialize_field("candidates", &self.candidates())?;
        card.serialize_field("weights", &ByPart(self.weights()))?;
        card.serialize_field("effective_weights", &ByPart(self.effective_weights()))?;
        card.serialize_field("now_ms", &self.now_ms)?;
        card.serialize_field("epoch_ms", &self.epoch_ms)?;
        card.serialize_field("seed", &self.seed.to_string())?;
        card.end()
    }
}

/// A number of each part by its name.
struct ByPart([f64; 5]);

impl Serialize for ByPart {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut named = serializer.serialize_struct("ByPart", 5)?;
        named.serialize_field("price", &self.0[0])?;
        named.serialize_field("quality", &self.0[1])?;
        named.serialize_field("latency", &self.0[2])?;
        named.serialize_field("availability", &self.0[3])?;
        named.serialize_field("fairness", &self.0[4])?;
        named.end()
    }
}

fn hex(key: &Key) -> String {
    key.iter()
        .fold(String::with_capacity(32), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
