"""Settings and keys. Read once at the start; a setting that is wrong is named, and nothing starts.

Sources, the later wins: the defaults here, a TOML file (`YGGDRASIL_CONFIG`), the environment
(`YGGDRASIL_<FIELD>`, or
`YGGDRASIL_<FIELD>_FILE` for secrets, so that they stay out of process lists). Standard library and msgspec
only.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from yggdrasil.errors import ConfigurationError
from yggdrasil.keys import KEY_NAMES, Key, KeyRing, Keys, load_keys

__all__ = ["Key", "KeyRing", "Keys", "Settings", "check_settings", "load_keys", "load_settings"]

PREFIX: Final = "YGGDRASIL_"
CONFIG_BYTES_MAX: Final = 1024 * 1024
SECRET_BYTES_MAX: Final = 64 * 1024
SECRETS: Final = frozenset({"database_url", "mimir_database_url", "smtp_url", "otlp_headers"})
"""May come from a file, and never appear in a repr."""
OTLP_HEADERS_MAX: Final = 16
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64} *= *[!-~](?:[ -~]{0,4094}[!-~])?")

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Ratio = Annotated[float, msgspec.Meta(ge=0, le=1)]
Waiting = Annotated[float, msgspec.Meta(ge=0, le=60)]
Waiters = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
Tiers = Literal["free", "pay_per_token", "premium", "pro", "enterprise"]
PerMinute = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
Probes = Annotated[int, msgspec.Meta(ge=0, le=6_000)]
Connections = Annotated[int, msgspec.Meta(ge=1, le=100)]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything an operator can set. Each field is `YGGDRASIL_` and its name in capitals; what is said of it
    here becomes `docs/settings.md` (`tools/settings_reference.py`)."""

    environment: Literal["development", "production"] = "development"
    """`production` refuses generated keys, the embedded database, the sandbox gateway and mail that is only
    shown here."""
    host: Name = "127.0.0.1"
    """The address to listen on. Beyond loopback with `tls_certificate` and `tls_key`, or `behind_proxy`."""
    port: Port = 8480
    """The TCP port to listen on, for REST and sockets alike."""
    public_url: str | None = None
    """Where clients reach the server, if not at `http://host:port`: what it says at its start."""
    behind_proxy: bool = False
    """A proxy in front ends TLS: listening beyond loopback without a certificate is then allowed."""
    tls_certificate: Path | None = None
    """The certificate chain, PEM. With `tls_key`."""
    tls_key: Path | None = None
    """The private key of `tls_certificate`, PEM."""
    data_dir: Path = Path(".yggdrasil")
    """What a node keeps on disk: its id, and in development the embedded database and generated keys."""
    database_url: str | None = None
    """`postgresql://…` of the main database, PostgreSQL 15 to 18. Left out, an embedded one is started."""
    mimir_database_url: str | None = None
    """`postgresql://…` of the database that holds personal data alone. Comes with `database_url`, and is
    another one."""
    database_connections_max: Connections = 10
    """Connections of each of the roles this server asks the database with."""
    pg_bin: Path | None = None
    """The directory of PostgreSQL's programs for the embedded database, if the packaged ones do not fit."""
    smtp_url: str | None = None
    """`smtp[s]://user:password@host:port`. Left out, mail is shown in the terminal and at `/dev/mail`."""
    mail_from: Name = "yggdrasil@localhost"
    """The sender of all mail."""
    gateway: Literal["sandbox", "none"] = "sandbox"
    """Who moves money from outside. The sandbox moves none."""
    upstreams_file: Path | None = None
    """A TOML file of OpenAI-compatible servers that the platform itself offers on the market
    (`docs/upstreams.md`)."""
    tokenizers_dir: Path | None = None
    """A directory of `tokenizer.json` files, each named by the model that is counted and billed with it:
    `MODEL.json`, with a folder for each `/` of its name (`docs/engines/heidrun.md`). A model without a file
    that nobody here knows counts with `o200k_base`."""
    queue_seconds: Waiting = 10.0
    """How long a request waits for a busy offer if it does not say (`queue_seconds` of its wishes). 0: not at
    all."""
    queue_max: Waiters = 1_024
    """How many requests wait on this server at most; one network's and one user's share of it is smaller."""
    trusted_proxies: str = ""
    """Addresses or networks, with commas between (`10.0.0.0/8, ::1`), whose `Forwarded` or `X-Forwarded-For`
    says where a client is. Nobody else's is read, and none that stands for everybody is taken."""
    proxy_header: Literal["x-forwarded-for", "forwarded"] = "x-forwarded-for"
    """The one header that `trusted_proxies` write. A client may send the other: it is not read."""
    tier_default: Tiers = "free"
    """The tier of networks that no operator has given one (`docs/limits.md`)."""
    sign_ins_per_address_per_minute: PerMinute = 600
    """How many sign-in requests, and how many new sockets, may come from one address in a minute: an IPv4
    address, or an IPv6 network of 64 bits. 0: any number."""
    isolation_probes_per_minute: Probes = 60
    """How often the server's two canary networks try to learn of each other (`/health/isolation`). A probe is
    two requests. 0: not at all."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is logged. Logs never hold prompts, answers, addresses or names."""
    otlp_endpoint: str | None = None
    """`http[s]://host[:port][/path]` of an OpenTelemetry collector that takes traces by OTLP over HTTP;
    without a path, `/v1/traces`. Left out, nothing is traced. Needs the extra "telemetry"."""
    otlp_headers: str | None = None
    """`name=value,…`: sent to the collector with every batch, such as its key. Needs https, or a collector
    on this machine."""
    otlp_sample_ratio: Ratio = 0.01
    """The share of requests, and of rounds of background jobs, that are traced."""
    otlp_service_name: Name = "yggdrasil"
    """What the collector knows this server as (`service.name`)."""
    otlp_instance: Name | None = None
    """What the collector knows this node as (`service.instance.id`). Left out, a new id at each start."""
    token_signing_key_file: Path | None = None
    """The key that signs access tokens."""
    key_encryption_key_file: Path | None = None
    """The key that seals personal data and stored results."""
    pseudonym_key_file: Path | None = None
    """The key that names offers for those who look at them."""
    blind_index_key_file: Path | None = None
    """The key that finds a person by an address that is stored nowhere in the clear."""
    database_role_key_file: Path | None = None
    """The key that makes the passwords of the database's roles."""
    code_pepper_key_file: Path | None = None
    """The key that goes into the hashes of e-mailed codes."""
    audit_signing_key_file: Path | None = None
    """The key that signs the heads of the audit's chains. Whoever has it and can write in the database can
    rewrite the audit unseen: keep it from those who run the database."""
    audit_heads_file: Path | None = None
    """Where signed heads are written outside of the database, one JSON line each. Left out,
    `data_dir/audit_heads.jsonl`; better a disk of another machine (`docs/audit.md`)."""

    @property
    def production(self) -> bool:
        return self.environment == "production"

    @property
    def loopback(self) -> bool:
        """Whether nobody but this machine can reach `host`."""
        return _is_loopback(self.host)

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name}={'…' if name in SECRETS and value is not None else repr(value)}"
            for name, value in ((name, getattr(self, name)) for name in self.__struct_fields__)
        )
        return f"Settings({shown})"


