"""Whom to believe about the client: trusted proxies and what they say in X-Forwarded-* or Forwarded.

A field proves nothing by itself: any client can send it. So it counts only when the connection
comes from a trusted network, and only from the right, where the nearest proxy has appended what it
saw; the first address that is not itself a trusted proxy is the client. What an untrusted peer
says stays in the fields and changes nothing.

Only one family of fields is read, as configured: a proxy that sets one of them passes the other
on from the client, unread.
"""

import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple, TypeAlias

from .asgi import Address, Fields
from .errors import ConfigError

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# What may stand in a Host field (RFC 3986, 3.2.2); control data for the application, so strictly read.
HOST: Final = re.compile(
    rb"(?:(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?"
)
_PREFIX: Final = re.compile(rb"(?:/[A-Za-z0-9\-._~]+)+")
# One parameter of RFC 7239: a token, an equals sign, a token or a quoted string.
_PARAMETER: Final = re.compile(
    rb"[ \t]*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)=(?:\"((?:[^\"\\]|\\.)*)\"|([!#$%&'*+\-.^_`|~0-9A-Za-z]*))[ \t]*"
)


class Hop(NamedTuple):
    """What one proxy said about the side that spoke to it; None where it said nothing usable."""

    client: Address | None = None
    scheme: bytes | None = None
    host: bytes | None = None
    prefix: bytes | None = None


class TrustedProxies:
    """The networks whose word counts, and which fields it is read from."""

    def __init__(self, networks: Iterable[str], family: Literal["x-forwarded", "forwarded"]) -> None:
        """Read the configuration.

        Args:
            networks: Addresses and networks such as "10.0.0.0/8" or "::1"; "*" is everybody.
            family: Which fields the proxies set.

        Raises:
            ConfigError: One of `networks` is neither an address nor a network.
        """
        self._networks: list[Network] = []
        self._everybody = False
        self._read = _read_x_forwarded if family == "x-forwarded" else _read_forwarded
        for text in networks:
            if text == "*":
                self._everybody = True
                continue
            try:
                self._networks.append(ipaddress.ip_network(text))
            except ValueError as error:
                raise ConfigError(
                    f"--trusted-proxies {text}: {error}; write an address, a network such as 10.0.0.0/8, or *"
                ) from None

    def trusts(self, peer: Address | None) -> bool:
        """Tell whether a peer's word counts; that of a unix socket's always does.

        Who may connect to a unix socket is a matter of file permissions.
        """
        if peer is None or self._everybody:
            return True
        if not self._networks:  # as by default: an address need not be read to be nobody's
            return False
        try:
            address = ipaddress.ip_address(peer[0])
        except ValueError:
            return False
        return any(address in network for network in self._networks if network.version == address.version)

    def read(self, fields: Fields) -> Hop:
        """Return what the outermost trusted proxy said about the client; empty if there is nothing.

        Args:
            fields: The fields of a request whose peer is trusted.
        """
        said = Hop()
        for hop in self._read(fields):
            said = Hop(
                hop.client or said.client,
                hop.scheme or said.scheme,
                hop.host or said.host,
                hop.prefix or said.prefix,
            )
            if hop.client is None or not self.trusts(hop.client):
                break
        return said


def _read_x_forwarded(fields: Fields) -> Iterator[Hop]:
    """Yield the hops of X-Forwarded-For, -Proto, -Host and -Prefix, the nearest first.

    Proxies that append do so to each of them, so the values of one proxy are at the same place
    counted from the right. A list that is shorter says for all farther hops what it said last.
    """
    addresses = _values(fields, b"x-forwarded-for")
    schemes = _values(fields, b"x-forwarded-proto")
    hosts = _values(fields, b"x-forwarded-host")
    prefixes = _values(fields, b"x-forwarded-prefix")
    for place in range(max(1, len(addresses))):
        yield Hop(
            _address(addresses[place]) if place < len(addresses) else None,
            _scheme(schemes[place]) if place < len(schemes) else None,
            _host(hosts[place]) if place < len(hosts) else None,
            _prefix(prefixes[place]) if place < len(prefixes) else None,
        )


def _read_forwarded(fields: Fields) -> Iterator[Hop]:
    """Yield the hops of Forwarded (RFC 7239, 4), the nearest first; stop at what cannot be read."""
    for element in reversed(list(_elements(fields))):
        if element is None:
            return
        yield Hop(
            _address(element.get(b"for", b"")),
            _scheme(element.get(b"proto", b"")),
            _host(element.get(b"host", b"")),
        )


def _elements(fields: Fields) -> Iterator[dict[bytes, bytes] | None]:
    """Yield the elements of all Forwarded fields; None for one that is malformed."""
    for name, value in fields:
        if name != b"forwarded":
            continue
        element: dict[bytes, bytes] = {}
        position = 0
        while position <= len(value):
            parameter = _PARAMETER.match(value, position)
            if parameter is None:
                yield None
                break
            quoted = parameter[2]
            text = parameter[3] if quoted is None else re.sub(rb"\\(.)", rb"\1", quoted)
            element[parameter[1].lower()] = text
            position = parameter.end()
            separator = value[position : position + 1]
            position += 1
            if separator != b";":
                yield element if separator in (b"", b",") else None
                element = {}
                if separator != b",":
                    break


def _values(fields: Fields, name: bytes) -> list[bytes]:
    """Return the members of a list field, the last first."""
    members = [
        member.strip(b" \t") for field, value in fields if field == name for member in value.split(b",")
    ]
    members.reverse()
    return members


def _address(text: bytes) -> Address | None:
    """Read an address with or without a port; None for "unknown", obfuscated names and nonsense."""
    host, port = text.decode("latin-1"), ""
    if host.startswith("["):
        host, _, port = host[1:].partition("]")
        port = port.removeprefix(":")
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address), int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0


def _scheme(text: bytes) -> bytes | None:
    """Read a scheme; a WebSocket's is that of the HTTP that carries it."""
    scheme = {b"ws": b"http", b"wss": b"https"}.get(text.lower(), text.lower())
    return scheme if scheme in (b"http", b"https") else None


def _host(text: bytes) -> bytes | None:
    return text if HOST.fullmatch(text) else None


def _prefix(text: bytes) -> bytes | None:
    """Read a path prefix; dot segments would let it point elsewhere."""
    text = text.rstrip(b"/")
    if not _PREFIX.fullmatch(text) or {b".", b".."} & set(text.split(b"/")):
        return None
    return text


class AllowedHosts:
    """The names under which the server may be asked for: exact, or "*.example.com" for what is below."""

    def __init__(self, names: Iterable[str]) -> None:
        self._exact = {name.lower().encode() for name in names if not name.startswith("*")}
        self._below = tuple(name[1:].lower().encode() for name in names if name.startswith("*."))
        self._everything = "*" in names or not (self._exact or self._below)

    def __contains__(self, authority: bytes) -> bool:
        """Tell whether a Host field, its port left aside, is one of them."""
        if self._everything:
            return True
        host = authority.lower()
        if b":" in host and not host.endswith(b"]"):
            host = host.rpartition(b":")[0]
        host = host.removesuffix(b".")
        return host in self._exact or host.endswith(self._below)
