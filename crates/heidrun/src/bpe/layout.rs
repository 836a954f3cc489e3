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

/// Two tokens as one number.
#[inline]
pub const fn pair(left: u32, right: u32) -> u64 {
    (left as u64) << TOKEN_BITS | right as u64
}

/// No token has this number.
pub const NO_TOKEN: u32 = (1 << TOKEN_BITS) - 1;

// The table of pairs is a hash table without a search: of a few keys that share a pilot, the pilot was chosen so that each
// has a slot of its own. So a look is two reads, whatever it finds, and no jump.

/// Two tokens as a slot of `pairs` has them, above the token that they merge to.
#[inline]
pub const fn pair_key(left: u32, right: u32) -> u64 {
    pair(left, right) << PAIR_SHIFT
}

/// Where the two start in a slot. Below them there is room for a token as [`merge_to`] has it.
pub const PAIR_SHIFT: u32 = 64 - 2 * TOKEN_BITS;
/// A slot of `pairs` that is not taken. Nobody looks for these two.
pub const NO_PAIR: u64 = pair_key(NO_TOKEN - 1, NO_TOKEN);
/// Slots of `pairs` to a pilot.
pub const SLOTS_A_PILOT: usize = 4;

/// The hash of two tokens.
#[inline]
pub const fn hash_pair(left: u32, right: u32) -> u64 {
    pair(left, right).wrapping_mul(SPREAD)
}

/// The pilot, of a power of two of them, for a hash of two tokens.
#[inline]
pub const fn pilot_of(hash: u64, pilots: usize) -> usize {
    upper(hash, pilots)
}

/// The slot, of a power of two of them, for a hash of two tokens.
#[inline]
pub const fn slot_of(hash: u64, pilot: u8, slots: usize) -> usize {
    /// Another multiplier, for bits that have nothing to do with those that chose the pilot.
    const SPREAD_AGAIN: u64 = 0xD6E8_FEB8_6659_FD93;
    upper(
        (hash ^ (pilot as u64) << 32).wrapping_mul(SPREAD_AGAIN),
        slots,
    )
}

/// Upper bits of a hash that are a place among `places`, a power of two up to 2²¹.
#[inline]
#[allow(clippy::cast_possible_truncation)] // meant
const fn upper(hash: u64, places: usize) -> usize {
    (hash >> 43) as usize & (places - 1)
}

/// Bits of a place in a piece that is merged.
pub const PLACE_BITS: u32 = 5;
/// Merges start with this: then they are, as the bits of an `f32`, ordinary numbers in the same order.
pub const MERGES: u32 = 0x3F80_0000;
/// No merge: as a number beyond all others, with [`NO_TOKEN`] and the last place.
pub const NO_MERGE: u32 = merge_to(NO_TOKEN, (1 << PLACE_BITS) - 1);

/// The merge to a token, of the part that starts at a place with the next one. Of two, the lower goes first: tokens are
/// numbered by rank, and of equal ones the first goes first.
#[inline]
pub const fn merge_to(token: u32, place: u32) -> u32 {
    MERGES + (token << PLACE_BITS | place)
}

/// The bit, in a slot of the trie, of a child by `byte`. Several bytes share one.
#[inline]
pub const fn child_bit(byte: u8) -> u64 {
    1 << (CHILDREN_SHIFT + (byte & 15) as u32)
}
