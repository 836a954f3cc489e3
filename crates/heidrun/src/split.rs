//! Text into the pieces that are then encoded one by one.
//!
//! The rules are patterns of regular expressions, written out by hand. A pattern matched
//! by a regular expression engine says where a piece ends, but not whether more text could move that end. A hand-written
//! scanner knows: **a piece is settled if the scanner did not look past the end of the text to find it**, for then it
//! would have found the same piece whatever follows. That is what makes a running count exact.

use crate::ascii::{self, Look};
use crate::class::{
    behind_ideographs, character_at, first_character, At, IDEOGRAPH, LETTER, LOWER, NEWLINE,
    NUMBER, SPACE, UPPER,
};
use crate::rules::{Rules, Word};
use crate::run::Rule;

/// Finds the pieces of a text, from left to right.
pub struct Scanner<'a> {
    text: &'a str,
    rules: Rules,
    start: usize,
    looked_past_end: bool,
    pub(crate) endless: Option<Rule>,
}

/// One piece.
#[derive(Clone, Copy)]
pub struct Piece {
    /// Where it starts.
    pub start: usize,
    /// Where it ends, always behind its start.
    pub end: usize,
    /// True if no text appended could change it.
    pub settled: bool,
    /// What goes on at the end of the text, if this piece and all behind it are one run.
    pub run: Option<Rule>,
}

impl<'a> Scanner<'a> {
    pub fn new(rules: Rules, text: &'a str) -> Self {
        Self {
            text,
            rules,
            start: 0,
            looked_past_end: false,
            endless: None,
        }
    }

    #[inline]
    pub(crate) fn at(&mut self, index: usize) -> Option<At> {
        let at = character_at(self.text.as_bytes(), index);
        self.looked_past_end |= at.is_none();
        at
    }

    fn is_end(&self, index: usize) -> bool {
        index == self.text.len()
    }

    /// The end of the longest run, from `index`, of characters with one of `flags`.
    fn run(&mut self, index: usize, flags: u8) -> usize {
        self.run_while(index, |of| of & flags != 0)
    }

    /// The end of the longest run of characters with none of `flags`.
    fn run_without(&mut self, index: usize, flags: u8) -> usize {
        self.run_while(index, |of| of & flags == 0)
    }

