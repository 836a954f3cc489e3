"""Where a client is: a stranger's headers move nothing."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yggdrasil.errors import ConfigurationError
from yggdrasil.quotas.addresses import client_of, group_of, trusted_from

PROXIES = trusted_from("10.0.0.0/8, ::1, 2001:db8:ffff::/48")


def found(peer: str | None, *headers: tuple[bytes, bytes]) -> str:
    return str(client_of(peer, headers, PROXIES))


@pytest.mark.parametrize(
    ("header", "client"),
    [
        ((b"x-forwarded-for", b"198.51.100.7"), "198.51.100.7"),
        ((b"x-forwarded-for", b"6.6.6.6, 198.51.100.7"), "198.51.100.7"),
        ((b"x-forwarded-for", b"6.6.6.6, 198.51.100.7, 10.9.9.9"), "198.51.100.7"),
        ((b"x-forwarded-for", b"10.1.1.1, 10.9.9.9"), "10.1.1.1"),
        ((b"x-forwarded-for", b"198.51.100.7:4711"), "198.51.100.7"),
        ((b"x-forwarded-for", b"2001:db8::5"), "2001:db8::5"),
        ((b"x-forwarded-for", b"[2001:db8::5]:443"), "2001:db8::5"),
        ((b"x-forwarded-for", b"::ffff:198.51.100.7"), "198.51.100.7"),
        ((b"x-forwarded-for", b"198.51.100.7, unknown"), "10.0.0.1"),
        ((b"x-forwarded-for", b"198.51.100.7, unknown, 10.2.2.2"), "10.2.2.2"),
        ((b"x-forwarded-for", b""), "10.0.0.1"),
        ((b"x-forwarded-for", b"1.2.3.4," * 2_000), "10.0.0.1"),
        ((b"forwarded", b'for=198.51.100.7;proto=https;by="10.0.0.1"'), "198.51.100.7"),
        ((b"forwarded", b'for=6.6.6.6, for="[2001:db8::5]:4711"'), "2001:db8::5"),
        ((b"forwarded", b"proto=https; FOR=198.51.100.7"), "198.51.100.7"),
        ((b"forwarded", b"for=_hidden"), "10.0.0.1"),
        ((b"forwarded", b"xfor=198.51.100.7"), "10.0.0.1"),
    ],
)
def test_behind_a_trusted_proxy(header: tuple[bytes, bytes], client: str) -> None:
    assert found("10.0.0.1", header) == client


def test_several_headers_are_one_list() -> None:
    assert found("10.0.0.1", (b"x-forwarded-for", b"6.6.6.6"), (b"x-forwarded-for", b"1.1.1.1")) == "1.1.1.1"


def test_forwarded_is_read_before_the_other() -> None:
    both = ((b"x-forwarded-for", b"6.6.6.6"), (b"forwarded", b"for=1.1.1.1"))
    assert found("10.0.0.1", *both) == "1.1.1.1"


@given(st.lists(st.tuples(st.sampled_from([b"forwarded", b"x-forwarded-for"]), st.binary(max_size=60))))
def test_without_a_trusted_proxy_no_header_says_anything(headers: list[tuple[bytes, bytes]]) -> None:
    assert found("198.51.100.9", *headers) == "198.51.100.9"


@given(st.binary(max_size=200), st.ip_addresses())
def test_what_stands_left_of_a_strangers_address_is_never_read(
    said: bytes, client: ipaddress.IPv4Address | ipaddress.IPv6Address
) -> None:
    if any(client.version == one.version and client in one for one in PROXIES):
        return
    header = (b"x-forwarded-for", said + b", " + str(client).encode())
    mapped = getattr(client, "ipv4_mapped", None)
    if mapped is None:
        assert found("10.0.0.1", header) == str(client)


def test_a_unix_socket_has_no_address() -> None:
    assert client_of(None, (), PROXIES) is None


def test_one_customer_is_one_source() -> None:
    first, second = (ipaddress.ip_address(f"2001:db8:1:2:{n}::1") for n in (3, 4))
    assert group_of(first) == group_of(second)
    assert group_of(first) != group_of(ipaddress.ip_address("2001:db8:1:3::1"))
    assert group_of(ipaddress.ip_address("10.0.0.1")) != group_of(ipaddress.ip_address("10.0.0.2"))


def test_wrong_networks_are_named() -> None:
    with pytest.raises(ConfigurationError, match="trusted_proxies: 'nonsense' is no address or network"):
        trusted_from("10.0.0.0/8, nonsense")
    with pytest.raises(ConfigurationError, match="has host bits set"):
        trusted_from("10.0.0.1/8")
    assert trusted_from(" ") == ()
