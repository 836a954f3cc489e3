"""Where a client is: a stranger's headers move nothing."""

from __future__ import annotations

import ipaddress
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yggdrasil.errors import ConfigurationError
from yggdrasil.quotas.addresses import HeaderName, client_of, group_of, trusted_from

PROXIES = trusted_from("10.0.0.0/8, ::1, 2001:db8:ffff::/48")


def found(peer: str | None, *headers: tuple[bytes, bytes], header: HeaderName | None = None) -> str:
    """`header`: what the proxies write, the first of the headers if it is not said."""
    named: HeaderName = "forwarded" if headers and headers[0][0] == b"forwarded" else "x-forwarded-for"
    return str(client_of(peer, headers, PROXIES, header or named))


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


def test_a_client_cannot_speak_through_the_header_that_its_proxy_hands_on() -> None:
    forged = (b"forwarded", b"for=6.6.6.6")
    real = (b"x-forwarded-for", b"198.51.100.7")
    for both in ((forged, real), (real, forged)):
        assert found("10.0.0.1", *both, header="x-forwarded-for") == "198.51.100.7"
    assert found("10.0.0.1", forged, header="x-forwarded-for") == "10.0.0.1"
    turned = ((b"x-forwarded-for", b"6.6.6.6"), (b"forwarded", b"for=198.51.100.7"))
    assert found("10.0.0.1", *turned, header="forwarded") == "198.51.100.7"


@given(st.binary(max_size=200), st.ip_addresses())
def test_what_a_client_wrote_into_forwarded_is_not_read_either(
    said: bytes, client: ipaddress.IPv4Address | ipaddress.IPv6Address
) -> None:
    mapped = client.ipv4_mapped if isinstance(client, ipaddress.IPv6Address) else None
    address = mapped or client
    if any(address.version == one.version and address in one for one in PROXIES):
        return
    node = f'"[{client}]"' if client.version == 6 else str(client)
    assert found("10.0.0.1", (b"forwarded", said + b", for=" + node.encode())) == str(address)


@pytest.mark.parametrize("said", [b'x="', b'for="6.6.6.6', b'for=6.6.6.6;x="', b"for=6.6.6.6;", b'x="\\'])
def test_a_quote_that_a_client_opens_swallows_nothing(said: bytes) -> None:
    assert found("10.0.0.1", (b"forwarded", said + b', for="[2001:db8::5]"')) == "2001:db8::5"


@given(st.binary(max_size=120), st.lists(st.binary(max_size=120), max_size=4))
def test_nothing_that_is_sent_raises(peer: bytes, lines: list[bytes]) -> None:
    for header in ("forwarded", "x-forwarded-for"):
        sent = [(header.encode(), line) for line in lines]
        client_of("10.0.0.1", sent, PROXIES, header)  # type: ignore[arg-type]
        client_of(peer.decode("latin-1"), sent, PROXIES, header)  # type: ignore[arg-type]


def test_hostile_headers_cost_little() -> None:
    began = time.process_time()
    for text in (b";" * 4_096, b'"' * 4_095, b"for=" * 1_024, b", " * 2_048, b'a="' * 1_300, b" " * 4_096):
        for header in (b"forwarded", b"x-forwarded-for"):
            found("10.0.0.1", (header, text))
    assert time.process_time() - began < 2


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
    for everybody in ("0.0.0.0/0", "::/0"):
        with pytest.raises(ConfigurationError, match="is everybody"):
            trusted_from(everybody)
    assert trusted_from(" ") == ()
