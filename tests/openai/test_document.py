"""`docs/protocol/openai.md` says what becomes of every field, and of every error."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from yggdrasil import errors
from yggdrasil.openai.responses import CreateResponse
from yggdrasil.openai.shapes import ChatCompletion, error_body

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "protocol" / "openai.md").read_text()
CHAT, RESPONSES = DOCUMENT.split("## Responses")


@pytest.mark.parametrize(("kind", "part"), [(ChatCompletion, CHAT), (CreateResponse, RESPONSES)])
def test_the_fate_of_every_field_is_told(kind: type, part: str) -> None:
    told = {name.split(".")[0] for name in re.findall(r"`([a-z_.]+)`", part)}
    # Where wishes travel is said once, at the top.
    told |= set(re.findall(r"`([a-z_.]+)`", DOCUMENT.split("## Chat")[0]))
    missing = set(kind.__struct_fields__) - told - {"model"}  # type: ignore[attr-defined]
    assert not missing


def test_the_type_of_every_error_is_the_one_told() -> None:
    table = {
        status: kind
        for statuses, kind in re.findall(r"^\| ([\d, ]+) \| `(\w+)` \|", DOCUMENT, re.MULTILINE)
        for status in statuses.split(", ")
    }
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.YggdrasilError)
    ]
    assert len(kinds) > 15
    for kind in kinds:
        told = error_body(kind("x", field="f"))["error"] if kind is not errors.ProtocolViolation else None  # type: ignore[call-arg]
        if told is not None and str(kind.status) in table:
            assert told["type"] == table[str(kind.status)], kind
            assert told["code"] == kind.code
    assert {str(kind.status) for kind in kinds} - {"405"} <= set(table)
