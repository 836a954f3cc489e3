"""The demonstration's input."""

from __future__ import annotations

import pytest

from yggdrasil.demo.corpus import QUESTIONS, WORDS_MAX, WORDS_MIN, passages, sentences


def test_passages_are_many_different_bounded_and_always_the_same() -> None:
    found = passages(400)
    assert len(set(found)) == 400
    assert all(WORDS_MIN <= len(passage.split()) <= WORDS_MAX for passage in found)
    assert found == passages(400)


def test_passages_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="count must be 1 or more"):
        passages(0)
    with pytest.raises(ValueError, match="or less"):
        passages(100_000)


def test_there_are_enough_different_questions() -> None:
    assert len(set(QUESTIONS)) >= 20


def test_sentences_are_cut_at_their_ends() -> None:
    assert sentences(" One. Two? Three!  four ") == ["One.", "Two?", "Three!", "four"]
    assert sentences("  ") == []
