"""Puts docs/errors/*.md into the package, so that a wheel can show them at `/docs/errors/CODE`.

`python tools/error_pages.py` after a page has changed; a test holds the two against each other.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PACKED: Final = ROOT / "python" / "yggdrasil" / "reference" / "error_pages.json"


def packed() -> str:
    """What the file must be."""
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "errors").glob("*.md")}
    return json.dumps(dict(sorted(pages.items())), ensure_ascii=False, indent=1) + "\n"


if __name__ == "__main__":
    PACKED.write_text(packed(), encoding="utf-8")
