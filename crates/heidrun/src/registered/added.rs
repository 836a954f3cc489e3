//! Tokens that are found in the text before it is cut into pieces.

use aho_corasick::{AhoCorasick, MatchKind};

use super::file::AddedToken;
use super::FileError;

const TOKENS_MAX: usize = 4_096;
const BYTES_MAX: usize = 255;

/// The added tokens of one file.
#[derive(Default)]
pub struct Added {
    finder: Option<AhoCorasick>,
    contents: Vec<String>,
    longest: usize,
}

/// What a look for added tokens found in a text that may go on.
pub struct Cut {
    /// Where the first added token starts, and where it ends; it stands whatever follows.
    pub found: Option<(usize, usize)>,
    /// There is one, but a longer one may take its place.
    pub pending: bool,
    /// If none was found: where a part of the text begins that may yet become one.
    pub open: usize,
}

impl Added {
    /// The tokens of a file with or without a normalizer, that composes characters or does not.
    pub fn build(
        tokens: Vec<AddedToken>,
        has_normalizer: bool,
        composes: bool,
    ) -> Result<Self, FileError> {
        if tokens.len() > TOKENS_MAX {
            return Err(FileError::new("added_tokens", "must be at most 4096"));
        }
        for (at, token) in tokens.iter().enumerate() {
            let refused = |name: &str, rule: &str| {
                Err(FileError::new(format!("added_tokens[{at}].{name}"), rule))
            };
            if token.single_word {
                return refused("single_word", "is not supported");
            }
            if token.lstrip || token.rstrip {
                return refused("lstrip or rstrip", "is not supported");
            }
            if token.normalized && has_normalizer {
                return refused("normalized", "is not supported beside a normalizer");
            }
            if token.content.is_empty() || token.content.len() > BYTES_MAX {
                return refused("content", "must be 1 to 255 bytes");
            }
            // So that composing can neither make nor break one: some characters become `K`, `;` or "`".
            if composes
                && token
                    .content
                    .contains(|c: char| !c.is_ascii() || "K;`".contains(c))
            {
                return refused("content", "has a character that is not supported there");
            }
        }
        let contents: Vec<String> = tokens.into_iter().map(|token| token.content).collect();
        let finder = if contents.is_empty() {
            None
        } else {
            let built = AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .build(&contents)
                .map_err(|error| FileError::new("added_tokens", error.to_string()))?;
            Some(built)
        };
        Ok(Self {
            finder,
            longest: contents.iter().map(String::len).max().unwrap_or(0),
            contents,
        })
    }

    /// Bytes of the longest.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// The ranges of the added tokens in a whole text.
    pub fn find<'t>(&'t self, text: &'t str) -> impl Iterator<Item = (usize, usize)> + 't {
        self.finder
            .iter()
            .flat_map(move |finder| finder.find_iter(text))
            .map(|found| (found.start(), found.end()))
    }

    /// The first added token of a text that may go on.
    pub fn cut(&self, text: &str) -> Cut {
        let open = self.open(text);
        let found = self.find(text).next();
        match found {
            // A part that starts before it, or a longer one that starts with it, would take its place.
            Some((start, _)) if open <= start => Cut {
                found: None,
                pending: true,
                open,
            },
            _ => Cut {
                found,
                pending: false,
                open,
            },
        }
    }

    /// Where the earliest end of `text` starts that is a beginning of an added token and not all of one.
    fn open(&self, text: &str) -> usize {
        let from = text.len().saturating_sub(self.longest.saturating_sub(1));
        (from..text.len())
            .filter(|&start| text.is_char_boundary(start))
            .find(|&start| {
                let end = &text[start..];
                self.contents
                    .iter()
                    .any(|token| token.len() > end.len() && token.starts_with(end))
            })
            .unwrap_or(text.len())
    }
}
