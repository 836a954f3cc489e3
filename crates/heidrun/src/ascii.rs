//! The pieces of plain ASCII text, which is most text: the rules of `split`, where they need to look at nothing else.

use wide::u8x16;

use crate::class::{CLASS_OF_BYTE, FOREIGN, LETTER, NEWLINE, NUMBER, SPACE};
use crate::rules::{Rules, Word};

/// What a look at plain ASCII says of a piece.
#[derive(Clone, Copy)]
pub enum Look {
    /// Where it ends. That is settled: no text appended could change it.
    Ends(usize),
    /// It is a word, with lower-case letters at last, that may go on with the character here, which is above 0x7F.
    GoesOn(usize),
    /// Finding its end needs a look beyond the text, or at characters above 0x7F.
    Unknown,
}

/// Looks at the piece that starts at `start`; `split` does what is left.
#[inline(always)]
#[allow(clippy::inline_always)] // likewise: its caller may know the rules
pub fn look(rules: Rules, text: &[u8], start: usize) -> Look {
    if matches!(rules.word, Word::AfterSpace | Word::Segments) {
        return Look::Unknown;
    }
    if let Some(bytes) = text.get(start..).and_then(|rest| rest.first_chunk()) {
        let space = usize::from(bytes[0] == b' ');
        // In most alphabets nearly every word is not for here.
        if text[start + space] >= 0x80 {
            return Look::Unknown;
        }
        if let Some(look) = word(rules, text, start, space, *bytes) {
            return look;
        }
    }
    any_piece_end(rules, text, start).map_or(Look::Unknown, Look::Ends)
}

/// Bytes that are looked at together.
const TOGETHER: usize = 16;

/// A bit for each byte that is `a` to `z`, or with `caseless` any letter; the first byte has the lowest.
#[inline]
fn letters(bytes: [u8; TOGETHER], caseless: bool) -> u32 {
    let bytes = u8x16::new(bytes);
    let folded = if caseless {
        bytes | u8x16::splat(0x20)
    } else {
        bytes
    };
    let from_a = folded - u8x16::splat(b'a');
    from_a
        .simd_eq(from_a.min(u8x16::splat(b'z' - b'a')))
        .to_bitmask()
}

/// The piece that starts at `start`, if it is a word, with `space` before it, 0 or 1: `bytes` are those from there on. Most
/// pieces are that.
#[inline(always)]
#[allow(clippy::inline_always)] // likewise
fn word(
    rules: Rules,
    text: &[u8],
    start: usize,
    space: usize,
    bytes: [u8; TOGETHER],
) -> Option<Look> {
    // The first letter may be a capital, and with some rules any.
    let cased = matches!(rules.word, Word::Cased { .. });
    let first = text[start + space];
    let letter = (first | 0x20).wrapping_sub(b'a') <= b'z' - b'a';
    let letters = letters(bytes, !cased) >> space | u32::from(letter);
    let length = letters.trailing_ones() as usize;
    if length == 0 {
        return None;
    }
    let end = if space + length < TOGETHER {
        start + space + length
    } else {
        letters_end(text, start + TOGETHER, !cased)
    };
    let next = *text.get(end)?;
    // A word of capitals, or a contraction: those take more than one look.
    let capital = cased && length == 1 && first & 0x20 == 0;
    if next >= 0x80 {
        return Some(if capital {
            Look::Unknown
        } else {
            Look::GoesOn(end)
        });
    }
    let plain = !cased || next != b'\'' && !(length == 1 && next & 0x40 != 0);
    plain.then_some(Look::Ends(end))
}

