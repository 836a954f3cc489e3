"""Text to HTML: the little of Markdown that our docstrings and error pages use. No I/O."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from functools import cache
from importlib.resources import files
from typing import Final

_CODE: Final = re.compile(r"`([^`]+)`")
_STRONG: Final = re.compile(r"\*\*(.+?)\*\*")
_LINK: Final = re.compile(r"\[([^\]]+)\]\((/[A-Za-z0-9/_#.-]*)\)")


def inline(text: str) -> str:
    """`code`, **strong** and [links](/here) within a line; everything else is text."""
    pieces = _CODE.split(text)
    for index, piece in enumerate(pieces):
        escaped = html.escape(piece)
        if index % 2:
            pieces[index] = f"<code>{escaped}</code>"
        else:
            pieces[index] = _LINK.sub(r'<a href="\2">\1</a>', _STRONG.sub(r"<strong>\1</strong>", escaped))
    return "".join(pieces)


def blocks(text: str) -> str:
    """Paragraphs, headings (`#`) and lists (`- `), with an empty line between."""
    made = []
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = block.splitlines()
        if lines and lines[0].startswith("# "):
            made.append(f"<h1>{inline(lines[0][2:])}</h1>")
        elif lines and all(line.startswith(("- ", "  ")) for line in lines):
            items = re.split(r"\n(?=- )", block)
            made.append("<ul>" + "".join(f"<li>{inline(_joined(item[2:]))}</li>" for item in items) + "</ul>")
        else:
            made.append(f"<p>{inline(_joined(block))}</p>")
    return "\n".join(made)


def _joined(text: str) -> str:
    return " ".join(text.split())


@cache
def style() -> str:
    return (files(__package__) / "style.css").read_text(encoding="utf-8")


@cache
def headers() -> dict[str, str]:
    """What a browser may do with these pages: show them, in our style, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(style().encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    )
    return {
        "content-security-policy": policy,
        "cache-control": "no-cache",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }


def page(title: str, body: str) -> str:
    """A whole document; `body` is HTML."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{style()}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
