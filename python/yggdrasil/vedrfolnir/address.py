"""Where a server or a backend is: its base URL, its door, and whether it is this machine. Pure."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from yggdrasil.errors import InvalidInput


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def server_url(text: str, *, plaintext: bool = False) -> str:
    """`https://host[:port]` without a path; http is for this machine alone, or as asked for."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise InvalidInput("server: not a URL", field="server") from None
    extras = parts.username or parts.query or parts.fragment
    if parts.scheme not in ("http", "https") or not parts.hostname or extras:
        raise InvalidInput("server: must look like https://host or https://host:port", field="server")
    if parts.path not in ("", "/"):
        raise InvalidInput("server: must be without a path", field="server")
    if parts.scheme == "http" and not plaintext and not is_loopback(text):
        raise InvalidInput("server: must be https beyond this machine (tokens travel on it)", field="server")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")


def socket_url(url: str) -> str:
    """The address of the door for a server's base URL."""
    return "ws" + url.removeprefix("http").rstrip("/") + "/bifrost"


def backend_url(text: str) -> str:
    """`http://localhost:11434/v1`: the base under which /chat/completions lies."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise InvalidInput("backend: not a URL", field="backend") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise InvalidInput("backend: must be a base URL such as http://localhost:11434/v1", field="backend")
    return text.rstrip("/")
