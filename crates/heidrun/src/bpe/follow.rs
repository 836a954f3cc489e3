//! The count of a piece that grows byte by byte.

use super::layout::TOKEN_BYTES_MAX;
use super::{Node, Vocabulary};

const RING: usize = TOKEN_BYTES_MAX + 1;

/// Counts a growing piece, exact after each byte and in time that does not depend on its length.
///
/// The last token of a text's encoding is the only one that ends there and is compatible with the last token of the text
/// before it. So it is enough to know, for as many bytes back as a token can be long, the last token and the count; and
/// which tokens are under way from each of these places.
#[derive(Clone)]
pub struct Follower {
    /// By place modulo `RING`: the last token and the count of the text up to there.
    reached: Vec<(u32, usize)>,
    /// The places where a token may have started, and how far in the trie it has come.
    under_way: Vec<(usize, Node)>,
    /// Bytes so far.
    bytes: usize,
}

impl Follower {
    /// A follower of the empty piece.
    pub fn new() -> Self {
        Self {
            reached: vec![(0, 0); RING],
            under_way: Vec::new(),
            bytes: 0,
        }
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        self.reached[0] = (0, 0);
        self.under_way.clear();
        self.bytes = 0;
    }

    /// Appends one byte.
    pub fn push(&mut self, vocabulary: &Vocabulary<'_>, byte: u8) {
        let end = self.bytes + 1;
        let mut found = None;
        let reached = &self.reached;
        self.under_way.push((self.bytes, Node::ROOT));
        self.under_way.retain_mut(|(start, node)| {
            let Some(child) = vocabulary.child(*node, byte) else {
                return false;
            };
            *node = child;
            if let (None, Some(token)) = (found, child.token()) {
                let (last, count) = reached[*start % RING];
                if *start == 0 || vocabulary.compatible(last, token, false) {
                    found = Some((token, count + 1));
                }
            }
            true
        });
        // Every byte is a token of a vocabulary that is followed, so that something always ends here.
        self.reached[end % RING] = found.unwrap_or_default();
        self.bytes = end;
    }

    /// Tokens of all bytes so far.
    pub fn count(&self) -> usize {
        self.reached[self.bytes % RING].1
    }
}
