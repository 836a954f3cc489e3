"""Settings name the field and the rule; keys are made private, once, and never in production."""

from __future__ import annotations

import base64
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from yggdrasil.config import Settings, load_settings
from yggdrasil.errors import ConfigurationError
from yggdrasil.keys import KEY_NAMES, Key, KeyRing, Keys, load_keys

PRODUCTION = {
    "YGGDRASIL_ENVIRONMENT": "production",
    "YGGDRASIL_GATEWAY": "none",
    "YGGDRASIL_DATABASE_URL": "postgresql://a:secret-a@db/main",
    "YGGDRASIL_MIMIR_DATABASE_URL": "postgresql://a:secret-b@db/mimir",
    "YGGDRASIL_SMTP_URL": "smtp://u:secret-c@mail",
} | {f"YGGDRASIL_{name.upper()}_KEY_FILE": "/nowhere" for name in KEY_NAMES}


def refused(environ: dict[str, str], **overrides: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environ, **overrides)
    return caught.value


def test_defaults() -> None:
    settings = load_settings({"PATH": "/bin"})
    assert (settings.environment, settings.host, settings.gateway) == ("development", "127.0.0.1", "sandbox")
    assert settings.loopback
    assert not settings.production


def test_the_later_source_wins(tmp_path: Path) -> None:
    file = tmp_path / "y.toml"
    file.write_text('port = 1000\nhost = "::1"\nlog_level = "debug"\n')
    environ = {"YGGDRASIL_CONFIG": str(file), "YGGDRASIL_PORT": "2000", "YGGDRASIL_BEHIND_PROXY": "true"}
    settings = load_settings(environ, log_level="error")
    assert (settings.port, settings.host, settings.log_level, settings.behind_proxy) == (
        2000,
        "::1",
        "error",
        True,
    )


@pytest.mark.parametrize(
    ("variable", "value", "field"),
    [
        ("YGGDRASIL_PORT", "0", "port"),
        ("YGGDRASIL_PORT", "65536", "port"),
        ("YGGDRASIL_PORT", "http", "port"),
        ("YGGDRASIL_ENVIRONMENT", "staging", "environment"),
        ("YGGDRASIL_BEHIND_PROXY", "maybe", "behind_proxy"),
        ("YGGDRASIL_HOST", "", "host"),
        ("YGGDRASIL_HOST", "0.0.0.0", "host"),
        ("YGGDRASIL_HOST", "example.org", "host"),
        ("YGGDRASIL_TLS_KEY", "/k", "tls_key"),
        ("YGGDRASIL_GATEWAY", "stripe?", "gateway"),
        ("YGGDRASIL_LOG_LEVEL", "loud", "log_level"),
        ("YGGDRASIL_DATABASE_CONNECTIONS_MAX", "0", "database_connections_max"),
        ("YGGDRASIL_DATABASE_URL", "postgresql://u:p@h/d", "mimir_database_url"),
    ],
)
def test_a_bad_value_names_its_field(variable: str, value: str, field: str) -> None:
    error = refused({variable: value})
    assert error.field == field
    assert field in error.detail


def test_an_unknown_setting_is_named(tmp_path: Path) -> None:
    assert "YGGDRASIL_PROT" in refused({"YGGDRASIL_PROT": "1"}).detail
    assert "YGGDRASIL_PORT_FILE" in refused({"YGGDRASIL_PORT_FILE": "/x"}).detail
    file = tmp_path / "y.toml"
    file.write_text("prot = 1\n")
    assert refused({"YGGDRASIL_CONFIG": str(file)}).field == "prot"
    file.write_text("port = \n")
    assert refused({"YGGDRASIL_CONFIG": str(file)}).field == "config"
    assert refused({"YGGDRASIL_CONFIG": str(tmp_path / "none")}).field == "config"


