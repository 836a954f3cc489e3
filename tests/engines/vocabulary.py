"""`tiktoken` itself as the oracle, without a download.

Cargo has already fetched the vocabularies with the crate that carries them. `tiktoken` takes them from its
cache directory and compares each with the SHA-256 that it knows, so that it counts with the original.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
from functools import cache
from pathlib import Path

import pytest
import tiktoken

REPOSITORY = Path(__file__).parents[2]
ENCODINGS = ("o200k_base", "cl100k_base")


@cache
def crate_data() -> Path:
    """The data directory of the crate `bpe-openai` on this machine."""
    command = ["cargo", "metadata", "--format-version=1", "--locked", "--offline"]
    answer = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, timeout=60)
    packages = json.loads(answer.stdout)["packages"]
    manifest = next(package["manifest_path"] for package in packages if package["name"] == "bpe-openai")
    return Path(manifest).parent / "data"


def fill_cache(directory: Path) -> None:
    """Put the vocabularies where `tiktoken` looks for them."""
    for name in ENCODINGS:
        address = f"https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
        content = gzip.decompress((crate_data() / f"{name}.tiktoken.gz").read_bytes())
        (directory / hashlib.sha1(address.encode()).hexdigest()).write_bytes(content)


@pytest.fixture(scope="session")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tiktoken.Encoding]:
    """The encodings of `tiktoken` by name."""
    directory = tmp_path_factory.mktemp("vocabularies")
    fill_cache(directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(directory))
        return {name: tiktoken.get_encoding(name) for name in ENCODINGS}
