"""`tiktoken` itself as the oracle, without a download."""

from __future__ import annotations

import pytest
import tiktoken
from benches.engines.vocabularies import ENCODINGS, fill_cache


@pytest.fixture(scope="session")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tiktoken.Encoding]:
    """The encodings of `tiktoken` by name."""
    directory = tmp_path_factory.mktemp("vocabularies")
    fill_cache(directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(directory))
        return {name: tiktoken.get_encoding(name) for name in ENCODINGS}
