"""The command `yggdrasil`. `--version` loads nothing, and what is not installed is named with its remedy."""

from __future__ import annotations

import sys

from yggdrasil import __version__


def main() -> None:
    """Entry point of the script."""
    if sys.argv[1:] == ["--version"]:
        print(__version__)
        return
    try:
        from yggdrasil.commands import app
    except ModuleNotFoundError as missing:
        sys.exit(
            f"yggdrasil: {missing.name} is not installed: pip install 'edda-yggdrasil[client]' or '[server]'"
        )
    from yggdrasil.errors import YggdrasilError

    try:
        app()
    except YggdrasilError as error:
        sys.exit(f"yggdrasil: {error.detail}")
    except KeyboardInterrupt:
        sys.exit(130)
