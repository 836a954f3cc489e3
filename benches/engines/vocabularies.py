"""The vocabularies of `tiktoken` without a download: the crate carries them."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Final

DATA: Final = Path(__file__).parents[2] / "crates/heidrun/data"
ENCODINGS: Final = ("o200k_base", "cl100k_base")


def fill_cache(directory: Path) -> None:
    """Put them where `tiktoken` looks if its `TIKTOKEN_CACHE_DIR` is that directory.

    It compares each with the SHA-256 that it knows, so that it counts with the original.
    """
    for name in ENCODINGS:
        address = f"https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
        content = gzip.decompress((DATA / f"{name}.tiktoken.gz").read_bytes())
        (directory / hashlib.sha1(address.encode(), usedforsecurity=False).hexdigest()).write_bytes(content)
