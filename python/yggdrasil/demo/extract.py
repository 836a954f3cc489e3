"""The stand-in for a language model: it answers with the sentences of the given text nearest to the question.

It generates nothing, and its name says so. Pure but for the model's arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from yggdrasil.demo.corpus import sentences
from yggdrasil.demo.minilm import MiniLM

CHAT_MODEL: Final = "extractive-minilm-not-a-language-model"
NO_TEXT: Final = "The message holds no text to take an answer from."
SENTENCES_MAX: Final = 64
"""More would make one answer cost more than a whole batch of embeddings."""

ANSWER_SENTENCES: Final = 2


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat."""

    role: str
    content: str


def question_and_text(messages: Sequence[Message]) -> tuple[str, str]:
    """The last line of the last user message asks; everything before it, less what instructs, is the text."""
    last = next((i for i in range(len(messages) - 1, -1, -1) if messages[i].role == "user"), None)
    if last is None:
        return "", ""
    head, _, question = messages[last].content.strip().rpartition("\n")
    before = [message.content for message in messages[:last] if message.role == "user"]
    return question.strip(), "\n".join([*before, head]).strip()


def answer(model: MiniLM, messages: Sequence[Message]) -> str:
    """The two sentences nearest to the question, in the order of the text."""
    question, text = question_and_text(messages)
    found = (sentence for line in text.splitlines() for sentence in sentences(line))
    candidates = list(dict.fromkeys(found))[:SENTENCES_MAX]
    if not question or not candidates:
        return NO_TEXT
    vectors = model.embed([question, *candidates]).vectors
    likeness = vectors[1:] @ vectors[0]
    best = sorted(np.argsort(-likeness, kind="stable")[:ANSWER_SENTENCES].tolist())
    return " ".join(candidates[i] for i in best)


def pieces(text: str) -> Iterator[str]:
    """The words of a text, each with the space before it: joined they are the text again."""
    for index, word in enumerate(text.split(" ")):
        yield word if index == 0 else f" {word}"
