"""Token counting, pricing and settlement: what a request costs, and who gets which part.

Money is whole micro-cents (10⁻⁶ cent) in 64 bits; a price is whole cents per 1,000 or per 1,000,000 tokens,
one price for prompt and completion together. `rounding` says when a total is rounded up to whole cents:

- ``per_request`` (the default): ``total = ⌈tokens × price_cents / unit_tokens⌉`` cents;
- ``per_statement``: ``total = ⌈tokens × price_cents × 10⁶ / unit_tokens⌉`` micro-cents, for a statement line
  to round.

``fee = ⌊total × fee_basis_points / 10,000⌋`` and ``earnings = total − fee``: the parts always add up.

- ``quote(tokens_max, price_cents, unit_tokens, fee_basis_points, rounding="per_request") -> Settlement``: the
  most a request can cost, the amount to hold.
- ``settle(tokens, price_cents, unit_tokens, fee_basis_points, rounding="per_request") -> Settlement``: what
  it did cost: ``tokens``, ``total_microcents``, ``fee_microcents``, ``earnings_microcents``.
- ``settle_many(tokens, price_cents, unit_tokens, fee_basis_points, rounding="per_request") -> Settlements``:
  the same by the column. `tokens` is a column of 64-bit integers (NumPy, any buffer, Arrow, Polars, pandas, a
  sequence); `price_cents` and `fee_basis_points` are one integer for all rows or a column of equal length.
  ``total_microcents``, ``fee_microcents`` and ``earnings_microcents`` are memoryviews: ``numpy.asarray``
  copies nothing. An error names column and row, as in ``price_cents[17]``.
- ``tokens_affordable(budget_microcents, price_cents, unit_tokens, rounding="per_request") -> int``: the most
  tokens whose total is within the budget; 2⁶³ − 1 if they are free.

They raise `InvalidInput` with the name of the field: negative tokens, price or budget; a unit other than
1,000 or 1,000,000; a fee outside 1000 to 1500 basis points; another rounding; a number of more than 64 bits.
A total that does not fit raises `MoneyOverflow`.

Tokens are counted as `tiktoken` counts them (``encode_ordinary``: special tokens are plain text), with the
vocabularies ``o200k_base`` and ``cl100k_base`` compiled in. `model` is a model's name or a vocabulary's.

- ``count(model, text) -> int``
- ``count_until(model, text, limit) -> int | None``: None as soon as it is more than `limit`.
- ``count_many(model, texts) -> list[int]``: at most 1,000,000 texts.
- ``Counter(model)``: a text that grows. ``push(delta) -> int`` is the count of the whole text so far, exact
  each time; ``push_many(deltas)`` appends several and answers once; properties ``count`` and ``encoding``.
- ``encoding_for(model) -> (name, fallback)``: ``fallback`` is true for a model neither registered nor in the
  table, which counts with ``o200k_base``; the count is then an estimate.
- ``register(model, tokenizer_json)``: count `model` by the bytes of its ``tokenizer.json``, as the library
  ``tokenizers`` does (``encode(text, add_special_tokens=False)``, without truncation and padding; added
  tokens are found in the text). For BPE over bytes with the patterns of GPT-2, Llama 3, Qwen, GPT-4o, Mistral
  Nemo and DeepSeek V3, for BPE over characters with bytes as the fallback (Llama 2, Mistral, Gemma), and for
  BERT's WordPiece. Anything else in a file raises `InvalidInput` with its place. At most 64 MiB a file and
  256 models.

Text with lone surrogates raises `InvalidInput`. Long texts are counted without holding the interpreter.
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
