"""Token counting, pricing and settlement: what a request costs, and who gets which part.

Money is whole micro-cents (10⁻⁶ cent) in 64 bits; a price is whole cents per 1,000 or per 1,000,000 tokens,
one price for prompt and completion together. ``fee`` and ``earnings`` always add up to ``total``.

- ``quote``, the most that a request can cost; ``settle``, what it did cost; ``settle_many``, by the column;
  ``tokens_affordable``.
- ``count``, ``count_many``, ``count_until``; ``Counter``, for a text that grows. As `tiktoken` counts, with
  the vocabularies ``o200k_base`` and ``cl100k_base`` compiled in.
- ``register``, a model's own ``tokenizer.json``; ``encoding_for``, what a model is counted with.

Long texts are counted without holding the interpreter. Rules and examples: docs/engines/heidrun.md.
"""

from yggdrasil._core import (
    FEE_BASIS_POINTS_MAX,
    FEE_BASIS_POINTS_MIN,
    Counter,
    Settlement,
    Settlements,
    count,
    count_many,
    count_until,
    encoding_for,
    quote,
    register,
    settle,
    settle_many,
    tokens_affordable,
)

__all__ = [
    "FEE_BASIS_POINTS_MAX",
    "FEE_BASIS_POINTS_MIN",
    "Counter",
    "Settlement",
    "Settlements",
    "count",
    "count_many",
    "count_until",
    "encoding_for",
    "quote",
    "register",
    "settle",
    "settle_many",
    "tokens_affordable",
]
