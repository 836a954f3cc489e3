"""The numpy model against the figures its makers publish for it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from yggdrasil.demo.minilm import DIMENSIONS, TOKENS_MAX, MiniLM, erf
from yggdrasil.errors import InvalidInput


@pytest.fixture(scope="session")
def model() -> MiniLM:
    return MiniLM()


def test_the_cosines_are_those_of_the_model_card(model: MiniLM) -> None:
    # The example of https://sbert.net/docs/quickstart.html, computed there with PyTorch.
    texts = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    vectors = model.embed(texts).vectors
    published = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
    np.testing.assert_allclose(vectors @ vectors.T, published, atol=1e-4)


@pytest.mark.parametrize(
    ("text", "near", "far"),
    [
        ("A man is eating food.", "A man is eating a piece of bread.", "A monkey is playing drums."),
        (
            "How do I reset my password?",
            "I forgot my login and need a new one.",
            "The recipe needs two eggs.",
        ),
        ("The cat sits outside.", "A kitten rests in the garden.", "Interest rates rose last year."),
    ],
)
def test_a_paraphrase_is_nearer_than_another_subject(model: MiniLM, text: str, near: str, far: str) -> None:
    vectors = model.embed([text, near, far]).vectors
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.15


def test_neither_order_nor_company_changes_a_vector(model: MiniLM) -> None:
    texts = [
        "short",
        "a somewhat longer text about rivers and their mouths " * 6,
        "of middling length, this one",
    ]
    together = model.embed(texts).vectors
    for text, vector in zip(texts, together, strict=True):
        np.testing.assert_allclose(model.embed([text]).vectors[0], vector, atol=2e-6)
    np.testing.assert_allclose(model.embed(texts[::-1]).vectors, together[::-1], atol=2e-6)


def test_vectors_have_unit_length_and_the_right_shape(model: MiniLM) -> None:
    embedded = model.embed(["one", "", "\N{SNOWMAN} ünïcode"])
    assert embedded.vectors.shape == (3, DIMENSIONS)
    np.testing.assert_allclose(np.linalg.norm(embedded.vectors, axis=1), 1.0, atol=1e-5)


def test_tokens_are_counted_with_both_marks_and_cut_at_the_limit(model: MiniLM) -> None:
    assert model.embed(["hello world"]).tokens == model.count(["hello world"]) == [4]
    assert model.count(["word " * 1000]) == [TOKENS_MAX]


def test_an_empty_batch_is_refused(model: MiniLM) -> None:
    with pytest.raises(InvalidInput, match="input: 1 to 2048 texts"):
        model.embed([])


def test_erf_agrees_with_the_standard_library() -> None:
    x = np.linspace(-5, 5, 2001, dtype=np.float32)
    np.testing.assert_allclose(erf(x), [math.erf(value) for value in x], atol=5e-7)
