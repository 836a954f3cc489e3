//! How text is cut into pieces: the patterns that models are trained with, as the few choices in which they differ.

/// One pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What a word is.
    pub word: Word,
    /// `\p{N}{1,digits_max}`
    pub digits_max: u8,
    /// Symbols go on in newlines: `[\r\n]*`, or with this `[\r\n/]*`.
    pub newlines_slash: bool,
    /// Space at the end of the text is one piece, with its newlines: `\s++$`.
    pub trailing_space_whole: bool,
}

/// The shapes of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+`
    Letters,
    /// `[^\r\n\p{L}\p{N}]?U*W+C?|[^\r\n\p{L}\p{N}]?U+W*C?`, with U = `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`,
    /// W = `[\p{Ll}\p{Lm}\p{Lo}\p{M}]` and C the contraction, if there is one.
    Cased {
        /// Whether there is.
        contraction: bool,
    },
}

/// The patterns of `tokenizer.json` files, as they are written there.
const PATTERNS: [(&str, Rules); 4] = [
    // Llama 3.
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Rules {
            word: Word::Letters,
            digits_max: 3,
            newlines_slash: false,
            trailing_space_whole: false,
        },
    ),
    // Qwen 2 to 3.
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Rules {
            word: Word::Letters,
            digits_max: 1,
            newlines_slash: false,
            trailing_space_whole: false,
        },
    ),
    // gpt-oss, Llama 4, Phi 4.
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Rules {
            word: Word::Cased { contraction: true },
            digits_max: 3,
            newlines_slash: true,
            trailing_space_whole: false,
        },
    ),
    // Mistral since Nemo.
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Rules {
            word: Word::Cased { contraction: false },
            digits_max: 1,
            newlines_slash: true,
            trailing_space_whole: false,
        },
    ),
];

impl Rules {
    /// The rules of a pattern, if it is one of those known here.
    pub fn of_pattern(pattern: &str) -> Option<Self> {
        PATTERNS
            .iter()
            .find(|(known, _)| *known == pattern)
            .map(|&(_, rules)| rules)
    }
}
