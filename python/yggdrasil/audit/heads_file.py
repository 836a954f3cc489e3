"""Signed heads outside of the database: a file of JSON lines that is only ever added to.

What the database's own heads cannot show, that a chain's end was cut off together with its heads, shows here.
The file is opened anew for every write, so that it can be rotated.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from yggdrasil.audit.chain import Head
from yggdrasil.errors import ConfigurationError

HEADS_FILE: Final = "audit_heads.jsonl"
"""Its name in `data_dir`, if no setting names another."""
LINES_MAX: Final = 2_000_000
"""That are read: above it, verify the parts of a rotated file one by one."""
LINE_BYTES_MAX: Final = 1024
_TORN: Final = b"#torn\n"
"""Ends a line of which a crash wrote the beginning only."""


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    network_id: UUID
    number: int
    hash: str
    at: datetime
    key_id: str
    signature: str


def line(head: Head) -> bytes:
    """A head as one line."""
    written = _Line(head.network_id, head.number, head.hash.hex(), head.at, head.key_id, head.signature.hex())
    return msgspec.json.encode(written) + b"\n"


def parse(text: bytes) -> Head:
    """The head of a line. ValueError if it is none."""
    try:
        said = msgspec.json.decode(text, type=_Line)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None
    if said.at.tzinfo is None:
        raise ValueError("a time without a zone")
    return Head(
        said.network_id,
        said.number,
        bytes.fromhex(said.hash),
        said.at,
        said.key_id,
        bytes.fromhex(said.signature),
    )


class HeadsFile:
    """The file at `path`; it and its directory are made, for this user alone."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, heads: Sequence[Head]) -> None:
        """Durable when it returns. Errors: OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "r+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            torn = b""
            if size:
                file.seek(size - 1)
                torn = b"" if file.read(1) == b"\n" else _TORN
            left = memoryview(torn + b"".join(map(line, heads)))
            while left:
                left = left[file.write(left) or 0 :]
            os.fsync(file.fileno())

    def last(self) -> Head | None:
        """The last head that was written whole; None if there is none, or no file."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - 64 * LINE_BYTES_MAX))
                ends = file.read().split(b"\n")[:-1]
        except FileNotFoundError:
            return None
        for text in reversed(ends):
            try:
                return parse(text)
            except ValueError:
                continue
        return None


def read(path: Path) -> Iterator[Head]:
    """All heads of a file. Errors: ConfigurationError for a file that cannot be read, or a line that is no
    head and was not torn by a crash."""
    try:
        with path.open("rb") as file:
            for number, text in enumerate(iter(lambda: file.readline(LINE_BYTES_MAX), b""), start=1):
                if number > LINES_MAX:
                    raise ConfigurationError(f"heads: {path} has over {LINES_MAX} lines: verify its parts")
                # A crash, now or long ago, wrote the beginning only.
                if text.endswith(_TORN) or not text.endswith(b"\n"):
                    continue
                try:
                    yield parse(text)
                except ValueError:
                    raise ConfigurationError(f"heads: line {number} of {path} is no head") from None
    except OSError as error:
        raise ConfigurationError(f"heads: cannot read {path}: {error.strerror}") from None
