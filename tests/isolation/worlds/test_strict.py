"""An attacker cannot tell the two worlds of `strict` apart."""

from __future__ import annotations

from tests.isolation.worlds.slice import check
from tests.isolation.worlds.stage import Stage


def test_the_worlds_cannot_be_told_apart(on: Stage) -> None:
    check(on, "strict")
