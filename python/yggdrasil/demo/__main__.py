"""`python -m yggdrasil.demo`: what `make demo` runs.

BACKEND=URL has the chats answered by an OpenAI-compatible server of yours (MODEL=NAME, else its first
model); KEEP=1 leaves the server up; PICTURE=FILE.svg draws the end.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from rich.markup import escape

from yggdrasil.demo.extract import CHAT_MODEL
from yggdrasil.demo.minilm import MODEL_NAME, model_directory
from yggdrasil.demo.progress import Show
from yggdrasil.demo.story import Options, tell
from yggdrasil.errors import YggdrasilError


def main() -> int:
    """Play it; 0 only if the books balance."""
    picture = os.environ.get("PICTURE")
    build = Path(os.environ.get("BUILD_DIR", "build"))
    options = Options(
        build=build.resolve(),
        backend=os.environ.get("BACKEND") or None,
        chat_model=os.environ.get("MODEL") or None,
        keep=os.environ.get("KEEP", "") not in ("", "0"),
        picture=Path(picture) if picture else None,
    )
    show = Show()
    try:
        model_directory()
        chat = options.backend or f"{CHAT_MODEL} (BACKEND=URL for a real one)"
        show.console.print(
            "A fresh server on its own PostgreSQL, five networks, three of them selling compute.\n"
            "Every client is a process of its own on real sockets. From here on nothing is downloaded.\n"
            f"Embeddings: {MODEL_NAME}. Chat: {chat}.\nLogs: {build}/demo/logs.\n"
        )
        return asyncio.run(tell(options, show))
    except (YggdrasilError, TimeoutError) as error:
        show.console.print(f"[red]failed:[/red] {escape(str(error) or type(error).__name__)}")
        return 1
    except KeyboardInterrupt:
        return 0 if options.keep else 130
    finally:
        if options.picture is not None:
            show.picture(options.picture)


if __name__ == "__main__":
    sys.exit(main())
