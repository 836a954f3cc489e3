"""Where a client is, when proxies stand in front. Pure.

The peer of the connection is the client, unless it is a trusted proxy: then the header is read from its
right end, where the nearest proxy wrote, past every address that is a trusted proxy itself. What stands
further left was written by strangers and is never read; nor is the header that the operator did not name: a
proxy that writes the one hands on the other as a client sent it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from yggdrasil.errors import ConfigurationError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

HeaderName = Literal["x-forwarded-for", "forwarded"]

TRUSTED_MAX: Final = 64
HOPS_MAX: Final = 32
HEADER_BYTES_MAX: Final = 4096
GROUP_BITS: Final = {4: 32, 6: 64}
"""What counts as one source: an IPv4 address; the IPv6 network that one customer usually has."""

_FORWARDED_FOR: Final = re.compile(r'(?:^|;)\s*for\s*=\s*(?:"([^"]*)"|([^;,"\s]*))\s*(?:;|$)', re.IGNORECASE)
_BRACKETED: Final = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::\d{1,5})?")
_WITH_PORT: Final = re.compile(r"(\d{1,3}(?:\.\d{1,3}){3}):\d{1,5}")


def trusted_from(text: str) -> tuple[Network, ...]:
    """`10.0.0.0/8, 2001:db8::/32`: the networks. ConfigurationError names what is none."""
    found: list[Network] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            network = ipaddress.ip_network(part)
        except ValueError as error:
            raise ConfigurationError(
                f"trusted_proxies: {part[:64]!r} is no address or network ({error})", field="trusted_proxies"
            ) from None
        if network.prefixlen == 0:
            raise ConfigurationError(
                f"trusted_proxies: {part[:64]!r} is everybody: anyone could say who he is",
                field="trusted_proxies",
            )
        found.append(network)
    if len(found) > TRUSTED_MAX:
        raise ConfigurationError(f"trusted_proxies: at most {TRUSTED_MAX} networks", field="trusted_proxies")
    return tuple(found)


def client_of(
    peer: str | None,
    headers: Iterable[tuple[bytes, bytes]],
    trusted: Sequence[Network],
    header: HeaderName = "x-forwarded-for",
) -> Address | None:
    """The client's address; None if even the peer has none (a Unix socket).

    `header` is the one that the proxies write. If it is too long, or at the first hop from the right that is
    no address, the reading ends at the last trusted hop.
    """
    client = _address(peer or "")
    if client is None or not _is_in(client, trusted):
        return client
    for hop in _hops(headers, header):
        address = _address(hop)
        if address is None:
            return client
        client = address
        if not _is_in(client, trusted):
            return client
    return client


def group_of(address: Address) -> bytes:
    """What is counted as one source."""
    bits = GROUP_BITS[address.version]
    return address.packed[: bits // 8]


def _hops(headers: Iterable[tuple[bytes, bytes]], header: HeaderName) -> list[str]:
    """The hops that the header tells, the nearest first."""
    wanted = header.encode()
    text = b",".join(value for name, value in headers if name == wanted)
    if not text or len(text) > HEADER_BYTES_MAX:
        return []
    parts = text.decode("latin-1").split(",")[-HOPS_MAX:][::-1]
    if header == "x-forwarded-for":
        return [part.strip() for part in parts]
    found = [_FORWARDED_FOR.search(part) for part in parts]
    return [(one[1] if one[1] is not None else one[2]) if one is not None else "" for one in found]


def _address(text: str) -> Address | None:
    for pattern in (_BRACKETED, _WITH_PORT):
        if match := pattern.fullmatch(text):
            text = match[1]
            break
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    # One client must not be two sources.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
