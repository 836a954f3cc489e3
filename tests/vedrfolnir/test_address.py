"""Where a backend is."""

from __future__ import annotations

import pytest

from yggdrasil.errors import InvalidInput
from yggdrasil.vedrfolnir.address import backend_url


@pytest.mark.parametrize(
    "text", ["localhost:11434", "ftp://x/v1", "http://", "http://x:no/v1", "http://x/v1?a=1"]
)
def test_wrong_backend_urls_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="backend: "):
        backend_url(text)