    #[inline]
    fn run_while(&mut self, index: usize, belongs: impl Fn(u8) -> bool) -> usize {
        let text = self.text.as_bytes();
        let mut rest = &text[index..];
        loop {
            if belongs(IDEOGRAPH) {
                rest = behind_ideographs(rest);
            }
            let Some((_, flags, behind)) = first_character(rest) else {
                self.looked_past_end = true;
                return text.len();
            };
            if !belongs(flags) {
                return text.len() - rest.len();
            }
            rest = behind;
        }
    }

    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)`: its end, or `index` if it is not there. Case folding adds `ſ` (U+017F) to `s`, and
    /// nothing to the other letters.
    fn contraction(&mut self, index: usize) -> usize {
        let next = self.text.as_bytes().get(index);
        self.looked_past_end |= next.is_none();
        if next != Some(&b'\'') {
            return index;
        }
        let Some(first) = self.at(index + 1) else {
            return index;
        };
        let second = match char::from_u32(first.code) {
            Some('s' | 'S' | 'ſ' | 't' | 'T' | 'm' | 'M' | 'd' | 'D') => return first.next,
            Some('r' | 'R' | 'v' | 'V') => b'e',
            Some('l' | 'L') => b'l',
            _ => return index,
        };
        match self.at(first.next) {
            Some(at) if at.code | 0x20 == u32::from(second) => at.next,
            _ => index,
        }
    }

    /// The end of the piece that starts at `start`, where there is a character.
    fn piece_end(&mut self, start: usize, first: At) -> usize {
        if let Some(end) = match self.rules.word {
            Word::Letters => self.letters(start, first),
            Word::Cased { contraction } => self.cased(start, first, contraction),
            Word::AfterSpace => Some(self.after_space(start, first)),
            Word::Segments => Some(self.segment(start, first)),
        } {
            return end;
        }
        if first.is(NUMBER) {
            return self.digits(first);
        }
        if let Some(end) = self.symbols(start, first) {
            return end;
        }
        self.space(start, first)
    }

    /// `'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++`
    fn letters(&mut self, start: usize, first: At) -> Option<usize> {
        let end = self.contraction(start);
        if end > start {
            return Some(end);
        }
        if first.is(NEWLINE | NUMBER) {
            return None;
        }
        let end = self.run(first.next, LETTER);
        if !first.is(LETTER) && end == first.next {
            return None;
        }
        self.endless = self.is_end(end).then_some(Rule::Letters);
        Some(end)
    }

    /// `[^\r\n\p{L}\p{N}]?U*W+C?|[^\r\n\p{L}\p{N}]?U+W*C?`, with U = [`UPPER`], W = [`LOWER`] and C the contraction.
    ///
    /// The character before the word is taken if it can be, in each alternative before it is left. Leaving it matters
    /// only for a mark, which may both stand before a word and be part of one.
    fn cased(&mut self, start: usize, first: At, contraction: bool) -> Option<usize> {
        if first.is(NEWLINE | NUMBER) {
            return None;
        }
        if !first.is(LETTER | UPPER | LOWER) {
            // Nearly always a look at the next character shows that no word begins here.
            let next = self.at(first.next)?;
            if !next.is(UPPER | LOWER) {
                return None;
            }
        }
        let starts = [
            (!first.is(LETTER)).then_some(first.next),
            first.is(UPPER | LOWER).then_some(start),
        ];
        let end = starts
            .into_iter()
            .flatten()
            .find_map(|from| self.lower_word(from))
            .or_else(|| {
                starts.into_iter().flatten().find_map(|from| {
                    // No W anywhere in the run, or `lower_word` had found it: W* is empty.
                    let end = self.run(from, UPPER);
                    (end > from).then_some(end)
                })
            })?;
        Some(if contraction {
            self.contraction(end)
        } else {
            end
        })
    }

    /// `U*W+`: all of the run in U and the W behind it; without any behind, up to the last of the run that is also in W.
    fn lower_word(&mut self, from: usize) -> Option<usize> {
        let text = self.text.as_bytes();
        let mut rest = &text[from..];
        let mut behind_lower = None;
        loop {
            let behind = behind_ideographs(rest);
            if behind.len() < rest.len() {
                rest = behind;
                behind_lower = Some(rest.len());
            }
            let Some((_, flags, behind)) = first_character(rest) else {
                self.looked_past_end = true;
                self.endless = Some(Rule::Word);
                break;
            };
            if flags & UPPER == 0 {
                if flags & LOWER != 0 {
                    let end = self.run(text.len() - behind.len(), LOWER);
                    self.endless = self.is_end(end).then_some(Rule::Lower);
                    return Some(end);
                }
                break;
            }
            rest = behind;
            if flags & LOWER != 0 {
                behind_lower = Some(rest.len());
            }
        }
        behind_lower.map(|length| text.len() - length)
    }

    /// All of the pattern of GPT-2.
    fn after_space(&mut self, start: usize, first: At) -> usize {
        let end = self.contraction(start);
        if end > start
            && self.text[start..end]
                .bytes()
                .all(|byte| byte == b'\'' || byte.is_ascii_lowercase())
        {
            return end;
        }
        let from = if first.equals(b' ') {
            first.next
        } else {
            start
        };
        let Some(at) = self.at(from).filter(|at| !at.is(SPACE)) else {
            return self.space(start, first);
        };
        let (end, rule) = if at.is(LETTER) {
            (self.run(from, LETTER), Rule::Letters)
        } else if at.is(NUMBER) {
            (self.run(from, NUMBER), Rule::Numbers)
        } else {
            (
                self.run_without(from, SPACE | LETTER | NUMBER),
                Rule::Symbols,
            )
        };
        self.endless = self.is_end(end).then_some(rule);
        end
    }

    /// `\p{N}{1,digits_max}`
    pub(crate) fn digits(&mut self, first: At) -> usize {
        let mut end = first.next;
        for _ in 1..self.rules.digits_max {
            match self.at(end) {
                Some(at) if at.is(NUMBER) => end = at.next,
                _ => break,
            }
        }
        end
    }

    /// ` ?[^\s\p{L}\p{N}]+[\r\n]*`, and with `newlines_slash` also `/` among the last.
    fn symbols(&mut self, start: usize, first: At) -> Option<usize> {
        let from = if first.equals(b' ') {
            first.next
        } else {
            start
        };
        let mut end = self.run_without(from, SPACE | LETTER | NUMBER);
        if end == from {
            return None;
        }
        let mut rule = Rule::Symbols;
        while let Some(at) = self.at(end) {
            // A slash is among the symbols, so it can only follow a newline here.
            let slash = at.equals(b'/') && self.rules.newlines_slash;
            if !(at.is(NEWLINE) || slash) {
                break;
            }
            rule = Rule::Newlines;
            end = at.next;
        }
        self.endless = self.is_end(end).then_some(rule);
        Some(end)
    }

    /// cl100k: `\s++$|\s*[\r\n]|\s+(?!\S)|\s`, o200k: `\s*[\r\n]+|\s+(?!\S)|\s+`
    fn space(&mut self, start: usize, first: At) -> usize {
        let mut end = first.next;
        let mut last_start = start;
        let mut after_newline = first.is(NEWLINE).then_some(first.next);
        let mut at_end = true;
        while let Some(at) = self.at(end) {
            if !at.is(SPACE) {
                at_end = false;
                break;
            }
            last_start = end;
            end = at.next;
            if at.is(NEWLINE) {
                after_newline = Some(end);
            }
        }
        self.endless = at_end.then_some(Rule::Space);
        if at_end && self.rules.trailing_space_whole {
            return end;
        }
        match after_newline.filter(|_| self.rules.word != Word::AfterSpace) {
            Some(after) => after,
            None if at_end || last_start == start => end,
            None => last_start,
        }
    }
}

