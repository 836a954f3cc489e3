"""Counts equal tiktoken's, on any text, whole or in parts."""

from __future__ import annotations

import itertools
import random

import pytest
import tiktoken
from hypothesis import example, given
from hypothesis import strategies as st

from yggdrasil import heidrun
from yggdrasil.errors import InvalidInput

from .vocabulary import ENCODINGS

Oracle = dict[str, tiktoken.Encoding]

ALPHABET = (
    " \t\n\r\u00a0\u2003\u3000\u0085",  # spaces: one or many, with and without a newline
    "'’`\"",
    "sdmtSDMTſlLvVeErR",  # the letters of contractions, and the one that only folding finds
    "aàßZÉǅʰªⓐ中文日本語ひらがな한국어אבعربक्षि",  # lower, upper, title, modifier and other letters, marks
    "\u0301\u0903\u20dd\u200d",  # marks of each kind, and the joiner
    "0129٣Ⅷ½²",
    "!#$/.,;:-–—…/\\()[]{}<|>€+=_~^",
    "😀👩‍👩‍👧‍👦🇩🇪🏽",
    "\x00\x07\x7f\ufffd\U0010ffff",
)
PIECES = st.sampled_from([character for group in ALPHABET for character in group])
FRAGMENTS = st.sampled_from(
    [
        "'s",
        "'LL",
        "'ve",
        "don't",
        "HELLO'S",
        "  ",
        "\r\n",
        " \n ",
        "<|endoftext|>",
        "中A",
        "http://",
        "aaaa",
        "1234567",
        "e\u0301",
    ]
)
TEXTS = st.one_of(st.lists(st.one_of(PIECES, FRAGMENTS), max_size=60).map("".join), st.text(max_size=80))
TRAILING = ("  \n  ", "a \n\n ", " \r\n\t", "\n \n", "x\n \u00a0")


def differing(name: str, texts: list[str], theirs: list[list[int]]) -> list[str]:
    """The texts whose count is not the number of their tokens."""
    return [
        text for text, tokens in zip(texts, theirs, strict=True) if heidrun.count(name, text) != len(tokens)
    ]


