"""Scopes from request heads: paths decoded, the facts of a connection shared, nothing shared that can be changed."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphorn.core.asgi import TlsExtension
from alphorn.core.scope import ConnectionFacts, RequestHead, decode_path, http_scope, websocket_scope

HEAD = RequestHead("GET", b"/a%20b", b"c=%20", [(b"host", b"example.org")], "2")
TLS: TlsExtension = {
    "server_cert": "PEM",
    "client_cert_chain": ["PEM of the client"],
    "client_cert_name": "CN=client",
    "client_cert_error": None,
    "tls_version": 0x0304,
    "cipher_suite": 0x1301,
}


class MakeTls:
    """Makes the extension and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> TlsExtension:
        self.times += 1
        return {**TLS, "client_cert_chain": list(TLS["client_cert_chain"])}


@given(st.text())
def test_a_path_that_was_quoted_is_itself_again(path: str) -> None:
    try:
        quoted = quote(path).encode()
    except UnicodeEncodeError:  # a lone surrogate is no text
        return
    assert decode_path(quoted) == path


@given(st.binary())
def test_any_bytes_are_some_path(raw: bytes) -> None:
    path = decode_path(raw)

    assert path.encode().decode() == path  # no lone surrogates
    if raw.isascii() and b"%" not in raw:
        assert path == raw.decode("ascii")


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"/%41", "/A"),
        (b"/%2541", "/%41"),
        (b"/%C3%A9", "/é"),
        (b"/\xc3\xa9", "/é"),
        (b"/%c3", "/\ufffd"),
        (b"/%4", "/%4"),
        (b"/%zz", "/%zz"),
        (b"/%00", "/\0"),
    ],
)
def test_a_path_is_decoded_once(raw: bytes, path: str) -> None:
    assert decode_path(raw) == path


def test_an_http_scope_has_exactly_the_keys_of_the_specification() -> None:
    scope = http_scope(ConnectionFacts(("::1", 5), ("::1", 80), root_path="/r", state={}), HEAD, {"x": {}})

    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "2",
        "method": "GET",
        "scheme": "http",
        "path": "/r/a b",
        "raw_path": b"/a%20b",
        "query_string": b"c=%20",
        "root_path": "/r",
        "headers": [(b"host", b"example.org")],
        "client": ("::1", 5),
        "server": ("::1", 80),
        "state": {},
        "extensions": {"x": {}},
    }


def test_a_websocket_scope_has_subprotocols_and_no_method() -> None:
    facts = ConnectionFacts()
    scope = websocket_scope(facts, HEAD, {}, ["chat"])
    of_http = http_scope(facts, HEAD, {})

    assert scope.keys() ^ of_http.keys() == {"subprotocols", "method"}
    assert (scope["type"], scope["scheme"], scope["subprotocols"]) == ("websocket", "ws", ["chat"])


@pytest.mark.parametrize(
    ("secure", "schemes"), [(False, ("http", "ws")), (True, ("https", "wss"))], ids=["clear", "tls"]
)
def test_the_scheme_says_whether_the_connection_is_secure(secure: bool, schemes: tuple[str, str]) -> None:
    facts = ConnectionFacts(make_tls=MakeTls() if secure else None)

    assert (http_scope(facts, HEAD, {})["scheme"], websocket_scope(facts, HEAD, {}, [])["scheme"]) == schemes
    assert facts.secure is secure


def test_the_tls_extension_is_built_once_and_when_it_is_first_needed() -> None:
    make_tls = MakeTls()
    facts = ConnectionFacts(make_tls=make_tls)
    assert make_tls.times == 0
    scopes = [http_scope(facts, HEAD, {}), websocket_scope(facts, HEAD, {}, []), http_scope(facts, HEAD, {})]

    assert make_tls.times == 1
    assert all(scope["extensions"]["tls"] == TLS for scope in scopes)


def test_no_scope_shares_what_can_be_changed() -> None:
    state = {"pool": ["shared"]}
    facts = ConnectionFacts(make_tls=MakeTls(), state=state)
    first = http_scope(facts, HEAD, {})
    first["asgi"]["version"] = "spoiled"
    first["state"]["spoiled"] = True
    first["extensions"]["spoiled"] = {}
    first["extensions"]["tls"]["client_cert_chain"].append("spoiled")
    first["extensions"]["tls"]["spoiled"] = True
    second = http_scope(facts, HEAD, {})

    assert "spoiled" not in repr(second)
    assert "spoiled" not in repr((state, TLS))
    assert second["state"]["pool"] is state["pool"]


def test_without_lifespan_state_a_scope_has_none() -> None:
    assert "state" not in http_scope(ConnectionFacts(), HEAD, {})
    assert "state" not in websocket_scope(ConnectionFacts(), HEAD, {}, [])
