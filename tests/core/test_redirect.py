"""Where the application of `--redirect-bind` sends whom."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphorn.core.asgi import Message
from alphorn.core.redirect import RedirectToHttps


async def answer(
    host: bytes | None, path: bytes = b"/", query: bytes = b"", *, port: int = 443, kind: str = "http"
) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("it has nothing to ask")

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": kind,
        "headers": [] if host is None else [(b"host", host)],
        "raw_path": path,
        "query_string": query,
    }
    await RedirectToHttps(port)(scope, receive, send)
    return sent


async def location(*arguments: Any, **options: Any) -> bytes | None:
    """Where a request is sent; None when it is refused."""
    start, body = await answer(*arguments, **options)
    assert body["body"]
    fields = dict(start["headers"])
    assert start["status"] == (308 if b"location" in fields else 400)
    return fields.get(b"location")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"example.com", b"https://example.com/"),
        (b"example.com:80", b"https://example.com/"),
        (b"example.com:", b"https://example.com/"),
        (b"Example.COM:8080", b"https://Example.COM/"),
        (b"192.0.2.1", b"https://192.0.2.1/"),
        (b"[2001:db8::1]:80", b"https://[2001:db8::1]/"),
        (b"my_service", b"https://my_service/"),
    ],
)
async def test_the_host_stays_and_the_port_is_that_of_https(host: bytes, expected: bytes) -> None:
    assert await location(host) == expected
    assert await location(host, port=8443) == expected[:-1] + b":8443/"


@pytest.mark.parametrize(
    "host",
    [
        None,
        b"",
        b":80",
        b"a b",
        b"user@example.com",
        b"example.com/evil",
        b"example.com?",
        b"example.com#",
        b"example.com\\",
        b"example.com:80:90",
        b"example.com:123456",
        b"example.com:x",
        b"caf\xc3\xa9.test",
        b"%65xample.com",
        b"[::1",
        b"[v1.x]",
        b"a.test, b.test",
        b"a" * 300,
        b"example.com\r\nset-cookie: a=b",
    ],
)
async def test_a_host_that_is_none_is_refused(host: bytes | None) -> None:
    assert await location(host) is None


async def test_path_and_query_stay_as_they_came() -> None:
    assert await location(b"a.test", b"/a%2Fb//c", b"x=1&y=%20") == b"https://a.test/a%2Fb//c?x=1&y=%20"
    assert await location(b"a.test", b"//evil.test/") == b"https://a.test//evil.test/"
    assert await location(b"a.test", b"/.well-known/acme-challenge/x") == (
        b"https://a.test/.well-known/acme-challenge/x"
    )


async def test_the_server_as_a_whole_is_no_place() -> None:
    assert await location(b"a.test", b"*") is None


async def test_a_websocket_is_sent_to_wss() -> None:
    start, _ = await answer(b"a.test", b"/chat", kind="websocket", port=8443)
    assert start["type"] == "websocket.http.response.start"
    assert (start["status"], dict(start["headers"])[b"location"]) == (308, b"wss://a.test:8443/chat")


@given(st.binary(max_size=60))
async def test_nothing_that_is_no_host_gets_into_an_answer(host: bytes) -> None:
    found = await location(host)
    assert found is None or re.fullmatch(rb"https://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])/", found)
