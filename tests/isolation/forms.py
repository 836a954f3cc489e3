"""What a stranger may write instead of an id: the same mistake made with any id. Pure."""

from __future__ import annotations

import base64
import random
import re
import string
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

UUID_TEXT: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
PLAIN: Final = "plain"
_ALIEN_DIGITS: Final = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
_WIDE: Final = {ord(mark): ord(mark) + 0xFEE0 for mark in string.ascii_letters + string.digits}
"""Of every letter and digit, or a twin that has none of those widened would be a plain id."""

TEXT_FORMS: Final[dict[str, Callable[[str], str]]] = {
    "truncated": lambda value: value[:-1],
    "half": lambda value: value[: len(value) // 2],
    "longer": lambda value: value + "0",
    "twice": lambda value: value + value,
    "overlong": lambda value: (value + "-") * 64,
    "alphabet": lambda value: "g" + value[1:],
    "upper case": str.upper,
    "braced": lambda value: "{" + value + "}",
    "urn": lambda value: "urn:uuid:" + value,
    "no hyphens": lambda value: value.replace("-", ""),
    "quoted": lambda value: f'"{value}"',
    "sql": lambda value: value + "' OR '1'='1",
    "wildcard": lambda value: value[:-1] + "%",
    "space": lambda value: " " + value,
    "line end": lambda value: value + "\n",
    "nul": lambda value: value + "\0",
    "nul inside": lambda value: value[:4] + "\0" + value[4:],
    "arabic digits": lambda value: value.translate(_ALIEN_DIGITS),
    "wide": lambda value: value.translate(_WIDE),
    "combining": lambda value: value + "\u0301",
    "joiner": lambda value: value[:3] + "\u200b" + value[3:],
    "negative": lambda value: "-" + value,
    "dots": lambda value: "../" + value,
    "dot": lambda value: "./" + value,
    "slash": lambda value: value + "/",
    "two slashes": lambda value: "/" + value,
    "deeper": lambda value: value + "/" + value,
    "matrix parameter": lambda value: value + ";v=1",
    "percent": lambda value: "".join(f"%{byte:02x}" for byte in value.encode()),
    "list": lambda value: f"{value},{value}",
    "suffix": lambda value: value + ".json",
    "base64": lambda value: base64.urlsafe_b64encode(value.encode()).decode().rstrip("="),
    "empty": lambda value: "",
}
"""Of any id as text. `percent` is the text of an encoded id, and so is encoded twice on its way."""

PATH_FORMS: Final[dict[str, Callable[[str], str]]] = {
    "all encoded": lambda value: "".join(f"%{byte:02X}" for byte in value.encode()),
    "raw dots": lambda value: "../" + value,
    "raw dots behind": lambda value: value + "/..",
    "raw slash": lambda value: value + "/",
    "raw two slashes": lambda value: "/" + value,
    "half an encoding": lambda value: value + "%",
    "not utf-8": lambda value: value + "%ff%fe",
    "overlong utf-8": lambda value: value + "%c0%af",
    "encoded slash": lambda value: value + "%2f",
    "query mark": lambda value: value + "?",
    "fragment": lambda value: value + "%23x",
}
"""Of an id as it stands in a request's path, sent as it is."""

JSON_FORMS: Final[dict[str, Callable[[str], Any]]] = {
    "in a list": lambda value: [value],
    "in an object": lambda value: {"$ne": value},
    "as a number": lambda value: int(value.replace("-", ""), 16) % 2**63 if _is_uuid(value) else 7,
    "null": lambda value: None,
    "true": lambda value: True,
    "no number": lambda value: 1e308,
}
"""Of an id in a JSON body."""

NUMBER_FORMS: Final[dict[str, Callable[[int], Any]]] = {
    "negative": lambda value: -value,
    "zero": lambda value: 0,
    "text": str,
    "fraction": lambda value: value + 0.5,
    "as a float": float,
    "past 32 bits": lambda value: value + 2**32,
    "past 53 bits": lambda value: value + 2**53,
    "past 64 bits": lambda value: value + 2**64,
    "in a list": lambda value: [value],
    "null": lambda value: None,
    "true": lambda value: True,
}
"""Of a number that names something."""


def _is_uuid(text: str) -> bool:
    return UUID_TEXT.fullmatch(text) is not None


def in_path(form: str, value: str) -> str:
    """How the id is written in a request's target."""
    if form in PATH_FORMS:
        return PATH_FORMS[form](value)
    return quote(value if form == PLAIN else TEXT_FORMS[form](value), safe="")


def in_text(form: str, value: str) -> str:
    """How it is written where any text may stand."""
    return TEXT_FORMS[form](value) if form in TEXT_FORMS else value


def in_json(form: str, value: str) -> Any:
    """How it is written in a JSON body."""
    return JSON_FORMS[form](value) if form in JSON_FORMS else in_text(form, value)


def twin(value: str, draw: random.Random) -> str:
    """An id that never was, of the very shape of `value`: the same length, hyphens where it has some."""
    if _is_uuid(value):
        return str(UUID(int=draw.getrandbits(128), version=4))
    if value.startswith("offer_"):
        return f"offer_{draw.getrandbits(128):032x}"
    while (made := "".join(_like(mark, draw) for mark in value)) == value:
        if not any(mark.isalnum() for mark in value):
            raise ValueError("an id without a letter or digit has no twin")
    return made


def neighbour(value: str, draw: random.Random) -> str:
    """A twin that nothing can lie between: only its last characters are others."""
    if _is_uuid(value):
        return str(UUID(int=UUID(value).int ^ draw.randrange(1, 2**16)))
    return value[:-4] + twin(value[-4:], draw)


def _like(mark: str, draw: random.Random) -> str:
    if mark.isdigit():
        return draw.choice("0123456789")
    if mark.isalpha():
        letter = draw.choice("abcdefghijklmnopqrstuvwxyz")
        return letter.upper() if mark.isupper() else letter
    return mark
