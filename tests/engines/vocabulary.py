"""`tiktoken` itself as the oracle, without a download.

The crate carries the vocabularies. `tiktoken` takes them from its cache directory and compares each with the
SHA-256 that it knows, so that it counts with the original.
"""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest
import tiktoken

DATA = Path(__file__).parents[2] / "crates/heidrun/data"
ENCODINGS = ("o200k_base", "cl100k_base")


def fill_cache(directory: Path) -> None:
    """Put the vocabularies where `tiktoken` looks for them."""
    for name in ENCODINGS:
        address = f"https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
        content = gzip.decompress((DATA / f"{name}.tiktoken.gz").read_bytes())
        (directory / hashlib.sha1(address.encode()).hexdigest()).write_bytes(content)


@pytest.fixture(scope="session")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tiktoken.Encoding]:
    """The encodings of `tiktoken` by name."""
    directory = tmp_path_factory.mktemp("vocabularies")
    fill_cache(directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(directory))
        return {name: tiktoken.get_encoding(name) for name in ENCODINGS}
