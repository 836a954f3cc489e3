//! Counting tokens: of a whole text, up to a limit, and of a text that grows.

use crate::count::PieceCounter;
use crate::encoding::Encoding;
use crate::run::Run;
use crate::split::Scanner;

/// The number of tokens of `text`, special tokens taken as ordinary text (as `tiktoken`'s `encode_ordinary`).
#[must_use]
pub fn count(encoding: Encoding, text: &str) -> usize {
    count_until(encoding, text, usize::MAX).unwrap_or(usize::MAX)
}

/// The number of tokens of `text` if it is at most `limit`, else `None`, read only as far as needed to know.
#[must_use]
pub fn count_until(encoding: Encoding, text: &str, limit: usize) -> Option<usize> {
    let mut counter = PieceCounter::new(encoding.vocabulary(), text.len());
    let mut tokens = 0;
    for piece in Scanner::new(encoding, text) {
        tokens += counter.count(text.as_bytes(), piece.start, piece.end);
        if tokens > limit {
            return None;
        }
    }
    Some(tokens)
}

/// Open text of this length that is one run is followed instead of scanned again.
const RUN_BYTES_MIN: usize = 64;

/// The number of tokens of a text that arrives in parts, exact after each.
///
/// A part costs time in proportion to its own length, whatever the length of the text: settled pieces are not kept, and
/// a long run behind them is followed by character.
#[derive(Clone)]
pub struct Counter {
    encoding: Encoding,
    /// Tokens of the settled pieces, which are no longer kept.
    settled: usize,
    /// The text behind them, whose pieces may still change.
    open: String,
    /// Tokens of the open text, were it to end here.
    open_tokens: usize,
    /// The open text, if it is one long run.
    run: Option<Run>,
}

impl Counter {
    /// A counter of the empty text.
    #[must_use]
    pub fn new(encoding: Encoding) -> Self {
        Self {
            encoding,
            settled: 0,
            open: String::new(),
            open_tokens: 0,
            run: None,
        }
    }

    /// Appends `delta` and returns the number of tokens of the whole text so far.
    pub fn push(&mut self, delta: &str) -> usize {
        if delta.is_empty() {
            return self.count();
        }
        self.open.push_str(delta);
        let followed = self
            .run
            .as_mut()
            .and_then(|run| run.push(delta).then(|| run.tokens()));
        match followed {
            Some(tokens) => self.open_tokens = tokens,
            None => self.scan(),
        }
        self.count()
    }

    /// Cuts the open text into pieces, and lets go of those that are settled.
    fn scan(&mut self) {
        let text = self.open.as_bytes();
        let mut counter = PieceCounter::new(self.encoding.vocabulary(), text.len());
        let mut settled_bytes = 0;
        let mut rule = None;
        let mut all_settled = true;
        self.open_tokens = 0;
        for piece in Scanner::new(self.encoding, &self.open) {
            let tokens = counter.count(text, piece.start, piece.end);
            if all_settled && !piece.settled {
                all_settled = false;
                rule = piece.run;
            }
            if all_settled {
                self.settled += tokens;
                settled_bytes = piece.end;
            } else {
                self.open_tokens += tokens;
            }
        }
        self.open.drain(..settled_bytes);
        self.run = rule
            .filter(|_| self.open.len() >= RUN_BYTES_MIN)
            .map(|rule| Run::new(self.encoding, rule, &self.open));
    }

    /// The number of tokens of the whole text so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.settled + self.open_tokens
    }

    /// What it counts with.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }
}
