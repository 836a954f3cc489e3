//! The count of a text that grows and is cut into pieces.
//!
//! Settled pieces are not kept, and a long run behind them is followed by character.

use std::collections::HashSet;

use crate::bpe::{Vocabulary, TOKEN_BYTES_MAX};
use crate::count::PieceCounter;
use crate::registered::{is_nfc, last_start, nfc, starts_anew, ByteLevel};
use crate::rules::Rules;
use crate::run::Run;
use crate::split::Scanner;

/// Open text of this length that is one run is followed instead of scanned again.
const RUN_BYTES_MIN: usize = 64;

/// The text, as far as it must be kept.
#[derive(Clone, Default)]
pub struct Growing {
    /// Tokens of the settled pieces, which are no longer kept.
    settled: usize,
    /// The text behind them, whose pieces may still change.
    open: String,
    /// Tokens of the open text, were it to end here.
    open_tokens: usize,
    /// The open text, if it is one long run.
    run: Option<Run>,
}

/// What pieces are counted with.
#[derive(Clone, Copy)]
struct Parts<'a> {
    vocabulary: Vocabulary<'a>,
    rules: Rules,
    /// Tokens that are no table's.
    long: Option<&'a HashSet<Vec<u8>>>,
    /// There are tokens that merging does not make.
    unmerged: bool,
    /// A character at the end of the text may yet be composed with one that follows.
    composes: bool,
}

impl Parts<'_> {
    fn counter(&self, text_bytes: usize) -> PieceCounter<'_> {
        PieceCounter::new(self.vocabulary, text_bytes).with_long(self.long)
    }
}

impl Growing {
    /// Tokens so far.
    pub fn count(&self) -> usize {
        self.settled + self.open_tokens
    }

    /// Appends to a text without added tokens and normalizers.
    pub fn push(&mut self, vocabulary: Vocabulary<'_>, rules: Rules, delta: &str) {
        let parts = Parts {
            vocabulary,
            rules,
            long: None,
            unmerged: false,
            composes: false,
        };
        self.open.push_str(delta);
        self.advance(parts, delta, self.open.len());
    }

    /// Appends to a text of a registered model.
    pub fn push_to(&mut self, model: &ByteLevel, delta: &str) {
        let (vocabulary, rules, long) = model.parts();
        let parts = Parts {
            vocabulary,
            rules,
            long,
            unmerged: model.unmerged,
            composes: model.composes,
        };
        let before = self.open.len();
        self.open.push_str(delta);
        // An added token that ends in the new text cannot start before this.
        let mut from = before.saturating_sub(model.added.longest());
        while !self.open.is_char_boundary(from) {
            from -= 1;
        }
        let mut new = delta;
        let (open, pending) = loop {
            let cut = model.added.cut(&self.open[from..]);
            let Some((_, end)) = cut.found else {
                break (from + cut.open, cut.pending);
            };
            let whole = model.count_until(&self.open[..from + end], usize::MAX);
            self.settled += whole.unwrap_or(usize::MAX);
            self.open.drain(..from + end);
            self.run = None;
            from = 0;
            new = "";
        };
        if self.open.is_empty() {
            self.open_tokens = 0;
            return;
        }
        if model.composes && !(is_nfc(delta) && starts_anew(delta)) && !is_nfc(&self.open) {
            // What is composed stays composed, whatever follows it.
            self.open = nfc(&self.open).into_owned();
            self.run = None;
            let open = model.added.cut(&self.open).open;
            self.scan(parts, open);
        } else if new.is_empty() {
            self.scan(parts, open);
        } else {
            self.advance(parts, delta, open);
        }
        if pending {
            let whole = model.count_until(&self.open, usize::MAX);
            self.open_tokens = whole.unwrap_or(usize::MAX);
        }
    }

    /// Takes account of `delta`, which is at the end of the open text. From `settling` on, text may become an added token.
    fn advance(&mut self, parts: Parts<'_>, delta: &str, settling: usize) {
        let run = self.run.as_mut();
        if run.is_some_and(|run| run.push(&parts.vocabulary, delta)) {
            self.count_run(parts);
        } else {
            self.scan(parts, settling);
        }
    }

    fn count_run(&mut self, parts: Parts<'_>) {
        let Some(run) = &self.run else { return };
        self.open_tokens = run.tokens();
        let text = self.open.as_bytes();
        let cut = run.cut();
        let pieces = [
            (0, cut.unwrap_or(text.len())),
            (cut.unwrap_or(text.len()), text.len()),
        ];
        // A piece that is short enough to be a token that merging does not make is looked up.
        let short = |&(start, end): &(usize, usize)| end > start && end - start <= TOKEN_BYTES_MAX;
        if parts.unmerged && pieces.iter().any(short) {
            let mut counter = parts.counter(0);
            for (start, end) in pieces.into_iter().filter(|(start, end)| end > start) {
                counter.take(text, start, end);
            }
            self.open_tokens = counter.finish(text);
        }
    }

    /// Cuts the open text into pieces, and lets go of those that are settled.
    fn scan(&mut self, parts: Parts<'_>, settling: usize) {
        let text = self.open.as_bytes();
        let mut counter = parts.counter(text.len());
        let mut settled_bytes = 0;
        let mut rule = None;
        let stable = if parts.composes {
            last_start(&self.open[..settling])
        } else {
            settling
        };
        for piece in Scanner::new(parts.rules, &self.open[..settling]) {
            if !piece.settled || piece.end > stable {
                rule = piece.run;
                break;
            }
            counter.take(text, piece.start, piece.end);
            settled_bytes = piece.end;
        }
        self.settled += counter.finish(text);
        let rest = &self.open[settled_bytes..];
        for piece in Scanner::new(parts.rules, rest) {
            counter.take(rest.as_bytes(), piece.start, piece.end);
        }
        self.open_tokens = counter.finish(rest.as_bytes());
        self.open.drain(..settled_bytes);
        let settling = settling - settled_bytes;
        self.run = rule
            .filter(|_| self.open.len() >= RUN_BYTES_MIN)
            .map(|rule| Run::new(&parts.vocabulary, parts.rules, rule, &self.open[..settling]))
            .and_then(|mut run| {
                run.push(&parts.vocabulary, &self.open[settling..])
                    .then_some(run)
            });
    }
}
