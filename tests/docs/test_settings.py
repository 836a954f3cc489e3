"""The reference of the settings is that of the class, and says something of each of them."""

from __future__ import annotations

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from yggdrasil.config import Settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = spec_from_file_location("settings_reference", ROOT / "tools/settings_reference.py")
    assert spec is not None
    assert spec.loader is not None
    made = module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_page_is_fresh(tool: ModuleType) -> None:
    assert tool.PAGE.read_text(encoding="utf-8") == tool.reference(), "run python tools/settings_reference.py"


def test_each_setting_has_its_words(tool: ModuleType) -> None:
    texts = tool.described(Settings)
    assert set(texts) == set(Settings.__struct_fields__)
    assert all(re.fullmatch(r"\S.*\.", text) and "|" not in text for text in texts.values())


def test_a_name_in_the_words_is_a_setting(tool: ModuleType) -> None:
    named = {name for text in tool.described(Settings).values() for name in re.findall(r"`([a-z_]+)`", text)}
    assert named - {"production"} <= set(Settings.__struct_fields__)
