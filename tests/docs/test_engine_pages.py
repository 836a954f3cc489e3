"""The examples on the engines' pages are true."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

PAGES = Path(__file__).resolve().parents[2] / "docs" / "engines"


@pytest.mark.parametrize("page", ["choosing.md", "eikthyrnir.md", "scoring.md"])
def test_the_examples_give_what_the_page_says(page: str) -> None:
    failed, tried = doctest.testfile(
        str(PAGES / page),
        module_relative=False,
        optionflags=doctest.ELLIPSIS,
        verbose=False,
    )
    assert tried > 10
    assert failed == 0
