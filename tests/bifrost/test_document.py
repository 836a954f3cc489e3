"""The protocol's page, the core and `wire` say the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from tests.bifrost.transcript import transcript
from yggdrasil import _core
from yggdrasil.bifrost.protocol import HubLimits
from yggdrasil.wire import limits, messages
from yggdrasil.wire.limits import CloseCode, may_reconnect

PAGE = (Path(__file__).parents[2] / "docs" / "protocol" / "bifrost-v1.md").read_text()
FACTS = _core.relay_facts()


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_the_transcript_is_what_the_machines_say() -> None:
    """Regenerate with `python -m tests.bifrost.transcript`."""
    (block,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    assert block == transcript()


@pytest.mark.parametrize(
    ("title", "union"),
    [("Messages from the device", messages.ToServer), ("Messages from the server", messages.ToDevice)],
)
def test_every_message_and_field_is_on_the_page(title: str, union: object) -> None:
    rows = {row[0]: row[1] for row in re.findall(r"^\| `(\w+)` \| (.*)$", section(title), re.MULTILINE)}
    kinds = get_args(union)
    assert set(rows) == {kind.__struct_config__.tag for kind in kinds}
    for kind in kinds:
        for field in msgspec.structs.fields(kind):
            if (title, field.encode_name) != ("Messages from the server", "completion_tokens"):
                assert f"`{field.encode_name}`" in rows[kind.__struct_config__.tag], (kind, field)


def test_close_codes_agree_in_core_wire_and_page() -> None:
    known = dict(FACTS["close_codes"])
    assert set(known) == {int(code) for code in CloseCode}
    rows = re.findall(r"^\| (\d{4}) \| ([^|]+) \| [^|]+ \| (.+) \|$", section("Close codes"), re.MULTILINE)
    assert {int(code): reason for code, reason, _ in rows} == known
    for code, _, rule in rows:
        assert may_reconnect(int(code)) == (rule == "dial again")
    assert all(len(reason) <= 123 for reason in known.values())


def test_transitions_are_on_the_page() -> None:
    for title, table in (("The handshake", "session_transitions"), ("Links and credit", "link_transitions")):
        rows = re.findall(r"^\| ([\w ]+) \| (\w+) \| ([\w()]+) \|$", section(title), re.MULTILINE)
        assert rows[1:] == [tuple(row) for row in FACTS[table]]


def test_limits_agree_in_core_and_wire() -> None:
    same = {
        "message_bytes_max": limits.MESSAGE_BYTES_MAX,
        "opaque_bytes_max": limits.OPAQUE_BYTES_MAX,
        "window_bytes": limits.WINDOW_BYTES,
        "frame_cost_bytes_min": limits.FRAME_COST_BYTES_MIN,
        "body_bytes_max": limits.BODY_BYTES_MAX,
        "token_bytes_max": limits.TOKEN_BYTES_MAX,
        "name_chars_max": limits.NAME_CHARS_MAX,
        "text_chars_max": limits.TEXT_CHARS_MAX,
        "deadline_ms_max": limits.DEADLINE_MS_MAX,
        "devices_max": 1_000,
    }
    assert {name: FACTS[name] for name in same} == same
    assert set(FACTS) - set(same) == {"close_codes", "session_transitions", "link_transitions"}
    defaults = HubLimits()
    assert defaults.hello_ms == limits.HELLO_SECONDS * 1000
    assert defaults.heartbeat_ms == limits.HEARTBEAT_SECONDS * 1000
    assert defaults.pong_ms == limits.PONG_SECONDS * 1000


def test_every_setting_of_the_hub_is_one_of_the_core() -> None:
    _core.Relay(**HubLimits().settings())
    for bad in ({"links_min": 1}, {"links_max": 0}, {"links_max": -1}, {"links_max": 2**32}):
        with pytest.raises(ValueError, match="links_"):
            _core.Relay(**bad)