def load_settings(environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Settings from file and environment; `overrides` (the command line) win over both. Checked by
    `check_settings`.

    Errors: ConfigurationError with `field`.
    """
    environ = os.environ if environ is None else environ
    raw: dict[str, Any] = {}
    fields = set(Settings.__struct_fields__)
    if path := environ.get(f"{PREFIX}CONFIG"):
        raw.update(_read_toml(Path(path), fields))
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or variable == f"{PREFIX}CONFIG":
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name in fields:
            raw[name] = text
        elif name.endswith("_file") and name.removesuffix("_file") in SECRETS:
            secret = name.removesuffix("_file")
            if f"{PREFIX}{secret.upper()}" in environ:
                raise ConfigurationError(
                    f"{variable}: set this or the one without _FILE, not both", field=secret
                )
            raw[secret] = _read_secret(Path(text), secret).strip()
        else:
            raise ConfigurationError(f"{variable}: there is no such setting", field=name)
    raw.update({name: value for name, value in overrides.items() if value is not None})
    settings = _convert(raw)
    check_settings(settings)
    return settings


def check_settings(settings: Settings) -> None:
    """The rules that join several fields."""

    def refuse(field: str, rule: str) -> None:
        raise ConfigurationError(f"{field}: {rule}", field=field)

    if (settings.tls_certificate is None) != (settings.tls_key is None):
        refuse("tls_key", "tls_certificate and tls_key come together")
    if not settings.loopback and settings.tls_certificate is None and not settings.behind_proxy:
        refuse("host", "listening beyond loopback needs tls_certificate and tls_key, or behind_proxy = true")
    if (settings.database_url is None) != (settings.mimir_database_url is None):
        refuse(
            "mimir_database_url", "database_url and mimir_database_url come together, and are two databases"
        )
    if settings.database_url is not None and settings.database_url == settings.mimir_database_url:
        refuse("mimir_database_url", "must be another database than database_url")
    _check_otlp(settings)
    if not settings.production:
        return
    if settings.gateway == "sandbox":
        refuse("gateway", "the sandbox moves no money: production refuses it")
    if settings.database_url is None:
        refuse("database_url", "production needs a database of its own, not the embedded one")
    if settings.smtp_url is None:
        refuse("smtp_url", "production needs a mail server")
    for name in KEY_NAMES:
        if getattr(settings, f"{name}_key_file") is None:
            refuse(f"{name}_key_file", "production refuses generated keys: name a file")


def otlp_url(endpoint: str) -> str:
    """Where traces are sent. Errors: ConfigurationError."""
    rule = "must be http[s]://host[:port][/path], without user, query or fragment"
    try:
        parts = urlsplit(endpoint)
        port = parts.port
    except ValueError:
        raise ConfigurationError(f"otlp_endpoint: {rule}", field="otlp_endpoint") from None
    plain = endpoint.isascii() and endpoint.isprintable() and " " not in endpoint
    more = parts.username is not None or parts.password is not None or "?" in endpoint or "#" in endpoint
    if not plain or more or parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ConfigurationError(f"otlp_endpoint: {rule}", field="otlp_endpoint")
    return f"{endpoint.rstrip('/')}/v1/traces" if parts.path in ("", "/") else endpoint


def otlp_headers(text: str) -> dict[str, str]:
    """The headers of `name=value,…`. Errors: ConfigurationError, which quotes none of it."""
    headers: dict[str, str] = {}
    items = [item for part in text.split(",") if (item := part.strip())]
    for item in items:
        if _HEADER.fullmatch(item) is None or len(items) > OTLP_HEADERS_MAX:
            raise ConfigurationError(
                f"otlp_headers: must be at most {OTLP_HEADERS_MAX} of name=value, separated by commas",
                field="otlp_headers",
            )
        name, _, value = item.partition("=")
        headers[name.strip().lower()] = value.strip()
    return headers


def _check_otlp(settings: Settings) -> None:
    headers = otlp_headers(settings.otlp_headers or "")
    if settings.otlp_endpoint is None:
        if headers:
            raise ConfigurationError("otlp_headers: needs otlp_endpoint", field="otlp_headers")
        return
    parts = urlsplit(otlp_url(settings.otlp_endpoint))
    if headers and parts.scheme != "https" and not _is_loopback(parts.hostname or ""):
        raise ConfigurationError(
            "otlp_headers: are sent by https, or to this machine, alone", field="otlp_headers"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _convert(raw: dict[str, Any]) -> Settings:
    # One field at a time, so that the message can name the field and never shows the value (which may be a
    # secret).
    for name, value in raw.items():
        try:
            _to_settings({name: value})
        except msgspec.ValidationError as error:
            rule = str(error).split(" - at ")[0]
            if name in SECRETS:
                rule = "must be text"
            raise ConfigurationError(f"{name}: {rule}", field=name) from None
    return _to_settings(raw)


def _to_settings(raw: dict[str, Any]) -> Settings:
    return msgspec.convert(raw, Settings, strict=False, dec_hook=_to_path)


def _to_path(kind: type[Any], value: Any) -> Any:
    if kind is Path and isinstance(value, str | Path) and str(value):
        return Path(value)
    raise ValueError("must be a path")


def _read_toml(path: Path, fields: set[str]) -> dict[str, Any]:
    try:
        content = path.read_bytes()
        if len(content) > CONFIG_BYTES_MAX:
            raise ConfigurationError(
                f"{PREFIX}CONFIG: {path} is over {CONFIG_BYTES_MAX} bytes", field="config"
            )
        raw = tomllib.loads(content.decode())
    except OSError as error:
        raise ConfigurationError(
            f"{PREFIX}CONFIG: cannot read {path}: {error.strerror}", field="config"
        ) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{PREFIX}CONFIG: {path} is not TOML: {error}", field="config") from None
    if unknown := sorted(set(raw) - fields):
        raise ConfigurationError(f"{unknown[0]}: there is no such setting (in {path})", field=unknown[0])
    return raw


def _read_secret(path: Path, field: str) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{field}: cannot read {path}: {error.strerror}", field=field) from None
    if len(content) > SECRET_BYTES_MAX:
        raise ConfigurationError(f"{field}: {path} is over {SECRET_BYTES_MAX} bytes", field=field)
    return content.decode(errors="replace")
