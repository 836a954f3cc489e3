//! A long run at the end of a growing text, counted character by character.
//!
//! Most pieces are a few bytes long, and the open text behind the last settled one is scanned anew with each part. A run
//! of thousands of letters, spaces or symbols would make that quadratic, and a provider could send one on purpose. While
//! a run goes on, nothing before its end can change but where its last piece is cut, so it is followed instead.

use crate::bpe::{Follower, Vocabulary};
use crate::class::{class_of, LETTER, LOWER, NEWLINE, NUMBER, SPACE, UPPER};
use crate::rules::{Rules, Word};
use crate::segments::Kind;

/// What the scanner was reading when the text ended, if that may go on for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// `\p{L}+` of cl100k.
    Letters,
    /// `U*` of o200k, with no lower-case letter yet: if the text ends here, the word ends at the last character that may
    /// be a lower-case letter, and a second word begins.
    Word,
    /// `W+` of o200k.
    Lower,
    /// `\p{N}+` of GPT-2.
    Numbers,
    /// `[^\s\p{L}\p{N}]+`; of `DeepSeek` `[\p{P}\p{S}]+`.
    Symbols,
    /// What may follow symbols: newlines, and for o200k slashes.
    Newlines,
    /// `[A-Za-z]+` of `DeepSeek`, behind a symbol.
    Plain,
    /// `[\p{L}\p{M}]+` of `DeepSeek`.
    Marked,
    /// Chinese and kana of `DeepSeek`.
    Apart,
    /// What no rule of `DeepSeek` is for.
    Other,
    /// `\s+`; of o200k, if the text ends here, a piece ends at the last newline.
    Space,
}

/// What a character does to a run.
#[derive(Clone, Copy)]
enum Step {
    /// It belongs to it.
    Goes(Rule),
    /// It belongs to it, and if the text ends here, a piece may end behind it.
    Marks(Rule),
    /// It does not.
    Ends,
}

/// The run and its tokens.
#[derive(Clone)]
pub struct Run {
    rules: Rules,
    rule: Rule,
    whole: Follower,
    /// Bytes so far.
    bytes: usize,
    /// The place of the last mark, the tokens up to it, and the follower of what comes after it.
    marked: Option<(usize, usize, Follower)>,
}

impl Run {
    /// The run that is all of `open`, which the scanner was reading by `rule` when the text ended.
    pub fn new(vocabulary: &Vocabulary<'_>, rules: Rules, rule: Rule, open: &str) -> Self {
        let mut run = Self {
            rules,
            rule,
            whole: Follower::new(),
            bytes: 0,
            marked: None,
        };
        for character in open.chars() {
            // What stands before a word or symbols is part of the piece, though not of the run.
            let step = run.step(character);
            run.take(
                vocabulary,
                character,
                if matches!(step, Step::Ends) {
                    Step::Goes(rule)
                } else {
                    step
                },
            );
        }
        run
    }

    /// Takes all of `delta`, or returns false when it leaves the run; the run is then of no further use.
    pub fn push(&mut self, vocabulary: &Vocabulary<'_>, delta: &str) -> bool {
        for character in delta.chars() {
            let step = self.step(character);
            if matches!(step, Step::Ends) {
                return false;
            }
            self.take(vocabulary, character, step);
        }
        true
    }

    /// Tokens of the run, were the text to end here.
    pub fn tokens(&self) -> usize {
        match &self.marked {
            Some((_, head, rest)) => head + rest.count(),
            None => self.whole.count(),
        }
    }

    /// Where the run is cut in two pieces, were the text to end here.
    pub fn cut(&self) -> Option<usize> {
        self.marked.as_ref().map(|&(place, ..)| place)
    }

    fn step(&self, character: char) -> Step {
        let flags = class_of(character);
        let is = |wanted: u8| flags & wanted != 0;
        if self.rules.word == Word::Segments {
            return self.step_of_segments(character, flags);
        }
        match self.rule {
            Rule::Numbers if is(NUMBER) => Step::Goes(Rule::Numbers),
            Rule::Letters if is(LETTER) => Step::Goes(Rule::Letters),
            Rule::Word if is(UPPER) && is(LOWER) => Step::Marks(Rule::Word),
            Rule::Word if is(UPPER) => Step::Goes(Rule::Word),
            Rule::Word | Rule::Lower if is(LOWER) => Step::Goes(Rule::Lower),
            Rule::Symbols if !is(SPACE | LETTER | NUMBER) => Step::Goes(Rule::Symbols),
            Rule::Symbols | Rule::Newlines
                if is(NEWLINE) && self.rules.word != Word::AfterSpace =>
            {
                Step::Goes(Rule::Newlines)
            }
            Rule::Newlines if self.rules.newlines_slash && character == '/' => {
                Step::Goes(Rule::Newlines)
            }
            Rule::Space if !self.rules.trailing_space_whole && is(NEWLINE) => {
                Step::Marks(Rule::Space)
            }
            Rule::Space if is(SPACE) => Step::Goes(Rule::Space),
            _ => Step::Ends,
        }
    }

    fn step_of_segments(&self, character: char, flags: u8) -> Step {
        let kind = Kind::of(character.into(), flags);
        match (self.rule, kind) {
            (Rule::Plain, Kind::Word) if character.is_ascii() => Step::Goes(Rule::Plain),
            (Rule::Marked, Kind::Word) => Step::Goes(Rule::Marked),
            (Rule::Symbols, Kind::Symbol) => Step::Goes(Rule::Symbols),
            (Rule::Symbols | Rule::Newlines, Kind::Space) if flags & NEWLINE != 0 => {
                Step::Goes(Rule::Newlines)
            }
            (Rule::Space, Kind::Space) if flags & NEWLINE != 0 => Step::Marks(Rule::Space),
            (Rule::Space, Kind::Space) => Step::Goes(Rule::Space),
            (Rule::Apart, Kind::Apart) => Step::Goes(Rule::Apart),
            (Rule::Other, Kind::Other) => Step::Goes(Rule::Other),
            _ => Step::Ends,
        }
    }

    fn take(&mut self, vocabulary: &Vocabulary<'_>, character: char, step: Step) {
        let mut buffer = [0; 4];
        let bytes = character.encode_utf8(&mut buffer).bytes();
        for byte in bytes.clone() {
            self.whole.push(vocabulary, byte);
        }
        self.bytes += character.len_utf8();
        match step {
            Step::Marks(rule) => {
                self.rule = rule;
                let empty = Follower::new();
                self.marked = Some((self.bytes, self.whole.count(), empty));
            }
            Step::Goes(rule) => {
                if rule != self.rule {
                    // A lower-case letter behind `U*`: the word is whole again.
                    self.rule = rule;
                    self.marked = None;
                }
                if let Some((.., rest)) = &mut self.marked {
                    for byte in bytes {
                        rest.push(vocabulary, byte);
                    }
                }
            }
            Step::Ends => {}
        }
    }
}
