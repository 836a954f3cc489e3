"""The crypto of the vault and the form of addresses: pure."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yggdrasil.errors import ConfigurationError, InvalidInput
from yggdrasil.mimir.addresses import normalise
from yggdrasil.mimir.sealing import (
    OVERHEAD_BYTES,
    PLAIN_BYTES_MAX,
    BrokenSealError,
    WrappingKeys,
    blind_index,
    open_sealed,
    place,
    seal,
)

KEY, NONCE = bytes(range(32)), bytes(range(12))
WHERE = place("fields", "email", "s", 1)


@given(st.binary(max_size=PLAIN_BYTES_MAX))
def test_what_is_sealed_opens(plain: bytes) -> None:
    sealed = seal(KEY, NONCE, WHERE, plain)
    assert len(sealed) == len(plain) + OVERHEAD_BYTES
    assert open_sealed(KEY, WHERE, sealed) == plain


@given(st.integers(0, OVERHEAD_BYTES + 3), st.integers(1, 255))
def test_no_flipped_bit_opens(at: int, flip: int) -> None:
    sealed = bytearray(seal(KEY, NONCE, WHERE, b"Ask!"))
    sealed[at] ^= flip
    with pytest.raises(BrokenSealError):
        open_sealed(KEY, WHERE, bytes(sealed))


@pytest.mark.parametrize(
    "elsewhere",
    [
        place("flows", "email", "s", 1),
        place("fields", "display_name", "s", 1),
        place("fields", "email", "t", 1),
        place("fields", "email", "s", 2),
    ],
)
def test_a_ciphertext_opens_in_its_place_only(elsewhere: bytes) -> None:
    sealed = seal(KEY, NONCE, WHERE, b"Ask")
    with pytest.raises(BrokenSealError):
        open_sealed(KEY, elsewhere, sealed)
    assert open_sealed(KEY, WHERE, sealed) == b"Ask"


def test_places_cannot_be_confused() -> None:
    with pytest.raises(ValueError, match="hold"):
        place("fields", "a|b", "s", 1)


@pytest.mark.parametrize("cut", [0, 1, 8, OVERHEAD_BYTES - 1])
def test_short_bytes_do_not_open(cut: int) -> None:
    with pytest.raises(BrokenSealError):
        open_sealed(KEY, WHERE, seal(KEY, NONCE, WHERE, b"Ask")[:cut])


def test_too_much_or_a_bad_nonce_is_refused() -> None:
    with pytest.raises(ValueError, match="4096"):
        seal(KEY, NONCE, WHERE, bytes(PLAIN_BYTES_MAX + 1))
    with pytest.raises(ValueError, match="12 bytes"):
        seal(KEY, NONCE[1:], WHERE, b"")


def test_keys_wrap_with_the_first_and_unwrap_with_all() -> None:
    old, new = random.Random(1).randbytes(32), random.Random(2).randbytes(32)
    wrapped = WrappingKeys([old]).wrap(NONCE, WHERE, KEY)
    both = WrappingKeys([new, old])
    assert both.unwrap(WHERE, wrapped) == KEY
    assert both.key_id == WrappingKeys([new]).key_id != WrappingKeys([old]).key_id
    with pytest.raises(BrokenSealError):
        WrappingKeys([new]).unwrap(WHERE, wrapped)
    with pytest.raises(BrokenSealError):
        both.unwrap(place("fields", "email", "t", 1), wrapped)
    assert old.hex() not in repr(both)


@pytest.mark.parametrize("secrets", [[], [b"short"], [bytes(32)] * 17])
def test_bad_key_sets_are_refused(secrets: list[bytes]) -> None:
    with pytest.raises(ConfigurationError):
        WrappingKeys(secrets)


def test_the_blind_index_meets_equals_only() -> None:
    index = blind_index(KEY, "a", "ask@example.org")
    assert index == blind_index(KEY, "a", "ask@example.org")
    others = {
        blind_index(KEY, "b", "ask@example.org"),
        blind_index(KEY, "a", "asl@example.org"),
        blind_index(bytes(32), "a", "ask@example.org"),
    }
    assert index not in others
    assert len(others) == 3


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("Ask@Example.ORG", "ask@example.org"),
        ("a.b+c@sub.example.org", "a.b+c@sub.example.org"),
        ("ask@bücher.example", "ask@xn--bcher-kva.example"),
        ("ask@BÜCHER.example", "ask@xn--bcher-kva.example"),
        ("ask@xn--bcher-kva.example", "ask@xn--bcher-kva.example"),
        ("!#$%&'*+/=?^_`{|}~-@example.org", "!#$%&'*+/=?^_`{|}~-@example.org"),
        ("x" * 64 + "@example.org", "x" * 64 + "@example.org"),
    ],
)
def test_good_addresses_have_one_form(text: str, address: str) -> None:
    assert normalise(text) == address
    assert normalise(address) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "a@b",
        "ask",
        "ask@",
        "@example.org",
        "ask@example",
        "ask@@example.org",
        "a@b@example.org",
        ".ask@example.org",
        "ask.@example.org",
        "a..b@example.org",
        "ask @example.org",
        "ask@exa mple.org",
        "ask@example.org\n",
        "ask@example.org\r\nBcc: x@example.org",
        "ask\0@example.org",
        "ask@[192.0.2.1]",
        "ask@192.0.2.1",
        '"ask"@example.org',
        "ask(x)@example.org",
        "Ask <ask@example.org>",
        "ásk@example.org",
        "ask@-example.org",
        "ask@example-.org",
        "ask@exam_ple.org",
        "ask@.example.org",
        "ask@example..org",
        "ask@example.org.",
        "ask@xn--\x80.example",
        "ask@xn--zzzzzzzz99999.example",
        "ask@" + "x" * 64 + ".org",
        "x" * 65 + "@example.org",
        "ask@" + "x." * 130 + "org",
        "ask@ex\u200dample.org",
        "ask@\u2024example.org",
        "K" * 10 + "\u212a@example.org",
    ],
)
def test_bad_addresses_are_refused_without_repeating_them(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        normalise(text)
    assert refused.value.field == "email"
    assert len(text) < 6 or text not in str(refused.value)


@given(st.text(max_size=300))
def test_whatever_comes_the_form_is_stable_and_header_safe(text: str) -> None:
    try:
        address = normalise(text)
    except InvalidInput:
        return
    assert normalise(address) == address
    assert address.isascii()
    assert address.isprintable()
    assert len(address) <= 254
