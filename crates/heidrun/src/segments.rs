//! The pattern of `DeepSeek` since V3, which splits three times: at numbers, at Chinese and kana, and what is left by the third
//! pattern, for which the text ends where the next number or Chinese begins.

use crate::class::{At, LETTER, LOWER, NEWLINE, NUMBER, SPACE, SYMBOL, UPPER};
use crate::run::Rule;
use crate::split::Scanner;

/// What a character is to the three patterns; the first that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `\p{N}`
    Number,
    /// `[一-龥぀-ゟ゠-ヿ]`
    Apart,
    /// `[\p{L}\p{M}]`
    Word,
    /// `[\p{P}\p{S}]`
    Symbol,
    /// `\s`
    Space,
    /// The rest: controls and what Unicode does not name.
    Other,
}

impl Kind {
    /// The kind of a character by its number and flags.
    pub fn of(code: u32, flags: u8) -> Self {
        if flags & NUMBER != 0 {
            Self::Number
        } else if matches!(code, 0x4E00..=0x9FA5 | 0x3040..=0x30FF) {
            Self::Apart
        } else if flags & (LETTER | UPPER | LOWER) != 0 {
            Self::Word
        } else if flags & SYMBOL != 0 {
            Self::Symbol
        } else if flags & SPACE != 0 {
            Self::Space
        } else {
            Self::Other
        }
    }

    fn at(at: At) -> Self {
        Self::of(at.code, at.flags)
    }
}

impl Scanner<'_> {
    /// The end of the piece that starts at `start`.
    pub fn segment(&mut self, start: usize, first: At) -> usize {
        match Kind::at(first) {
            Kind::Number => self.digits(first),
            Kind::Apart => self.kinds(start, Kind::Apart, Rule::Apart),
            Kind::Word => self.kinds(start, Kind::Word, Rule::Marked),
            Kind::Symbol => self.symbols_of_segment(start, first),
            Kind::Space if !first.is(NEWLINE) => match self.kind_at(first.next) {
                Some(Kind::Word) => self.kinds(first.next, Kind::Word, Rule::Marked),
                Some(Kind::Symbol) if first.equals(b' ') => self.symbols_and_newlines(first.next),
                _ => self.space_of_segment(start),
            },
            Kind::Space => self.space_of_segment(start),
            Kind::Other => self.others(first),
        }
    }

    fn kind_at(&mut self, index: usize) -> Option<Kind> {
        self.at(index).map(Kind::at)
    }

    /// The end of the longest run, from `index`, of characters of one kind.
    fn kinds(&mut self, mut index: usize, kind: Kind, rule: Rule) -> usize {
        while let Some(at) = self.at(index) {
            if Kind::at(at) != kind {
                return index;
            }
            index = at.next;
        }
        self.endless = Some(rule);
        index
    }

    /// ``[!-/:-@\[-`{-~][A-Za-z]+`` or ` ?[\p{P}\p{S}]+[\r\n]*`
    fn symbols_of_segment(&mut self, start: usize, first: At) -> usize {
        let is_plain = |at: &At| char::from_u32(at.code).is_some_and(|c| c.is_ascii_alphabetic());
        if first.code >= 0x80 || !self.at(first.next).as_ref().is_some_and(is_plain) {
            return self.symbols_and_newlines(start);
        }
        let mut end = first.next;
        while let Some(at) = self.at(end) {
            if !is_plain(&at) {
                return end;
            }
            end = at.next;
        }
        self.endless = Some(Rule::Plain);
        end
    }

    fn symbols_and_newlines(&mut self, from: usize) -> usize {
        let mut end = self.kinds(from, Kind::Symbol, Rule::Symbols);
        if self.endless.is_some() {
            return end;
        }
        let symbols_end = end;
        while let Some(at) = self.at(end) {
            if !at.is(NEWLINE) {
                return end;
            }
            end = at.next;
        }
        self.endless = (end > symbols_end).then_some(Rule::Newlines);
        end
    }

    /// `\s*[\r\n]+|\s+(?!\S)|\s+`, where the text ends at the next number or Chinese.
    fn space_of_segment(&mut self, start: usize) -> usize {
        let mut end = start;
        let mut last_start = start;
        let mut after_newline = None;
        let behind = loop {
            let Some(at) = self.at(end) else { break None };
            let kind = Kind::at(at);
            if kind != Kind::Space {
                break Some(kind);
            }
            last_start = end;
            end = at.next;
            if at.is(NEWLINE) {
                after_newline = Some(end);
            }
        };
        self.endless = behind.is_none().then_some(Rule::Space);
        let at_end = matches!(behind, None | Some(Kind::Number | Kind::Apart));
        match after_newline {
            Some(after) => after,
            None if at_end || last_start == start => end,
            None => last_start,
        }
    }

    /// What no alternative matches, up to where one does: a word may begin with one such character.
    fn others(&mut self, first: At) -> usize {
        let mut end = first.next;
        if self.kind_at(end) == Some(Kind::Word) {
            return self.kinds(end, Kind::Word, Rule::Marked);
        }
        while let Some(at) = self.at(end) {
            if Kind::at(at) != Kind::Other || self.kind_at(at.next) == Some(Kind::Word) {
                return end;
            }
            end = at.next;
        }
        self.endless = Some(Rule::Other);
        end
    }
}
