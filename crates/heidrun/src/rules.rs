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
    /// GPT-2: `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+`, with ` ?\p{N}+` and ` ?[^\s\p{L}\p{N}]+` after it, and no rule for
    /// newlines.
    AfterSpace,
    /// `DeepSeek` since V3, in `segments`: numbers first, then Chinese and kana, then each rest by itself.
    Segments,
}

/// The rules of GPT-2, which are also those of a `ByteLevel` pre-tokenizer by itself.
pub const GPT_2: Rules = Rules {
    word: Word::AfterSpace,
    digits_max: u8::MAX,
    newlines_slash: false,
    trailing_space_whole: true,
};

/// The rules of `DeepSeek` V3, and the three patterns that split one after the other.
pub const SEGMENTS: (Rules, [&str; 3]) = (
    Rules {
        word: Word::Segments,
        digits_max: 3,
        newlines_slash: false,
        trailing_space_whole: false,
    },
    [
        r"\p{N}{1,3}",
        "[一-龥\u{3040}-ゟ゠-ヿ]+",
        "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
    ],
);

/// The patterns of `tokenizer.json` files, as they are written there.
const PATTERNS: [(&str, Rules); 5] = [
    (
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        GPT_2,
    ),
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
