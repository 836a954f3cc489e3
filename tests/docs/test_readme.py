"""The README is true: its library examples run, and its commands, settings and links exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from yggdrasil.commands import app
from yggdrasil.config import Settings

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_library_example_runs() -> None:
    engines = [block for block in BLOCKS if "from yggdrasil import" in block]
    assert len(engines) == 1
    exec(compile(engines[0], "README.md", "exec"), {})


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z-]+)", README))))
def test_a_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", sorted(set(re.findall(r"^yggdrasil ([a-z]+)", README, re.MULTILINE))))
def test_a_command_exists(command: str) -> None:
    assert command in list(app)


def test_the_settings_exist() -> None:
    table = README[README.index("| setting") : README.index("The only payment gateway")]
    named = {name.lower() for name in re.findall(r"`([A-Z][A-Z_]+)`", table)}
    assert len(named) > 10
    assert named <= set(Settings.__struct_fields__)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_a_link_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()
