"""`help()` of everything that the engines' modules export says something."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator

import pytest

MODULES = ("yggdrasil.scoring", "yggdrasil.heidrun", "yggdrasil.eikthyrnir")
LEAST = 20
"""Characters; the shortest true one is longer."""


def described(module: str) -> Iterator[tuple[str, str | None]]:
    """(name, docstring) of each function and class, and of each method and property of the classes."""
    rooms = importlib.import_module(module)
    for name in rooms.__all__:
        thing = getattr(rooms, name)
        if not callable(thing):
            continue
        yield name, thing.__doc__
        if not inspect.isclass(thing):
            continue
        for member, value in vars(thing).items():
            # A plain field is explained by its class.
            field = not callable(value) and not isinstance(value, property | classmethod | staticmethod)
            if not member.startswith("_") and not field:
                yield f"{name}.{member}", getattr(thing, member).__doc__


@pytest.mark.parametrize("module", MODULES)
def test_whatever_is_exported_says_what_it_is(module: str) -> None:
    found = dict(described(module))
    assert len(found) > 5
    silent = [name for name, text in found.items() if len(text or "") < LEAST]
    assert silent == []


def test_the_methods_of_the_router_are_among_them() -> None:
    assert {"Router.pick", "Router.report", "Decision.card"} <= dict(described("yggdrasil.scoring")).keys()
