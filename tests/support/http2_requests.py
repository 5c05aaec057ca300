"""HTTP/2 requests that are malformed, each in one way, and good ones that are close to it."""

from .exchange import Fields
from .frames import GET

CONNECT: Fields = [(b":method", b"CONNECT"), (b":authority", b"localhost:80")]
EXTENDED: Fields = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]]


def with_field(name: bytes, value: bytes = b"x") -> Fields:
    """A good request and one more field."""
    return [*GET, (name, value)]


def replacing(name: bytes, value: bytes | None) -> Fields:
    """A good request with another value of a pseudo-header field, or without it."""
    kept = [(known, old if known != name else value) for known, old in GET]
    return [(known, new) for known, new in kept if new is not None]


MALFORMED: dict[str, Fields] = {
    # 8.3: pseudo-header fields
    "nothing": [],
    "no :method": replacing(b":method", None),
    "no :scheme": replacing(b":scheme", None),
    "no :path": replacing(b":path", None),
    "no authority": replacing(b":authority", None),
    ":method twice": [GET[0], *GET],
    ":path twice": [*GET, (b":path", b"/")],
    ":authority twice": [*GET, (b":authority", b"localhost")],
    "unknown pseudo-header": [*GET, (b":version", b"2")],
    "pseudo-header of responses": [*GET, (b":status", b"200")],
    "pseudo-header behind a field": [*GET[:3], (b"accept", b"*/*"), GET[3]],
    "empty pseudo-header name": [*GET, (b":", b"")],
    # 8.3.1: control data
    "empty :method": replacing(b":method", b""),
    ":method with a space": replacing(b":method", b"GET /x"),
    "empty :scheme": replacing(b":scheme", b""),
    "another :scheme": replacing(b":scheme", b"ftp"),
    "empty :path": replacing(b":path", b""),
    ":path without a slash": replacing(b":path", b"index.html"),
    "absolute :path": replacing(b":path", b"http://localhost/"),
    ":path with a fragment": replacing(b":path", b"/#top"),
    ":path with a space": replacing(b":path", b"/a b"),
    ":path with a tab": replacing(b":path", b"/a\tb"),
    ":path with bytes above ASCII": replacing(b":path", "/\u00fc".encode()),
    "the asterisk but for OPTIONS": replacing(b":path", b"*"),
    "empty :authority": replacing(b":authority", b""),
    "empty :authority beside a host": [*replacing(b":authority", b""), (b"host", b"localhost")],
    ":authority with user information": replacing(b":authority", b"me@localhost"),
    ":authority with a path": replacing(b":authority", b"localhost/x"),
    ":authority with a space": replacing(b":authority", b"local host"),
    ":authority with a wrong port": replacing(b":authority", b"localhost:http"),
    "another host than :authority": with_field(b"host", b"elsewhere"),
    "two hosts": [*GET, (b"host", b"localhost"), (b"host", b"localhost")],
    # 8.2.1: names and values
    "upper case in a name": with_field(b"Accept"),
    "empty name": with_field(b""),
    "space in a name": with_field(b"x y"),
    "colon in a name": with_field(b"x:y"),
    "line feed in a name": with_field(b"x\ny"),
    "NUL in a name": with_field(b"x\0"),
    "bytes above ASCII in a name": with_field("\u00fc".encode()),
    "NUL in a value": with_field(b"x", b"a\0b"),
    "carriage return in a value": with_field(b"x", b"a\rb"),
    "line feed in a value": with_field(b"x", b"a\nb"),
    "a request in a value": with_field(b"x", b"a\r\n\r\nGET /admin HTTP/1.1\r\n"),
    "DEL in a value": with_field(b"x", b"a\x7fb"),
    "escape in a value": with_field(b"x", b"\x1b[2J"),
    "space before a value": with_field(b"x", b" a"),
    "tab behind a value": with_field(b"x", b"a\t"),
    "line feed in :path": replacing(b":path", b"/\n"),
    "line feed in :authority": replacing(b":authority", b"localhost\n"),
    # 8.2.2: what belongs to a connection
    "connection": with_field(b"connection", b"close"),
    "keep-alive": with_field(b"keep-alive", b"timeout=5"),
    "proxy-connection": with_field(b"proxy-connection", b"keep-alive"),
    "transfer-encoding": with_field(b"transfer-encoding", b"chunked"),
    "upgrade": with_field(b"upgrade", b"websocket"),
    "te but for trailers": with_field(b"te", b"trailers, deflate"),
    # 8.1.1 and RFC 9110, 8.6: content-length
    "two content-lengths": [*GET, (b"content-length", b"1"), (b"content-length", b"2")],
    "one content-length twice": [*GET, (b"content-length", b"1"), (b"content-length", b"1")],
    "list of content-lengths": with_field(b"content-length", b"1, 1"),
    "signed content-length": with_field(b"content-length", b"+1"),
    "negative content-length": with_field(b"content-length", b"-1"),
    "hexadecimal content-length": with_field(b"content-length", b"0x1"),
    "endless content-length": with_field(b"content-length", b"1" * 19),
    "empty content-length": with_field(b"content-length", b""),
    # 8.5 and RFC 8441, 4: CONNECT
    "CONNECT with a :path": [*CONNECT, (b":path", b"/")],
    "CONNECT with a :scheme": [*CONNECT, (b":scheme", b"https")],
    "CONNECT without :authority": CONNECT[:1],
    ":protocol without CONNECT": [*GET, (b":protocol", b"websocket")],
    "extended CONNECT without :path": [field for field in EXTENDED if field[0] != b":path"],
    "extended CONNECT without :scheme": [field for field in EXTENDED if field[0] != b":scheme"],
}

GOOD: dict[str, Fields] = {
    "a plain request": GET,
    "any token for a method": replacing(b":method", b"M-SEARCH"),
    "the asterisk of OPTIONS": [(b":method", b"OPTIONS"), *GET[1:3], (b":path", b"*")],
    "host in place of :authority": [*replacing(b":authority", None), (b"host", b"localhost")],
    "host that repeats :authority": with_field(b"host", b"LOCALHOST"),
    "an address of IPv6": replacing(b":authority", b"[::1]:8443"),
    "a name with an escape": replacing(b":authority", b"caf%C3%A9.example"),
    "te: trailers": with_field(b"te", b"Trailers"),
    "an empty value": with_field(b"x", b""),
    "a tab within a value": with_field(b"x", b"a\tb"),
    "bytes above ASCII in a value": with_field(b"x", b"\xfc\xff"),
    "a very long number": with_field(b"content-length", b"0" * 18),
    "CONNECT": CONNECT,
    "extended CONNECT": EXTENDED,
}
