"""Registered tokenizers count as the library `tokenizers` does, whole or in parts, or are refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from yggdrasil import heidrun
from yggdrasil.errors import InvalidInput

from .test_tokens import FRAGMENTS, PIECES
from .tokenizers_made import ADDED, MADE, metaspace

SPECIAL = [
    *ADDED,
    "<|en",
    "[CLS]",
    "[MASK]",
    "zqxj",
    " " + "q" * 28,
    "-=" * 40,
    "\n" * 5,
    "a" * 120,
    "-" * 90,
    "\u1100\u1161\u11a8",  # Hangul that composes
    "r\u0338\u0301",  # a mark that reaches over another
    "\u212a",  # the sign that composes to K
    " " * 5,
    "=" * 7,
    "<0x0A>",  # what stands for a byte, as text
    "\u2581\u2581a",  # the mark that stands for a space, as text
    "\x01\x02",
    "\u30fb\u4e00\u9fa6",
]
PART = st.one_of(PIECES, FRAGMENTS, st.sampled_from(SPECIAL), st.characters(exclude_categories=("Cs",)))
TEXTS = st.lists(PART, max_size=30).map("".join)


@pytest.fixture(params=list(MADE), scope="session")
def made(request: pytest.FixtureRequest) -> tuple[str, Tokenizer]:
    """A registered model and its oracle."""
    name: str = request.param
    tokenizer = MADE[name]()
    heidrun.register(f"test/{name}", tokenizer.to_str().encode())
    return f"test/{name}", tokenizer


def expected(tokenizer: Tokenizer, text: str) -> int:
    return len(tokenizer.encode(text, add_special_tokens=False).ids)


class TestRegistered:
    @settings(max_examples=300)
    @given(text=TEXTS)
    @example(text="<|end|>")
    @example(text="<|end|>x<|en")
    @example(text="-=" * 40)
    def test_count_is_that_of_tokenizers(self, made: tuple[str, Tokenizer], text: str) -> None:
        model, tokenizer = made
        assert heidrun.count(model, text) == expected(tokenizer, text)

    @settings(max_examples=300)
    @given(parts=st.lists(TEXTS, max_size=8))
    @example(parts=["Zr", "\u0338", "\u0301"])
    @example(parts=["<|end", "|>", "x", "y"])
    def test_growing_count_is_that_of_the_whole(self, made: tuple[str, Tokenizer], parts: list[str]) -> None:
        model, tokenizer = made
        counter = heidrun.Counter(model)
        whole = ""
        for part in parts:
            whole += part
            assert counter.push(part) == expected(tokenizer, whole)

    @settings(max_examples=150)
    @given(text=TEXTS)
    def test_growing_count_is_exact_at_every_character(self, made: tuple[str, Tokenizer], text: str) -> None:
        model, tokenizer = made
        counter = heidrun.Counter(model)
        for end, character in enumerate(text, start=1):
            assert counter.push(character) == expected(tokenizer, text[:end])

    @given(text=TEXTS, limit=st.integers(0, 60))
    def test_until_a_limit_is_the_count_or_none(
        self, made: tuple[str, Tokenizer], text: str, limit: int
    ) -> None:
        model, _ = made
        counted = heidrun.count(model, text)
        assert heidrun.count_until(model, text, limit) == (counted if counted <= limit else None)

    def test_every_character_counts_as_there(self, made: tuple[str, Tokenizer]) -> None:
        model, tokenizer = made
        every = [chr(code) for code in range(0x20000) if not 0xD800 <= code < 0xE000]
        texts = [f"a{character}A {character}b" for character in every]
        theirs = tokenizer.encode_batch(texts, add_special_tokens=False)
        ours = heidrun.count_many(model, texts)
        differing = [
            (text, len(there.ids), here)
            for text, there, here in zip(texts, theirs, ours, strict=True)
            if len(there.ids) != here
        ]
        assert differing == []

    @pytest.mark.parametrize("unit", ["a", "<", "é", "\u0301", " ", "<|end|", "中", "- "])
    def test_long_text_without_a_break_is_exact(self, made: tuple[str, Tokenizer], unit: str) -> None:
        model, tokenizer = made
        text = unit * 2_000
        counter = heidrun.Counter(model)
        for start in range(0, len(text), 50):
            counter.push(text[start : start + 50])
        assert counter.count == heidrun.count(model, text) == expected(tokenizer, text)

    def test_is_named_in_the_answer(self, made: tuple[str, Tokenizer]) -> None:
        model, _ = made
        assert heidrun.encoding_for(model) == (model, False)
        assert heidrun.Counter(model).encoding == model
        assert heidrun.encoding_for(model + "-unheard-of") == ("o200k_base", True)


def changed(name: str, path: str, value: Any) -> bytes:
    """The file of `name` with something else at a dotted path."""
    data = json.loads(MADE[name]().to_str())
    *parents, last = path.split(".")
    place: Any = data
    for parent in parents:
        place = place[int(parent)] if parent.isdigit() else place[parent]
    if value is ...:
        del place[last]
    elif isinstance(place, list):
        place[int(last)] = value
    else:
        place[last] = value
    return json.dumps(data).encode()


class TestRefuses:
    @pytest.mark.parametrize(
        ("name", "path", "value", "field"),
        [
            ("qwen", "model.type", "Unigram", "model.type"),
            ("qwen", "model.type", ..., "model.type"),
            ("qwen", "model.dropout", 0.1, "model.dropout"),
            ("qwen", "model.byte_fallback", True, "normalizer"),
            ("gpt-2", "pre_tokenizer.use_regex", False, "pre_tokenizer"),
            ("gpt-2", "pre_tokenizer.add_prefix_space", True, "pre_tokenizer"),
            (
                "deepseek",
                "pre_tokenizer.pretokenizers.1.behavior",
                "Removed",
                "pre_tokenizer.pretokenizers[1].behavior",
            ),
            (
                "deepseek",
                "pre_tokenizer.pretokenizers.0.pattern",
                {"Regex": r"\d"},
                "pre_tokenizer.pretokenizers[0].pattern",
            ),
            ("llama-2", "model.byte_fallback", False, "normalizer"),
            ("llama-2", "model.ignore_merges", True, "model.ignore_merges"),
            ("llama-2", "model.continuing_subword_prefix", "@", "model.continuing_subword_prefix"),
            ("llama-2", "model.vocab.<0x41>", ..., "model.vocab"),
            ("llama-2", "model.merges.0", ["<0x41>", "a"], "model.merges[0]"),
            ("llama-2", "normalizer.normalizers.0", {"type": "NFKC"}, "normalizer.normalizers[0]"),
            ("llama-2", "normalizer.normalizers.1.content", "_", "normalizer.normalizers[1]"),
            ("llama-2", "pre_tokenizer", metaspace("first", split=False), "pre_tokenizer.type"),
            ("gemma", "normalizer", {"type": "Precompiled", "precompiled_charsmap": ""}, "normalizer"),
            ("gemma", "pre_tokenizer.pattern", {"String": "x"}, "pre_tokenizer"),
            ("mistral", "pre_tokenizer.replacement", "_", "pre_tokenizer.replacement"),
            ("mistral", "pre_tokenizer.prepend_scheme", "last", "pre_tokenizer.prepend_scheme"),
            ("qwen", "model.end_of_word_suffix", "</w>", "model.end_of_word_suffix"),
            ("qwen", "model.merges", [["a", "nowhere"]], "model.merges[0]"),
            ("qwen", "model.vocab", {"a": 1}, "model.vocab"),
            ("qwen", "normalizer", {"type": "NFKC"}, "normalizer"),
            ("qwen", "pre_tokenizer", None, "pre_tokenizer"),
            ("qwen", "pre_tokenizer", {"type": "Metaspace"}, "pre_tokenizer"),
            (
                "qwen",
                "pre_tokenizer.pretokenizers.0.pattern",
                {"Regex": r"\w+"},
                "pre_tokenizer.pretokenizers[0].pattern",
            ),
            (
                "qwen",
                "pre_tokenizer.pretokenizers.0.behavior",
                "MergedWithNext",
                "pre_tokenizer.pretokenizers[0].behavior",
            ),
            (
                "qwen",
                "pre_tokenizer.pretokenizers.1.add_prefix_space",
                True,
                "pre_tokenizer.pretokenizers[1]",
            ),
            ("qwen", "added_tokens.0.single_word", True, "added_tokens[0].single_word"),
            ("qwen", "added_tokens.0.lstrip", True, "added_tokens[0].lstrip or rstrip"),
            ("qwen", "added_tokens.0.normalized", True, "added_tokens[0].normalized"),
            ("qwen", "added_tokens.0.content", "<KEY>", "added_tokens[0].content"),
            ("qwen", "something_new", 1, "tokenizer_json"),
            ("minilm", "normalizer", None, "normalizer"),
            ("minilm", "normalizer.type", "Lowercase", "normalizer.type"),
            ("minilm", "normalizer.lowercase", 1, "normalizer.lowercase"),
            ("minilm", "pre_tokenizer.type", "Whitespace", "pre_tokenizer.type"),
            ("minilm", "model.unk_token", "[NONE]", "model.unk_token"),
            ("minilm", "model.max_input_chars_per_word", 10**6, "model.max_input_chars_per_word"),
        ],
    )
    def test_what_is_unsupported_by_its_place(self, name: str, path: str, value: Any, field: str) -> None:
        with pytest.raises(InvalidInput) as caught:
            heidrun.register("test/refused", changed(name, path, value))
        assert caught.value.field == field
        assert heidrun.encoding_for("test/refused") == ("o200k_base", True)

    def test_a_merge_before_the_merges_to_its_parts(self) -> None:
        data = json.loads(MADE["qwen"]().to_str())
        merges = data["model"]["merges"]
        parts = {"".join(merge) for merge in merges}
        late = next(place for place, merge in enumerate(merges) if len(merge[0]) > 2 and merge[0] in parts)
        merges.insert(0, merges.pop(late))
        with pytest.raises(InvalidInput) as caught:
            heidrun.register("test/refused", json.dumps(data).encode())
        assert caught.value.field == "model.merges[0]"

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"null", b'{"model": {"type": "BPE"}}'])
    def test_what_is_no_tokenizer_file(self, content: bytes) -> None:
        with pytest.raises(InvalidInput):
            heidrun.register("test/refused", content)

    @pytest.mark.parametrize("model", ["", "x" * 256])
    def test_a_name_that_is_none(self, model: str) -> None:
        with pytest.raises(InvalidInput) as caught:
            heidrun.register(model, MADE["qwen"]().to_str().encode())
        assert caught.value.field == "model"


class TestMany:
    @given(texts=st.lists(TEXTS, max_size=10))
    def test_counts_are_those_of_each(self, texts: list[str]) -> None:
        assert heidrun.count_many("gpt-4o", texts) == [heidrun.count("gpt-4o", text) for text in texts]

    @given(parts=st.lists(TEXTS, max_size=10))
    def test_parts_together_are_parts_one_by_one(self, parts: list[str]) -> None:
        together, singly = heidrun.Counter("gpt-4"), heidrun.Counter("gpt-4")
        for part in parts:
            singly.push(part)
        assert together.push_many(parts) == together.count == singly.count

    def test_an_error_names_the_row(self) -> None:
        for texts, field in ((["a", 1], r"texts[1]"), (["\ud800"], "texts[0]"), ("abc", "texts")):
            with pytest.raises(InvalidInput) as caught:
                heidrun.count_many("gpt-4o", texts)  # type: ignore[arg-type]
            assert caught.value.field == field
