//! Lays out the embedded vocabularies and the character classes, so that the program reads them from its own image.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::prelude::{Engine as _, BASE64_STANDARD};

#[path = "src/class_layout.rs"]
mod class_layout;
#[path = "src/bpe/lay_out.rs"]
mod lay_out;
#[path = "src/bpe/layout.rs"]
mod layout;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=data");
    println!("cargo:rerun-if-changed=src/bpe/layout.rs");
    println!("cargo:rerun-if-changed=src/bpe/lay_out.rs");
    println!("cargo:rerun-if-changed=src/class_layout.rs");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for name in ["o200k_base", "cl100k_base"] {
        let tokens = tokens(&Path::new("data").join(format!("{name}.tiktoken.gz")));
        let splits = splits_of_ranks(&tokens);
        let tables =
            lay_out::lay_out(&tokens, &splits, false).expect("an embedded vocabulary fits");
        let write = |table: &str, bytes: Vec<u8>| {
            fs::write(out.join(format!("{name}.{table}")), bytes).expect("OUT_DIR is writable");
        };
        write("trie", bytes(&tables.trie, u64::to_le_bytes));
        write("splits", bytes(&tables.splits, u64::to_le_bytes));
        write("pairs", bytes(&tables.pairs, u64::to_le_bytes));
        write("pilots", tables.pilots);
        write("twos", bytes(&tables.twos, u32::to_le_bytes));
        write("shorter", bytes(&tables.shorter, u32::to_le_bytes));
        write("short", bytes(&tables.short, u64::to_le_bytes));
        write("medium", bytes(&tables.medium, u128::to_le_bytes));
    }
    fs::write(out.join("classes"), class_layout::classes()).expect("OUT_DIR is writable");
}

fn bytes<Entry: Copy, const BYTES: usize>(
    entries: &[Entry],
    of: impl Fn(Entry) -> [u8; BYTES],
) -> Vec<u8> {
    entries.iter().flat_map(|&entry| of(entry)).collect()
}

/// The tokens of a rank file in the order of their ranks.
fn tokens(path: &Path) -> Vec<Vec<u8>> {
    let packed = fs::File::open(path).expect("the vocabulary is part of the crate");
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed)
        .read_to_string(&mut text)
        .expect("the vocabulary is whole");
    let mut tokens = Vec::new();
    for line in text.lines() {
        let (token, rank) = line.split_once(' ').expect("a token and its rank");
        assert_eq!(rank.parse(), Ok(tokens.len()), "ranks without a gap");
        tokens.push(BASE64_STANDARD.decode(token).expect("a token in base64"));
    }
    tokens
}

/// The splits of a vocabulary that is told by ranks alone, where any two neighbours merge whose bytes are a token: of each
/// token the last merge by which encoding its own bytes makes it. In no text is it made by another, for what happens
/// inside a token's bytes before it is whole is the same in every text.
fn splits_of_ranks(tokens: &[Vec<u8>]) -> Vec<Option<(u32, u32)>> {
    let ranks: HashMap<&[u8], u32> = tokens.iter().map(Vec::as_slice).zip(0..).collect();
    (0..)
        .zip(tokens)
        .map(|(rank, token)| {
            if token.len() == 1 {
                return Some((rank, rank));
            }
            // The borders between the parts.
            let mut borders: Vec<usize> = (0..=token.len()).collect();
            loop {
                let best = borders
                    .windows(3)
                    .enumerate()
                    .filter_map(|(at, window)| {
                        let joined = &token[window[0]..window[2]];
                        ranks.get(joined).map(|&rank| (rank, at))
                    })
                    .min();
                let (_, at) = best?;
                if borders.len() == 3 {
                    return Some((ranks[&token[..borders[1]]], ranks[&token[borders[1]..]]));
                }
                borders.remove(at + 1);
            }
        })
        .collect()
}