@pytest.mark.parametrize("name", ENCODINGS)
class TestCount:
    @given(text=TEXTS)
    @example(text="")
    @example(text="  \n  ")
    @example(text="word'Re")
    @example(text="AB中CD'ſ")
    def test_is_that_of_tiktoken(self, oracle: Oracle, name: str, text: str) -> None:
        assert heidrun.count(name, text) == len(oracle[name].encode_ordinary(text))

    def test_is_that_of_tiktoken_for_a_single_character_of_every_kind(
        self, oracle: Oracle, name: str
    ) -> None:
        """The class tables agree."""
        every = [chr(code) for code in range(0x30000) if not 0xD800 <= code < 0xE000]
        texts = [f"{character}a{character}A{character} " for character in every]
        theirs = oracle[name].encode_ordinary_batch(texts)
        assert differing(name, texts, theirs) == []

    def test_is_that_of_tiktoken_for_every_short_mix_of_classes(self, oracle: Oracle, name: str) -> None:
        """All strings of up to five from one character of each class that a rule speaks of: alone, and with
        so much behind them that the look at eight bytes at once is tried."""
        classes = "aAéÀ中\u0301'sr1 \n/."
        texts = ["".join(mix) for length in range(1, 6) for mix in itertools.product(classes, repeat=length)]
        chance = random.Random(7)
        texts = [text for text in texts if len(text) < 5 or chance.random() < 0.1]
        texts += [text + " and so on" for text in texts]
        theirs = oracle[name].encode_ordinary_batch(texts)
        assert differing(name, texts, theirs) == []

    def test_of_every_token_is_that_of_tiktoken(self, oracle: Oracle, name: str) -> None:
        tokens = []
        for token in oracle[name].token_byte_values():
            try:
                tokens.append(token.decode())
            except UnicodeDecodeError:
                continue
        assert len(tokens) > 90_000
        tokens += [token + " and so on" for token in tokens]
        theirs = oracle[name].encode_ordinary_batch(tokens)
        assert differing(name, tokens, theirs) == []

    @pytest.mark.parametrize("text", TRAILING)
    def test_takes_trailing_space_as_each_encoding_does(self, oracle: Oracle, name: str, text: str) -> None:
        assert heidrun.count(name, text) == len(oracle[name].encode_ordinary(text))

    def test_special_tokens_are_plain_text(self, oracle: Oracle, name: str) -> None:
        assert heidrun.count(name, "<|endoftext|>") == len(oracle[name].encode_ordinary("<|endoftext|>")) > 1

    @given(text=TEXTS, limit=st.integers(0, 80))
    def test_until_a_limit_is_the_count_or_none(self, name: str, text: str, limit: int) -> None:
        counted = heidrun.count(name, text)
        assert heidrun.count_until(name, text, limit) == (counted if counted <= limit else None)

    @given(parts=st.lists(TEXTS, max_size=12))
    @example(parts=["word", "'", "r", "e"])
    @example(parts=["AB中", "CD", "e"])
    @example(parts=[" ", " ", "\n", " ", "a"])
    @example(parts=["\n", "/", "/", "\n"])
    def test_of_a_growing_text_is_exact_after_each_part(self, name: str, parts: list[str]) -> None:
        counter = heidrun.Counter(name)
        text = ""
        for part in parts:
            text += part
            assert counter.push(part) == counter.count == heidrun.count(name, text)

    @given(text=TEXTS)
    def test_of_a_text_growing_by_characters_is_exact(self, name: str, text: str) -> None:
        counter = heidrun.Counter(name)
        for end, character in enumerate(text, start=1):
            assert counter.push(character) == heidrun.count(name, text[:end])

    def test_of_a_long_text_without_a_break_is_exact(self, oracle: Oracle, name: str) -> None:
        for unit in ("a", "A", "中A", " ", "\n", " \n", "!", "é", "/\n"):
            text = unit * 3_000
            counter = heidrun.Counter(name)
            for start in range(0, len(text), 100):
                counter.push(text[start : start + 100])
            assert counter.count == len(oracle[name].encode_ordinary(text)), unit

    def test_of_texts_with_many_pieces_is_that_of_tiktoken(self, oracle: Oracle, name: str) -> None:
        """Pieces are looked up together, and what was counted in a text is remembered: pieces come again, are
        one token, some or many, and the text ends in every place of a group."""
        chance = random.Random(11)
        syllables = [
            "Ge",
            "birg",
            "über",
            "mäßig",
            "keit",
            "tion",
            "ization",
            "的一是",
            "不了人",
            "привет",
            "ığ",
            "\0",
        ]
        words = ["".join(chance.choices(syllables, k=chance.randint(1, 5))) for _ in range(300)]
        for count in [*range(55, 75), 130, 700, 4_000]:
            text = " ".join(chance.choices(words, k=count))
            theirs = len(oracle[name].encode_ordinary(text))
            assert heidrun.count(name, text) == theirs, (count, text)
            assert heidrun.count_until(name, text, theirs) == theirs
            assert heidrun.count_until(name, text, theirs - 1) is None

    def test_refuses_what_is_no_text(self, name: str) -> None:
        with pytest.raises(InvalidInput, match="text") as caught:
            heidrun.count(name, "\ud800")
        assert caught.value.field == "text"
        counter = heidrun.Counter(name)
        counter.push("abc")
        with pytest.raises(InvalidInput, match="delta"):
            counter.push("\udfff")
        assert counter.count == heidrun.count(name, "abc")


def test_limits_of_a_count_are_checked() -> None:
    for limit in (-1, 2**64):
        with pytest.raises(InvalidInput, match="limit"):
            heidrun.count_until("gpt-4o", "text", limit)


class TestEncoding:
    def test_is_that_of_tiktoken_for_every_model_it_knows(self) -> None:
        known = tiktoken.model.MODEL_TO_ENCODING | {
            prefix + "2030-01-01": name for prefix, name in tiktoken.model.MODEL_PREFIX_TO_ENCODING.items()
        }
        ours = {"o200k_base": "o200k_base", "o200k_harmony": "o200k_base", "cl100k_base": "cl100k_base"}
        for model, name in known.items():
            if name in ours:
                assert heidrun.encoding_for(model) == (ours[name], False), model

    @pytest.mark.parametrize("model", ["", "llama-3.1-8b", "qwen2", "GPT-4", "mistral"])
    def test_of_an_unknown_model_is_a_fallback(self, model: str) -> None:
        assert heidrun.encoding_for(model) == ("o200k_base", True)
        assert heidrun.count(model, "hello world") == 2

    def test_counter_names_its_own(self) -> None:
        assert heidrun.Counter("gpt-4").encoding == "cl100k_base"
