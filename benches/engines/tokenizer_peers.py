"""The libraries that count with the same vocabulary, each as its own documentation says is fastest for one
text on one thread, and each held to the same count before it is timed.

`litellm` carries the rank files that `tiktoken` and `gigatoken` would download; its wheel is among the pinned
packages of `requirements/bench-engines.txt`, so that nothing is fetched here.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

# Before the libraries are loaded, which look once.
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or it asks the network for prices
os.environ["RAYON_NUM_THREADS"] = "1"
RANKS = Path(str(files("litellm"))) / "litellm_core_utils" / "tokenizers"
os.environ["TIKTOKEN_CACHE_DIR"] = str(RANKS)

import gigatoken  # noqa: E402
import tiktoken  # noqa: E402
from tokenizers import Regex, Tokenizer, models, pre_tokenizers  # noqa: E402

NAME = "o200k_base"
TIKTOKEN = f"tiktoken {version('tiktoken')}"
TOKENIZERS = f"tokenizers {version('tokenizers')}"
GIGATOKEN = f"gigatoken {version('gigatoken')}"

Count = Callable[[str], int]


@cache
def reference() -> tiktoken.Encoding:
    return tiktoken.get_encoding(NAME)


@cache
def counters() -> dict[str, Count]:
    """By peer, `tiktoken` first: the number of tokens of a text. Each makes the tokens themselves too."""
    theirs = reference()
    fast = _gigatoken()
    face = _tokenizers(theirs)
    return {
        TIKTOKEN: lambda text: len(theirs.encode_ordinary(text)),
        TOKENIZERS: lambda text: len(face.encode_batch_fast([text], add_special_tokens=False)[0].ids),
        GIGATOKEN: lambda text: len(fast.encode(text)),
    }


def _gigatoken() -> Any:
    address = f"https://openaipublic.blob.core.windows.net/encodings/{NAME}.tiktoken"
    file = RANKS / hashlib.sha1(address.encode()).hexdigest()  # noqa: S324  # the name that tiktoken gives it
    return gigatoken.Tokenizer.from_tiktoken(file, pretokenizer="o200k")


def _tokenizers(theirs: tiktoken.Encoding) -> Tokenizer:
    """The same vocabulary with the merges that its ranks imply."""
    ranks: dict[bytes, int] = theirs._mergeable_ranks  # noqa: SLF001
    shown = _characters()

    def text(token: bytes) -> str:
        return "".join(shown[byte] for byte in token)

    merges = [
        tuple(text(part) for part in _parts(ranks, token, rank))
        for token, rank in sorted(ranks.items(), key=lambda item: item[1])
        if len(token) > 1
    ]
    vocab = {text(token): rank for token, rank in ranks.items()}
    made = Tokenizer(models.BPE(vocab, merges))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(theirs._pat_str), "isolated"),  # noqa: SLF001
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return made


def _parts(ranks: dict[bytes, int], token: bytes, below: int) -> list[bytes]:
    """The two that a token is merged from: its bytes, merged by the ranks before its own."""
    parts = [token[at : at + 1] for at in range(len(token))]
    while len(parts) > 2:
        pairs = ((ranks.get(parts[at] + parts[at + 1], below), at) for at in range(len(parts) - 1))
        rank, at = min(pairs)
        if rank >= below:
            raise AssertionError(f"rank {below} is not merged from two")
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def _characters() -> dict[int, str]:
    """The character that stands for each byte in the files of `tokenizers`."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in shown]
    return {byte: chr(byte) for byte in shown} | {byte: chr(256 + place) for place, byte in enumerate(others)}
