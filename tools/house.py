"""Checks of the house that no library knows: file lengths, pins, error pages, users of `_core`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

LINES_MAX = 400
LONG_BY_NATURE = {"python/yggdrasil/_core.pyi"}  # one compiled module has one page of types
CORE_USERS = {"heidrun", "eikthyrnir", "scoring", "bifrost", "wire"}
ROOT = Path(__file__).resolve().parent.parent


def tracked(*patterns: str) -> list[Path]:
    """Files git knows or would take, by pattern."""
    listed = subprocess.run(  # noqa: S603 - fixed arguments
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    return [ROOT / name for name in listed if (ROOT / name).is_file()]


def long_files() -> list[str]:
    return [
        f"{path.relative_to(ROOT)}: {count} lines (over {LINES_MAX}: which two things live in it?)"
        for path in tracked("*.py", "*.rs", "*.pyi", "*.sql")
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > LINES_MAX
        and str(path.relative_to(ROOT)) not in LONG_BY_NATURE
    ]


def addressed_pins() -> list[str]:
    return [
        f"{path.relative_to(ROOT)}: a pin carries an address"
        for path in tracked("requirements/*.txt")
        if re.search(r"https?://|--index-url|--find-links", path.read_text(encoding="utf-8"))
    ]


def unpaged_codes() -> list[str]:
    """Every error code has a page."""
    text = (ROOT / "python/yggdrasil/errors.py").read_text(encoding="utf-8")
    codes = set(re.findall(r'code(?:, [a-z, ]+)?(?:: ClassVar\[str\])? = "([a-z_]+)"', text))
    pages = {code: ROOT / "docs" / "errors" / f"{code}.md" for code in sorted(codes)}
    return [f"docs/errors/{code}.md is missing" for code, page in pages.items() if not page.is_file()]


def compiled_module_users() -> list[str]:
    """Only some rooms import `_core`; import-linter cannot see a compiled module."""
    found = []
    for path in tracked("python/yggdrasil/*.py"):
        room = path.relative_to(ROOT / "python/yggdrasil").parts[0].removesuffix(".py")
        text = path.read_text(encoding="utf-8")
        uses = re.search(
            r"^\s*(from yggdrasil\._core|import yggdrasil\._core|from yggdrasil import .*_core)", text, re.M
        )
        if uses and room not in CORE_USERS:
            found.append(f"{path.relative_to(ROOT)}: imports yggdrasil._core; use the engine's door")
    return found


def main() -> int:
    found = [*long_files(), *addressed_pins(), *unpaged_codes(), *compiled_module_users()]
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
