//! Long vectors that stay where they are, on large pages.
//!
//! Among a million offers nearly each place that a pick reads is on a page of its own. The processor remembers where some
//! thousand pages lie; for the others it walks through tables that are in no cache either, and on a virtual machine through
//! two of them. Pages of 2 MiB in place of 4 KiB are few enough to be remembered.
#![deny(clippy::undocumented_unsafe_blocks)]

/// A large page, where pages have two sizes.
const LARGE_BYTES: usize = 2 << 20;
/// A vector of fewer bytes grows as vectors do.
const GROWING_BYTES: usize = LARGE_BYTES / 2;

/// Makes room for one more value in a vector that will have `most` values at most.
///
/// A long one is given room for all of them at once, and never moves again: what is not written takes no memory. So one
/// value more never costs the copy of all, and large pages are not torn: the system moves a page by making small ones of
/// it. If there is no such room, it grows as vectors do.
#[inline]
pub fn room_for_one<T>(values: &mut Vec<T>, most: usize) {
    if values.len() == values.capacity() && size_of_val(values.as_slice()) >= GROWING_BYTES {
        grow(values, most);
    }
}

#[cold]
fn grow<T>(values: &mut Vec<T>, most: usize) {
    let mut moved = Vec::new();
    if most > values.len() && moved.try_reserve_exact(most).is_ok() {
        advise(moved.spare_capacity_mut());
        moved.append(values);
        *values = moved;
    }
}

/// A vector without values, and with room for so many on large pages.
#[must_use]
pub fn with_capacity<T>(values: usize) -> Vec<T> {
    let mut made = Vec::with_capacity(values);
    advise(made.spare_capacity_mut());
    made
}

/// Asks for large pages; the system may do as it likes.
#[cfg(target_os = "linux")]
fn advise<T>(memory: &mut [T]) {
    let start = memory.as_mut_ptr() as usize;
    let first = start.next_multiple_of(LARGE_BYTES);
    let end = (start + size_of_val(memory)) / LARGE_BYTES * LARGE_BYTES;
    if first < end {
        let at = memory.as_mut_ptr().wrapping_byte_add(first - start);
        // SAFETY: the range lies within the memory that is borrowed here, from the start of a page to the end of one. The
        // advice changes neither what is in it nor what may be done with it, and an error leaves everything as it was.
        unsafe {
            libc::madvise(at.cast(), end - first, libc::MADV_HUGEPAGE);
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn advise<T>(_memory: &mut [T]) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(values: u64, most: usize) -> Vec<u64> {
        let mut made = Vec::new();
        for number in 0..values {
            room_for_one(&mut made, most);
            made.push(number);
        }
        made
    }

    #[test]
    fn a_long_one_never_moves_again() {
        let mut values = filled(200_000, 1_000_000);
        let place = values.as_ptr();
        for number in 200_000..1_000_000 {
            room_for_one(&mut values, 1_000_000);
            values.push(number);
        }
        assert_eq!(values.as_ptr(), place);
        assert!(values.into_iter().eq(0..1_000_000));
    }

    #[test]
    fn a_short_one_is_small() {
        assert!(filled(1_000, 1_000_000).capacity() < 2_048);
    }

    #[test]
    fn more_than_foretold_or_than_there_is_room_for_is_no_matter() {
        for most in [0, 200_000, usize::MAX / 8, usize::MAX] {
            assert!(filled(300_000, most).into_iter().eq(0..300_000));
        }
    }

    #[test]
    fn a_capacity_is_what_was_asked_for() {
        assert_eq!(with_capacity::<u8>(0).capacity(), 0);
        assert!(with_capacity::<u64>(300_000).capacity() >= 300_000);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests_on_linux {
    use super::*;

    /// Bytes on large pages in the part of this process's memory that an address is in.
    fn large_bytes_around(address: usize) -> usize {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut within = false;
        for line in maps.lines() {
            let mut words = line.split_whitespace();
            let first = words.next().unwrap_or("");
            if let Some((start, end)) = first.split_once('-') {
                let of = |text| usize::from_str_radix(text, 16).unwrap_or(0);
                within = (of(start)..of(end)).contains(&address);
            } else if within && first == "AnonHugePages:" {
                let kilobytes = words.next().and_then(|text| text.parse().ok());
                return kilobytes.unwrap_or(0) << 10;
            }
        }
        0
    }

    #[test]
    fn a_system_that_has_large_pages_gives_them() {
        let setting = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
        if setting.is_ok_and(|setting| !setting.contains("[never]")) {
            let mut values = with_capacity::<u64>(4 << 20);
            values.resize(4 << 20, 1);
            let middle = &raw const values[values.len() / 2];
            assert!(large_bytes_around(middle as usize) >= 8 * LARGE_BYTES);
        }
    }
}
