//! Which vocabulary a model's tokens are counted with.

use crate::bpe::Vocabulary;
use crate::rules::{Rules, Word};

/// A vocabulary with its rule for splitting text into pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `GPT-4`, `GPT-3.5` and the embedding models.
    Cl100kBase,
    /// `GPT-4o`, `o1` and all later models.
    O200kBase,
}

/// The encoding of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodingChoice {
    /// What to count with.
    pub encoding: Encoding,
    /// True if the model is unknown, so that the count is an estimate.
    pub fallback: bool,
}

/// First match wins, so a longer prefix stands before the shorter one it begins with. The table of `tiktoken` 0.14
/// (`tiktoken/model.py`), with `-` left off where no other model could be meant. `gpt-oss` counts with `o200k_harmony`,
/// which differs from `o200k_base` only in special tokens, and those are never counted here.
const PREFIXES: [(&str, Encoding); 17] = [
    ("o200k_base", Encoding::O200kBase),
    ("cl100k_base", Encoding::Cl100kBase),
    ("o1", Encoding::O200kBase),
    ("o3", Encoding::O200kBase),
    ("o4-mini", Encoding::O200kBase),
    ("chatgpt-4o-", Encoding::O200kBase),
    ("gpt-5", Encoding::O200kBase),
    ("gpt-4o", Encoding::O200kBase),
    ("gpt-4.1", Encoding::O200kBase),
    ("gpt-4.5", Encoding::O200kBase),
    ("gpt-oss", Encoding::O200kBase),
    ("gpt-4", Encoding::Cl100kBase),
    ("gpt-3.5", Encoding::Cl100kBase),
    ("gpt-35-", Encoding::Cl100kBase),
    ("text-embedding-", Encoding::Cl100kBase),
    ("davinci-002", Encoding::Cl100kBase),
    ("babbage-002", Encoding::Cl100kBase),
];

/// The encoding of a model, or of an encoding's own name; `o200k_base` as the fallback for a model nobody here knows.
#[must_use]
pub fn encoding_for(model: &str) -> EncodingChoice {
    // A fine-tuned model counts as its base.
    let base = model.strip_prefix("ft:").unwrap_or(model);
    PREFIXES
        .iter()
        .find(|(prefix, _)| base.starts_with(prefix))
        .map_or(
            EncodingChoice {
                encoding: Encoding::O200kBase,
                fallback: true,
            },
            |&(_, encoding)| EncodingChoice {
                encoding,
                fallback: false,
            },
        )
}

impl Encoding {
    /// The public name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cl100kBase => "cl100k_base",
            Self::O200kBase => "o200k_base",
        }
    }

    /// The pattern of `tiktoken` 0.14 (`tiktoken_ext/openai_public.py`).
    pub(crate) const fn rules(self) -> Rules {
        match self {
            Self::Cl100kBase => Rules {
                word: Word::Letters,
                digits_max: 3,
                newlines_slash: false,
                trailing_space_whole: true,
            },
            Self::O200kBase => Rules {
                word: Word::Cased { contraction: true },
                digits_max: 3,
                newlines_slash: true,
                trailing_space_whole: false,
            },
        }
    }

    /// The vocabulary.
    pub(crate) const fn vocabulary(self) -> Vocabulary<'static> {
        match self {
            Self::Cl100kBase => CL100K_BASE,
            Self::O200kBase => O200K_BASE,
        }
    }
}

#[cfg(target_endian = "big")]
compile_error!("the embedded tables are laid out with the lowest byte first");

/// A table of the program's image, as numbers that lie where the processor wants them.
macro_rules! table {
    ($name:literal, $number:ty) => {{
        const BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/", $name));
        const COUNT: usize = BYTES.len() / size_of::<$number>();
        static TABLE: [$number; COUNT] =
            zerocopy::transmute!(*include_bytes!(concat!(env!("OUT_DIR"), "/", $name)));
        &TABLE
    }};
}

static CL100K_BASE: Vocabulary<'static> = Vocabulary {
    trie: table!("cl100k_base.trie", u64),
    splits: table!("cl100k_base.splits", u64),
    pairs: table!("cl100k_base.pairs", u64),
    pilots: include_bytes!(concat!(env!("OUT_DIR"), "/cl100k_base.pilots")),
    twos: table!("cl100k_base.twos", u32),
    shorter: table!("cl100k_base.shorter", u32),
    short: table!("cl100k_base.short", u64),
    medium: table!("cl100k_base.medium", u128),
};

static O200K_BASE: Vocabulary<'static> = Vocabulary {
    trie: table!("o200k_base.trie", u64),
    splits: table!("o200k_base.splits", u64),
    pairs: table!("o200k_base.pairs", u64),
    pilots: include_bytes!(concat!(env!("OUT_DIR"), "/o200k_base.pilots")),
    twos: table!("o200k_base.twos", u32),
    shorter: table!("o200k_base.shorter", u32),
    short: table!("o200k_base.short", u64),
    medium: table!("o200k_base.medium", u128),
};
