"""The server's keys: files of lines `key_id:base64 of 32 bytes`; the first line signs and seals, the others
still verify.

Rotate by putting a new line on top. In development the files are made once, mode 0600, in `data_dir/keys`,
apart from the
database; production refuses that (config.check_settings).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from yggdrasil.errors import ConfigurationError

if TYPE_CHECKING:
    from yggdrasil.config import Settings

KEY_BYTES: Final = 32
KEY_NAMES: Final = (
    "token_signing",
    "key_encryption",
    "pseudonym",
    "blind_index",
    "database_role",
    "code_pepper",
    "audit_signing",
)
KEYS_IN_RING_MAX: Final = 16
KEY_FILE_BYTES_MAX: Final = 16 * 1024
_KEY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,16}")


@dataclass(frozen=True, slots=True)
class Key:
    """32 secret bytes with a name that may be public."""

    key_id: str
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if _KEY_ID.fullmatch(self.key_id) is None:
            raise ConfigurationError("key_id: 1 to 16 characters A-Z, a-z, 0-9, '_', '-'", field="key_id")
        if len(self.secret) != KEY_BYTES:
            raise ConfigurationError(f"key {self.key_id}: must be {KEY_BYTES} bytes", field="key_id")

    def derive(self, label: str) -> bytes:
        """32 bytes for one purpose: HMAC-SHA256(secret, label)."""
        return hmac.new(self.secret, label.encode(), hashlib.sha256).digest()


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys of one purpose.

    `current` is used for new things; the others only for what is there already.
    """

    keys: tuple[Key, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.keys) <= KEYS_IN_RING_MAX:
            raise ConfigurationError(f"a key file holds 1 to {KEYS_IN_RING_MAX} keys")
        if len({key.key_id for key in self.keys}) != len(self.keys):
            raise ConfigurationError("a key file names each key id once")

    @property
    def current(self) -> Key:
        return self.keys[0]

    def by_id(self, key_id: str) -> Key | None:
        return next((key for key in self.keys if key.key_id == key_id), None)


@dataclass(frozen=True, slots=True)
class Keys:
    """All rings. `token_signing` and `audit_signing` hold Ed25519 private seeds."""

    token_signing: KeyRing
    key_encryption: KeyRing
    pseudonym: KeyRing
    blind_index: KeyRing
    database_role: KeyRing
    code_pepper: KeyRing
    audit_signing: KeyRing

    @classmethod
    def generate(cls, secret: Callable[[int], bytes], key_id: str = "k1") -> Keys:
        """One fresh key for each purpose; `secret` gives random bytes."""
        return cls(**{name: KeyRing((Key(key_id, secret(KEY_BYTES)),)) for name in KEY_NAMES})

    def role_password(self, role: str) -> str:
        """The password of a database role: derived, so that it is stored nowhere."""
        return (
            base64.urlsafe_b64encode(self.database_role.current.derive(f"database role {role}"))
            .decode()
            .rstrip("=")
        )


def load_keys(settings: Settings, secret: Callable[[int], bytes] = os.urandom) -> Keys:
    """The rings from their files; in development a missing file is made.

    Errors: ConfigurationError naming the setting; never the content.
    """
    rings: dict[str, KeyRing] = {}
    for name in KEY_NAMES:
        setting = f"{name}_key_file"
        path: Path | None = getattr(settings, setting)
        if path is None:
            if settings.production:
                raise ConfigurationError(
                    f"{setting}: production refuses generated keys: name a file", field=setting
                )
            path = settings.data_dir.absolute() / "keys" / f"{name}.key"
            if not path.exists():
                _write_new(path, f"k1:{base64.b64encode(secret(KEY_BYTES)).decode()}\n")
        rings[name] = _read_ring(path, setting)
    return Keys(**rings)


def _write_new(path: Path, content: str) -> None:
    # 0711: the database's user passes through data_dir to its own directory, and lists nothing on the way.
    path.parent.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    scratch = path.with_suffix(f".{os.getpid()}.new")
    handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        try:
            os.link(scratch, path)  # fails if another process was first: its key stands
        except FileExistsError:
            return
    finally:
        scratch.unlink()


def _read_ring(path: Path, setting: str) -> KeyRing:
    try:
        status = path.stat()
        content = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise ConfigurationError(f"{setting}: cannot read {path}: {reason}", field=setting) from None
    if status.st_mode & 0o007:
        raise ConfigurationError(
            f"{setting}: {path} must not be open to other users (mode 0600)", field=setting
        )
    if len(content) > KEY_FILE_BYTES_MAX:
        raise ConfigurationError(f"{setting}: {path} is over {KEY_FILE_BYTES_MAX} bytes", field=setting)
    keys: list[Key] = []
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        key_id, separator, encoded = line.strip().partition(":")
        try:
            raw = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            raw = b""
        if not separator or len(raw) != KEY_BYTES or _KEY_ID.fullmatch(key_id) is None:
            raise ConfigurationError(
                f"{setting}: line {number} of {path} must be key_id:base64 of {KEY_BYTES} bytes",
                field=setting,
            )
        keys.append(Key(key_id, raw))
    try:
        return KeyRing(tuple(keys))
    except ConfigurationError as error:
        raise ConfigurationError(f"{setting}: {path}: {error.detail}", field=setting) from None