fn any_piece_end(rules: Rules, text: &[u8], start: usize) -> Option<usize> {
    let first = *text.get(start)?;
    let class = CLASS_OF_BYTE[usize::from(first)];
    if class & LETTER != 0 {
        return word_end(rules, text, start);
    }
    if class & (FOREIGN | NEWLINE | NUMBER) == 0 {
        // One character that is neither may stand before a word.
        let next = *text.get(start + 1)?;
        let next_class = CLASS_OF_BYTE[usize::from(next)];
        if next_class & LETTER != 0 {
            if first == b'\'' && rules.word == Word::Letters {
                return None;
            }
            return word_end(rules, text, start + 1);
        }
        if class & SPACE == 0 || (first == b' ' && next_class & (FOREIGN | SPACE | NUMBER) == 0) {
            return symbols_end(rules, text, start + 1);
        }
        if next_class & FOREIGN != 0 {
            return None;
        }
    }
    if class & NUMBER != 0 {
        return digits_end(rules, text, start + 1);
    }
    if class & SPACE != 0 {
        return space_end(text, start);
    }
    None
}

/// A word from its first letter.
#[inline]
fn word_end(rules: Rules, text: &[u8], from: usize) -> Option<usize> {
    let Word::Cased { contraction } = rules.word else {
        let end = letters_end(text, from, true);
        return (*text.get(end)? < 0x80).then_some(end);
    };
    let mut end = from;
    if text[from] & 0x20 == 0 {
        end += text[from..]
            .iter()
            .take_while(|byte| byte.is_ascii_uppercase())
            .count();
    }
    end = letters_end(text, end, false);
    let next = *text.get(end)?;
    if contraction && next == b'\'' {
        // A contraction may follow.
        let after = *text.get(end + 1)?;
        let may = matches!(after | 0x20, b's' | b't' | b'm' | b'd' | b'r' | b'v' | b'l');
        return (after < 0x80 && !may).then_some(end);
    }
    (next < 0x80).then_some(end)
}

fn digits_end(rules: Rules, text: &[u8], mut end: usize) -> Option<usize> {
    for _ in 1..rules.digits_max {
        let class = CLASS_OF_BYTE[usize::from(*text.get(end)?)];
        if class & FOREIGN != 0 {
            return None;
        }
        if class & NUMBER == 0 {
            break;
        }
        end += 1;
    }
    Some(end)
}

fn symbols_end(rules: Rules, text: &[u8], from: usize) -> Option<usize> {
    let mut end = from;
    loop {
        let class = CLASS_OF_BYTE[usize::from(*text.get(end)?)];
        if class & FOREIGN != 0 {
            return None;
        }
        if class & (SPACE | LETTER | NUMBER) != 0 {
            break;
        }
        end += 1;
    }
    loop {
        match *text.get(end)? {
            b'\r' | b'\n' => end += 1,
            b'/' if rules.newlines_slash => end += 1,
            _ => return Some(end),
        }
    }
}

fn space_end(text: &[u8], start: usize) -> Option<usize> {
    let mut end = start;
    let mut after_newline = None;
    loop {
        let class = CLASS_OF_BYTE[usize::from(*text.get(end)?)];
        if class & FOREIGN != 0 {
            return None;
        }
        if class & SPACE == 0 {
            break;
        }
        end += 1;
        if class & NEWLINE != 0 {
            after_newline = Some(end);
        }
    }
    // All but the last space of several, which belongs to what follows.
    Some(after_newline.unwrap_or(if end - start == 1 { end } else { end - 1 }))
}

/// The first place from `from` whose byte is not `a` to `z`, or with `caseless` no letter; or the end of the text.
#[inline]
fn letters_end(text: &[u8], from: usize, caseless: bool) -> usize {
    let mut rest = &text[from..];
    while let Some((bytes, behind)) = rest.split_first_chunk() {
        let letters = letters(*bytes, caseless).trailing_ones() as usize;
        if letters < TOGETHER {
            return text.len() - rest.len() + letters;
        }
        rest = behind;
    }
    let belongs = |byte: u8| byte.is_ascii_lowercase() || caseless && byte.is_ascii_uppercase();
    let letters = rest.iter().take_while(|&&byte| belongs(byte)).count();
    text.len() - rest.len() + letters
}
