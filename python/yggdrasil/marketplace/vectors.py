"""What comes back from a provider for an embeddings request, collected and checked. No I/O."""

from __future__ import annotations

import math
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from yggdrasil.marketplace.answers import ANSWER_BYTES_MAX, BadAnswerError

DIMENSIONS_MAX: Final = 65_536


class _Vector(msgspec.Struct):
    embedding: Annotated[list[float], Meta(min_length=1, max_length=DIMENSIONS_MAX)]
    index: Annotated[int, Meta(ge=0)]


class _Vectors(msgspec.Struct):
    data: list[_Vector]


_decode_vectors = msgspec.json.Decoder(_Vectors)


class EmbeddingsAnswer:
    """An embeddings answer, collected whole and checked before anybody pays for it."""

    def __init__(self, model: str, inputs: int, dimensions: int | None) -> None:
        self._model = model
        self._inputs = inputs
        self._dimensions = dimensions
        self._parts: list[bytes] = []
        self._bytes = 0
        self._vectors: list[list[float]] = []

    def take(self, raw: bytes) -> None:
        """One frame of the answer. Raises BadAnswerError."""
        self._bytes += len(raw)
        if self._bytes > ANSWER_BYTES_MAX:
            raise BadAnswerError("the answer is too large")
        self._parts.append(raw)

    def check(self) -> None:
        """One finite vector for each input, all of one length, or BadAnswerError."""
        try:
            answer = _decode_vectors.decode(b"".join(self._parts))
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            raise BadAnswerError("not an embeddings answer") from None
        if sorted(vector.index for vector in answer.data) != list(range(self._inputs)):
            raise BadAnswerError("not one vector for each input")
        lengths = {len(vector.embedding) for vector in answer.data}
        if len(lengths) != 1 or (self._dimensions is not None and lengths != {self._dimensions}):
            raise BadAnswerError("vectors of the wrong length")
        if not all(math.isfinite(value) for vector in answer.data for value in vector.embedding):
            raise BadAnswerError("vectors must be finite")
        self._vectors = [vector.embedding for vector in sorted(answer.data, key=lambda vector: vector.index)]
        self._parts.clear()

    def whole(self) -> dict[str, Any]:
        """The answer without its usage."""
        return {
            "object": "list",
            "model": self._model,
            "data": [
                {"object": "embedding", "index": index, "embedding": vector}
                for index, vector in enumerate(self._vectors)
            ],
        }
