"""The demonstration's input: passages of Python's own documentation, and questions about them. Pure."""

from __future__ import annotations

import re
from pydoc_data.topics import topics
from typing import Final

WORDS_MIN: Final = 25
WORDS_MAX: Final = 70

QUESTIONS: Final = (
    "What happens when an assert statement fails?",
    "How does the break statement leave a loop?",
    "When is the finally clause of a try statement executed?",
    "What does the global statement declare?",
    "How are default parameter values of a function evaluated?",
    "What is the difference between is and ==?",
    "How do I import a name under another name?",
    "What does yield do inside a function?",
    "How does a with statement call a context manager?",
    "What does the del statement remove?",
    "How are keyword arguments passed in a call?",
    "What is a lambda expression?",
    "How does the debugger pdb set a breakpoint?",
    "What does the __new__ method do?",
    "How does slicing select items of a sequence?",
    "How are integers written in hexadecimal?",
    "What does raise without an expression do?",
    "How are formatted string literals evaluated?",
    "What is a metaclass used for?",
    "How do conditional expressions choose a value?",
    "What does the nonlocal statement do?",
    "How does a descriptor intercept attribute access?",
    "Which values are considered false?",
    "How does a for loop use its else clause?",
    "What does await suspend?",
    "How does pattern matching compare a value with a case?",
)


def passages(count: int) -> list[str]:
    """`count` different passages of 25 to 70 words, evenly from all topics; always the same ones."""
    if count < 1:
        raise ValueError("passages: count must be 1 or more")
    found: dict[str, None] = {}
    for name in sorted(topics):
        for passage in _split(topics[name]):
            found.setdefault(passage)
    everything = list(found)
    if count > len(everything):
        raise ValueError(f"passages: count must be {len(everything)} or less")
    return [everything[i * len(everything) // count] for i in range(count)]


def sentences(text: str) -> list[str]:
    """A text cut after each full stop, question or exclamation mark; no empty ones."""
    return [part for part in re.split(r"(?<=[.!?])\s+", text.strip()) if part]


def _split(topic: str) -> list[str]:
    passages_here: list[str] = []
    words: list[str] = []
    for block in re.split(r"\n\s*\n", topic):
        # Rules, tables and grammar listings hold no sentence to embed.
        if "::=" in block or re.search(r"[-=*+]{4,}", block):
            continue
        for sentence in sentences(" ".join(block.split())):
            fresh = sentence.split()
            if len(words) + len(fresh) > WORDS_MAX:
                if len(words) >= WORDS_MIN:
                    passages_here.append(" ".join(words))
                words = []
            words += fresh[:WORDS_MAX]
    if len(words) >= WORDS_MIN:
        passages_here.append(" ".join(words))
    return passages_here
