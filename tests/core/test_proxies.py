"""Whose word about the client counts, and what it says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphorn.core.asgi import Address, Fields
from alphorn.core.errors import ConfigError
from alphorn.core.proxies import AllowedHosts, Hop, TrustedProxies

PROXIES = ("10.0.0.0/8", "::1", "2001:db8::/32")


def x_forwarded(**values: str) -> Fields:
    return [(f"x-forwarded-{name}".encode(), value.encode()) for name, value in values.items()]


def forwarded(*values: str) -> Fields:
    return [(b"forwarded", value.encode()) for value in values]


def read(fields: Fields, networks: tuple[str, ...] = PROXIES) -> Hop:
    return TrustedProxies(networks, "x-forwarded").read(fields)


def read_rfc7239(fields: Fields, networks: tuple[str, ...] = PROXIES) -> Hop:
    return TrustedProxies(networks, "forwarded").read(fields)


@pytest.mark.parametrize("peer", [("10.1.2.3", 4), ("::1", 4), ("2001:db8:1::2", 4), None])
def test_peers_of_trusted_networks_and_unix_sockets_are_trusted(peer: Address | None) -> None:
    assert TrustedProxies(PROXIES, "x-forwarded").trusts(peer)


@pytest.mark.parametrize("peer", [("11.1.2.3", 4), ("::2", 4), ("127.0.0.1", 4), ("no address", 4)])
def test_nobody_else_is_trusted(peer: Address | None) -> None:
    assert not TrustedProxies(PROXIES, "x-forwarded").trusts(peer)
    assert not TrustedProxies((), "x-forwarded").trusts(peer)
    assert TrustedProxies(("*",), "x-forwarded").trusts(peer)


@pytest.mark.parametrize("network", ["10.0.0.1/8", "example.com", "10.0.0.0/33", ""])
def test_what_is_no_network_is_refused_in_one_line(network: str) -> None:
    with pytest.raises(ConfigError, match="--trusted-proxies") as refused:
        TrustedProxies((network,), "x-forwarded")
    assert "\n" not in str(refused.value)


def test_the_rightmost_address_that_is_no_proxy_is_the_client() -> None:
    hop = read(x_forwarded(**{"for": "6.6.6.6, 198.51.100.7, 10.0.0.2, 10.0.0.3"}))
    assert hop.client == ("198.51.100.7", 0)


def test_fields_that_are_repeated_are_one_list() -> None:
    hop = read([*x_forwarded(**{"for": "6.6.6.6"}), *x_forwarded(**{"for": "198.51.100.7, 10.0.0.2"})])
    assert hop.client == ("198.51.100.7", 0)


def test_when_everybody_is_a_proxy_the_farthest_is_the_client() -> None:
    assert read(x_forwarded(**{"for": "10.0.0.9, 10.0.0.2"})).client == ("10.0.0.9", 0)


def test_nonsense_ends_the_chain_at_the_last_proxy_that_made_sense() -> None:
    assert read(x_forwarded(**{"for": "6.6.6.6, unknown, 10.0.0.2"})).client == ("10.0.0.2", 0)
    assert read(x_forwarded(**{"for": "unknown"})).client is None


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("198.51.100.7:4711", ("198.51.100.7", 4711)),
        ("[2001:dead::7]:4711", ("2001:dead::7", 4711)),
        ("2001:dead::7", ("2001:dead::7", 0)),
        ("::ffff:198.51.100.7", ("198.51.100.7", 0)),
        ("198.51.100.7:x", ("198.51.100.7", 0)),
    ],
)
def test_addresses_come_with_and_without_a_port(text: str, address: Address) -> None:
    assert read(x_forwarded(**{"for": text})).client == address


def test_the_values_of_one_proxy_belong_together() -> None:
    hop = read(
        x_forwarded(
            **{
                "for": "6.6.6.6, 198.51.100.7, 10.0.0.2",
                "proto": "http, https, http",
                "host": "evil.example, shop.example, inner",
                "prefix": "/evil, /shop, /inner",
            }
        )
    )
    assert hop == Hop(("198.51.100.7", 0), b"https", b"shop.example", b"/shop")


def test_one_value_speaks_for_all_hops() -> None:
    hop = read(x_forwarded(**{"for": "198.51.100.7, 10.0.0.2", "proto": "https"}))
    assert hop == Hop(("198.51.100.7", 0), b"https", None, None)


def test_a_scheme_alone_counts() -> None:
    assert read(x_forwarded(proto="WSS")) == Hop(None, b"https", None, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("proto", "ftp"),
        ("host", "a b"),
        ("host", "a/b"),
        ("prefix", "shop"),
        ("prefix", "/a/../b"),
        ("prefix", "//a"),
    ],
)
def test_values_that_are_not_what_they_should_be_are_ignored(name: str, value: str) -> None:
    assert read(x_forwarded(**{name: value})) == Hop()


def test_forwarded_is_read_from_the_right() -> None:
    hop = read_rfc7239(
        forwarded(
            'for=6.6.6.6;proto=http;host=evil, For="[2001:dead::7]:4711";Proto=https;host="shop.example:8443"',
            "for=10.0.0.2; by=10.0.0.3",
        )
    )
    assert hop == Hop(("2001:dead::7", 4711), b"https", b"shop.example:8443", None)


@pytest.mark.parametrize("nonsense", ["for", "for=1.2.3.4 x", 'for="1.2.3.4', "=", ";"])
def test_a_malformed_field_and_what_stands_left_of_it_are_not_read(nonsense: str) -> None:
    assert read_rfc7239(forwarded(f"for=6.6.6.6, {nonsense}, for=10.0.0.2")) == Hop()
    assert read_rfc7239(forwarded("for=6.6.6.6", nonsense, "for=10.0.0.2")).client == ("10.0.0.2", 0)


@pytest.mark.parametrize("hidden", ["for=unknown", "for=_hidden", "proto=https"])
def test_a_proxy_that_does_not_tell_ends_the_chain(hidden: str) -> None:
    assert read_rfc7239(forwarded(f"for=6.6.6.6, {hidden}, for=10.0.0.2")).client == ("10.0.0.2", 0)


def test_quotes_hide_separators_and_escapes() -> None:
    hop = read_rfc7239(forwarded(r'for=198.51.100.7;by="a,b;c\"d";proto=https'))
    assert hop == Hop(("198.51.100.7", 0), b"https", None, None)


def test_each_family_leaves_the_other_alone() -> None:
    both = [*x_forwarded(**{"for": "1.1.1.1"}), *forwarded("for=2.2.2.2")]
    assert read(both).client == ("1.1.1.1", 0)
    assert read_rfc7239(both).client == ("2.2.2.2", 0)


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_whatever_is_sent_reading_it_never_fails_and_never_says_less_than_an_address(
    values: list[bytes],
) -> None:
    for reader, name in ((read, b"x-forwarded-for"), (read_rfc7239, b"forwarded")):
        hop = reader([(name, value) for value in values], ("*",))
        assert hop.client is None or isinstance(hop.client[0], str)


@pytest.mark.parametrize(
    "host", [b"example.com", b"EXAMPLE.com:443", b"example.com.", b"a.b.test", b"[::1]:80", b"[::1]"]
)
def test_a_host_that_is_allowed_is_in(host: bytes) -> None:
    assert host in AllowedHosts(("example.com", "*.b.test", "[::1]"))


@pytest.mark.parametrize("host", [b"", b"example.org", b"b.test", b"xb.test", b"example.com.evil", b"[::2]"])
def test_any_other_is_not(host: bytes) -> None:
    assert host not in AllowedHosts(("example.com", "*.b.test", "[::1]"))


def test_without_a_list_every_host_is_allowed() -> None:
    assert b"anything" in AllowedHosts(())
    assert b"anything" in AllowedHosts(("*",))
