// How a vocabulary lies in its tables. A token's number is its rank: the order in which
// byte-pair encoding merges.

/// Bits of a token's number, or of one more than it where zero means none.
pub const TOKEN_BITS: u32 = 19;
/// Bits of a base in a slot of the trie.
pub const BASE_BITS: u32 = 20;
/// A slot of the trie that is not taken: no label, which has 8 bits, equals the lower 9 of it.
pub const FREE: u64 = 1 << 8;
/// The label of a slot of the trie, and [`FREE`].
#[allow(dead_code)] // of no use where the tables are made
pub const LABEL_MASK: u64 = (1 << 9) - 1;
/// Where the token, plus one, starts in a slot of the trie.
pub const VALUE_SHIFT: u32 = 9;
/// Where the 16 bits of the children start in a slot of the trie.
pub const CHILDREN_SHIFT: u32 = VALUE_SHIFT + TOKEN_BITS;
/// Where the base starts in a slot of the trie; there is nothing above it.
pub const BASE_SHIFT: u32 = u64::BITS - BASE_BITS;
/// Bits of the lowest rank of the pairs that a token is in, in an entry of `splits`.
pub const LOWEST_BITS: u32 = 13;
/// A lowest rank is told without so many of its bits.
pub const LOWEST_SHIFT: u32 = TOKEN_BITS - LOWEST_BITS;
/// Where an entry of `splits` has the lowest rank of the pairs whose left token it is; there are only ones, if there is none.
pub const AS_LEFT_SHIFT: u32 = 2 * TOKEN_BITS;
/// Where it has the same of those whose right token it is.
pub const AS_RIGHT_SHIFT: u32 = AS_LEFT_SHIFT + LOWEST_BITS;
/// The lowest rank that no pair has.
pub const NO_RANK: u32 = ((1 << LOWEST_BITS) - 1) << LOWEST_SHIFT;
/// The most bytes a token can have.
pub const TOKEN_BYTES_MAX: usize = 255;

/// A multiplier that spreads keys over their upper bits (2⁶⁴ divided by the golden ratio).
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// The hash of two tokens.
#[inline]
pub const fn hash_pair(left: u32, right: u32) -> u64 {
    let key = (left as u64) << 32 | right as u64;
    (key ^ key >> 15).wrapping_mul(SPREAD)
}

/// The hash of up to 8 bytes.
#[inline]
pub const fn hash_short(key: u64) -> u64 {
    (key ^ key >> 32).wrapping_mul(SPREAD)
}

/// The lower 64 bits.
#[inline]
#[allow(clippy::cast_possible_truncation)] // meant
pub const fn low_half(key: u128) -> u64 {
    key as u64
}

/// The hash of up to 16 bytes.
#[inline]
pub const fn hash_medium(key: u128) -> u64 {
    hash_short(low_half(key).wrapping_mul(SPREAD) ^ low_half(key >> 64))
}

/// The slot, of `slots`, where the search for a hash starts.
#[inline]
#[allow(clippy::cast_possible_truncation)] // below `slots`
pub const fn home(hash: u64, slots: usize) -> usize {
    ((hash >> 32).wrapping_mul(slots as u64) >> 32) as usize // no product of 32 bits wraps
}

/// Two tokens as a slot of `pairs` has them, above the token plus one that they merge to. A slot that is zero is free.
#[inline]
pub const fn pair(left: u32, right: u32) -> u64 {
    (left as u64) << TOKEN_BITS | right as u64
}

/// Pairs of bytes below 0x80.
pub const ASCII_PAIRS: usize = 1 << 14;

/// The place of such a pair.
#[inline]
pub const fn ascii_pair(left: u8, right: u8) -> usize {
    (left as usize) << 7 | right as usize
}

/// The bit, in a slot of the trie, of a child by `byte`. Several bytes share one.
#[inline]
pub const fn child_bit(byte: u8) -> u64 {
    1 << (CHILDREN_SHIFT + (byte & 15) as u32)
}
