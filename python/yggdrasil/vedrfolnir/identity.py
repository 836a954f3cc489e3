"""What a device keeps on disk: its key, its session, its names. One JSON file only its owner can read.

The file is replaced whole (write beside it, fsync, rename): a crash leaves the old or the new one, never
half.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final
from uuid import UUID

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Meta

from yggdrasil.errors import ConfigurationError
from yggdrasil.kernel import IdSource
from yggdrasil.wire.proof import decode_bytes, encode_bytes

KEY_BYTES: Final = 32
FILE_BYTES_MAX: Final = 64 * 1024
MODE: Final = 0o600
VERSION: Final = 1


class Session(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A sign-in. `access_expires_at_seconds` is Unix time."""

    user_id: UUID
    network_id: UUID
    session_id: UUID
    role: str
    refresh_token: str
    access_token: str
    access_expires_at_seconds: float


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole state of a device. `device_key` is the private half (32 bytes, base64url)."""

    server_url: str
    device_key: str
    device_id: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+\Z")]
    version: Annotated[int, Meta(ge=VERSION, le=VERSION)] = VERSION
    email: str | None = None
    device: UUID | None = None
    provider: UUID | None = None
    session: Session | None = None

    @classmethod
    def new(cls, server_url: str, device_id: str, ids: IdSource) -> Identity:
        """A device with a fresh key and no session yet."""
        return cls(server_url=server_url, device_key=encode_bytes(ids.secret(KEY_BYTES)), device_id=device_id)

    def private_key(self) -> Ed25519PrivateKey:
        """The device's key."""
        return Ed25519PrivateKey.from_private_bytes(decode_bytes(self.device_key, KEY_BYTES, "device_key"))

    def public_key(self) -> str:
        """The public half as it travels: 32 bytes, base64url."""
        return encode_bytes(self.private_key().public_key().public_bytes_raw())

    def sign(self, message: bytes) -> str:
        """An Ed25519 signature as it travels: 64 bytes, base64url."""
        return encode_bytes(self.private_key().sign(message))

    def __repr__(self) -> str:
        """Without its secrets: a traceback or log may print this."""
        return f"Identity(server_url={self.server_url!r}, device_id={self.device_id!r})"


class IdentityFile:
    """The file of one device. Several processes may share it: change it inside `locked()`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Identity | None:
        """The identity, or None if there is no file. ConfigurationError if it is broken or open to others."""
        try:
            with self.path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                raw = file.read(FILE_BYTES_MAX + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigurationError(f"{self.path}: {error.strerror}") from error
        if os.name == "posix" and mode & 0o077:
            raise ConfigurationError(f"{self.path}: others may read these keys; run: chmod 600 {self.path}")
        if len(raw) > FILE_BYTES_MAX:
            raise ConfigurationError(f"{self.path}: over {FILE_BYTES_MAX} bytes, so it is no identity file")
        try:
            identity = msgspec.json.decode(raw, type=Identity)
            identity.private_key()
        except (msgspec.MsgspecError, ValueError) as error:
            raise ConfigurationError(f"{self.path}: no identity file ({error})") from error
        return identity

    def save(self, identity: Identity) -> None:
        """Replace the file in one step; readable by its owner alone from its first byte."""
        raw = msgspec.json.format(msgspec.json.encode(identity), indent=2)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # mkstemp makes the file 0600.
            handle, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
        except OSError as error:
            raise ConfigurationError(f"{self.path}: {error.strerror}") from error
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out while the file is read, changed and written. Blocks; ends with the
        process.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = self.path.with_name(f".{self.path.name}.lock")
        with lock.open("a+b") as file:
            _lock(file.fileno())
            yield


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