impl Iterator for Scanner<'_> {
    type Item = Piece;

    #[inline]
    fn next(&mut self) -> Option<Piece> {
        let start = self.start;
        let mut settled = true;
        let mut run = None;
        match ascii::look(self.rules, self.text.as_bytes(), start) {
            Look::Ends(end) => self.start = end,
            look => {
                self.start = self.end_from(start, look)?;
                settled = !self.looked_past_end;
                run = self.endless;
            }
        }
        Some(Piece {
            start,
            end: self.start,
            settled,
            run,
        })
    }
}

impl Scanner<'_> {
    /// The end of the piece that starts at `start`, of which the look there could not tell it; None at the end of the text.
    #[inline(never)]
    pub fn end_from(&mut self, start: usize, look: Look) -> Option<usize> {
        self.looked_past_end = false;
        self.endless = None;
        if let Look::GoesOn(from) = look {
            return Some(self.word_from(from));
        }
        let first = self.at(start)?;
        Some(self.piece_end(start, first))
    }

    /// The end of a word that has lower-case letters up to `from`.
    fn word_from(&mut self, from: usize) -> usize {
        let (flags, rule) = match self.rules.word {
            Word::Cased { .. } => (LOWER, Rule::Lower),
            _ => (LETTER, Rule::Letters),
        };
        let end = self.run(from, flags);
        self.endless = self.is_end(end).then_some(rule);
        match self.rules.word {
            Word::Cased { contraction: true } => self.contraction(end),
            _ => end,
        }
    }
}
