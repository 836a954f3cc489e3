"""The operator's upstreams: a TOML file that names OpenAI-compatible servers, their models and their prices.

[[upstream]]
name = "cloud"
base_url = "https://llm.example.org/v1"
key_file = "cloud.key"             # beside this file, mode 0600; none if the server asks none
capacity_jobs = 64

[[upstream.models]]
model = "large"                    # as requesters ask for it
upstream_model = "vendor/large-3"  # as the server calls it, if otherwise
kind = "chat"
price_cents = 2
price_unit_tokens = 1000
context_tokens_max = 131072
supported_parameters = ["tools", "tool_choice", "response_format", "seed"]
"""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from yggdrasil.errors import ConfigurationError, InvalidInput
from yggdrasil.marketplace import parameters
from yggdrasil.marketplace.requests import MODEL_LENGTH_MAX, PRICE_CENTS_MAX, Kind
from yggdrasil.vedrfolnir.address import backend_url, is_loopback

FILE_BYTES_MAX: Final = 1024 * 1024
KEY_BYTES_MAX: Final = 4 * 1024

ModelName = Annotated[str, Meta(min_length=1, max_length=MODEL_LENGTH_MAX, pattern=r"^[\x21-\x7e]+\Z")]
UpstreamName = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+\Z")]


class UpstreamModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an upstream offers of one model, and for how much."""

    model: ModelName
    upstream_model: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    kind: Kind = "chat"
    price_cents: Annotated[int, Meta(ge=0, le=PRICE_CENTS_MAX)]
    price_unit_tokens: Literal[1_000, 1_000_000] = 1_000
    rounding: Literal["per_request", "per_statement"] = "per_request"
    context_tokens_max: Annotated[int, Meta(ge=1, le=100_000_000)]
    supported_parameters: Annotated[list[str], Meta(max_length=64)] = []

    @property
    def name_there(self) -> str:
        return self.upstream_model or self.model


class Upstream(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One OpenAI-compatible server. `plaintext` allows http beyond this machine."""

    name: UpstreamName
    base_url: Annotated[str, Meta(min_length=1, max_length=2_048)]
    key_file: str | None = None
    plaintext: bool = False
    capacity_jobs: Annotated[int, Meta(ge=1, le=1_024)] = 64
    health_seconds: Annotated[float, Meta(ge=0.01, le=3_600)] = 15.0
    models: Annotated[list[UpstreamModel], Meta(min_length=1, max_length=256)]


class UpstreamsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    upstream: Annotated[list[Upstream], Meta(min_length=1, max_length=64)]


class KeyedUpstream:
    """An upstream with its key. The key is in no repr and no message."""

    def __init__(self, settings: Upstream, api_key: str | None) -> None:
        self.settings = settings
        self.api_key = api_key

    def __repr__(self) -> str:
        return f"KeyedUpstream({self.settings.name})"


def load_upstreams(path: Path) -> list[KeyedUpstream]:
    """What the file at `path` says, with the keys read. ConfigurationError names the field and its rule."""
    raw = _toml(path)
    try:
        file = msgspec.convert(raw, UpstreamsFile)
    except msgspec.ValidationError as error:
        raise _refused(path, str(error)) from None
    names = [upstream.name for upstream in file.upstream]
    if len(set(names)) != len(names):
        raise _refused(path, "upstream.name: must be given once each")
    for upstream in file.upstream:
        offered = [(model.kind, model.model) for model in upstream.models]
        if len(set(offered)) != len(offered):
            raise _refused(path, f"upstream {upstream.name}: must list each model once")
        _check_url(path, upstream)
        for model in upstream.models:
            try:
                parameters.check(model.kind, model.supported_parameters)
            except InvalidInput as error:
                raise _refused(path, f"upstream {upstream.name}: {model.model}: {error.detail}") from None
    return [KeyedUpstream(upstream, _key(path, upstream)) for upstream in file.upstream]


def _toml(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _refused(path, f"cannot be read: {error.strerror}") from None
    if len(content) > FILE_BYTES_MAX:
        raise _refused(path, f"must be at most {FILE_BYTES_MAX} bytes")
    try:
        return tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _refused(path, f"is not TOML: {error}") from None


def _check_url(path: Path, upstream: Upstream) -> None:
    try:
        url = backend_url(upstream.base_url)
    except InvalidInput:
        raise _refused(
            path, f"upstream {upstream.name}: base_url: must be such as https://llm.example.org/v1"
        ) from None
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise _refused(path, f"upstream {upstream.name}: base_url: a key belongs into key_file")
    if parts.scheme != "https" and not upstream.plaintext and not is_loopback(url):
        raise _refused(
            path,
            f"upstream {upstream.name}: base_url: must be https beyond this machine (prompts travel on it),"
            " or plaintext = true",
        )


def _key(path: Path, upstream: Upstream) -> str | None:
    if upstream.key_file is None:
        return None
    field = f"upstream {upstream.name}: key_file"
    file = path.parent / upstream.key_file
    try:
        if stat.S_IMODE(file.stat().st_mode) & 0o007:
            raise _refused(path, f"{field}: must not be open to other users (chmod 600)")
        content = file.read_bytes()
    except OSError as error:
        raise _refused(path, f"{field}: cannot be read: {error.strerror}") from None
    key = content.strip()
    if not 1 <= len(key) <= KEY_BYTES_MAX or not all(0x21 <= byte <= 0x7E for byte in key):
        raise _refused(path, f"{field}: must hold one key of 1 to {KEY_BYTES_MAX} printable characters")
    return key.decode("ascii")


def _refused(path: Path, rule: str) -> ConfigurationError:
    return ConfigurationError(f"upstreams_file: {path}: {rule}", field="upstreams_file")