def test_secrets_come_from_files_and_stay_out_of_the_repr(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("smtp://user:hunter2@mail\n")
    settings = load_settings({"YGGDRASIL_SMTP_URL_FILE": str(file)})
    assert settings.smtp_url == "smtp://user:hunter2@mail"
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(settings)
    both = refused({"YGGDRASIL_SMTP_URL_FILE": str(file), "YGGDRASIL_SMTP_URL": "smtp://user:hunter2@mail"})
    assert both.field == "smtp_url"
    assert refused({"YGGDRASIL_SMTP_URL_FILE": str(tmp_path / "none")}).field == "smtp_url"


def test_production_is_accepted_when_complete() -> None:
    settings = load_settings(PRODUCTION)
    assert settings.production
    assert "secret-" not in repr(settings)


@pytest.mark.parametrize("missing", sorted(set(PRODUCTION) - {"YGGDRASIL_ENVIRONMENT"}))
def test_production_refuses_each_shortcut(missing: str) -> None:
    environ = {name: value for name, value in PRODUCTION.items() if name != missing}
    assert refused(environ).field is not None


def test_beyond_loopback_needs_tls_or_a_proxy() -> None:
    assert load_settings({"YGGDRASIL_HOST": "0.0.0.0", "YGGDRASIL_BEHIND_PROXY": "true"}).behind_proxy
    tls = {"YGGDRASIL_TLS_CERTIFICATE": "/c", "YGGDRASIL_TLS_KEY": "/k"}
    assert load_settings({"YGGDRASIL_HOST": "0.0.0.0", **tls}).tls_key == Path("/k")
    for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
        assert load_settings({"YGGDRASIL_HOST": host}).loopback


def test_development_keys_are_made_once_and_private(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    first, second = load_keys(settings), load_keys(settings)
    assert first == second
    assert len({getattr(first, name).current.secret for name in KEY_NAMES}) == len(KEY_NAMES)
    for name in KEY_NAMES:
        path = tmp_path / "data" / "keys" / f"{name}.key"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert repr(getattr(first, name).current.secret) not in repr(first)
    assert sorted(path.suffix for path in (tmp_path / "data" / "keys").iterdir()) == [".key"] * len(KEY_NAMES)


def test_production_never_makes_keys(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_keys(Settings(environment="production", data_dir=tmp_path))
    assert caught.value.field == "token_signing_key_file"
    assert list(tmp_path.iterdir()) == []


def test_a_ring_rotates(tmp_path: Path) -> None:
    lines = [f"{name}:{base64.b64encode(bytes([n]) * 32).decode()}" for n, name in enumerate(("new", "old"))]
    path = tmp_path / "ring"
    path.write_text("# the newest first\n" + "\n".join(lines) + "\n")
    path.chmod(0o600)
    ring = load_keys(Settings(data_dir=tmp_path, pseudonym_key_file=path)).pseudonym
    assert ring.current == Key("new", bytes(32))
    assert ring.by_id("old") == Key("old", b"\1" * 32)
    assert ring.by_id("other") is None


@pytest.mark.parametrize(
    ("content", "mode"),
    [
        ("", 0o600),
        ("k1:short", 0o600),
        ("k1", 0o600),
        ("k 1:" + base64.b64encode(bytes(32)).decode(), 0o600),
        ("k1:" + base64.b64encode(bytes(33)).decode(), 0o600),
        (("k1:" + base64.b64encode(bytes(32)).decode() + "\n") * 2, 0o600),
        ("k1:" + base64.b64encode(bytes(32)).decode(), 0o644),
    ],
)
def test_a_bad_key_file_names_the_setting_and_not_its_content(
    tmp_path: Path, content: str, mode: int
) -> None:
    path = tmp_path / "ring"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(ConfigurationError) as caught:
        load_keys(Settings(data_dir=tmp_path, blind_index_key_file=path))
    assert caught.value.field == "blind_index_key_file"
    assert base64.b64encode(bytes(32)).decode() not in caught.value.detail


def test_passwords_of_roles_differ_and_follow_the_key() -> None:
    one, other = (Keys.generate(lambda length, n=n: bytes([n]) * length) for n in (1, 2))
    assert one.role_password("ygg_market") != one.role_password("ygg_settle")
    assert one.role_password("ygg_market") != other.role_password("ygg_market")
    assert one.role_password("ygg_market") == Keys.generate(lambda length: b"\1" * length).role_password(
        "ygg_market"
    )


def test_a_ring_is_never_empty() -> None:
    with pytest.raises(ConfigurationError):
        KeyRing(())


def test_config_imports_no_server() -> None:
    code = (
        "import sys, yggdrasil.config; print(sorted({'litestar', 'asyncpg', 'piccolo'} & set(sys.modules)))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )
