"""The switch from HTTP/1.1 to a WebSocket: what belongs to which, byte by byte."""

import re
from collections.abc import AsyncIterator

import pytest
from wsproto.frame_protocol import FrameProtocol

from compliance.http1_corpus import get, target
from support.http1_peer import Http1Peer
from support.steered_app import Call, SteeredApp

HANDSHAKE = get(
    b"Connection: keep-alive, Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
GET = target(b"/next")
HELLO = bytes(FrameProtocol(client=True, extensions=[]).send_data("hello", fin=True))
LONG = bytes(FrameProtocol(client=True, extensions=[]).send_data("a" * 5000, fin=True))
CLOSE = bytes(FrameProtocol(client=True, extensions=[]).close(1000))


@pytest.fixture
def app() -> SteeredApp:
    return SteeredApp()


@pytest.fixture
async def peer(app: SteeredApp) -> AsyncIterator[Http1Peer]:
    peer = Http1Peer(app)
    yield peer
    app.finish_all()
    assert await peer.left_behind() == []


async def begun(peer: Http1Peer, app: SteeredApp, *pieces: bytes) -> Call:
    """Send bytes and wait for the application's call."""
    peer.sends(*pieces)
    return await app.next_call()


async def test_the_head_that_accepts_is_that_of_rfc_6455(peer: Http1Peer, app: SteeredApp) -> None:
    call = await begun(peer, app, HANDSHAKE)
    assert call.scope["type"] == "websocket"
    await call.accept()
    assert re.sub(rb"date: .*\r\n", b"", peer.received) == (
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nserver: alphorn\r\n\r\n"
    )


@pytest.mark.parametrize("one_read", [True, False])
async def test_bytes_straight_behind_the_handshake_are_the_first_of_the_tunnel(
    peer: Http1Peer, app: SteeredApp, one_read: bool
) -> None:
    pieces = [HANDSHAKE + HELLO] if one_read else [bytes([byte]) for byte in HANDSHAKE + HELLO]
    call = await begun(peer, app, *pieces)
    await call.accept()
    assert await call.receive() == {"type": "websocket.receive", "text": "hello"}
    peer.sends(HELLO)
    assert await call.receive() == {"type": "websocket.receive", "text": "hello"}


async def test_what_looks_like_a_request_in_a_tunnel_is_none(peer: Http1Peer, app: SteeredApp) -> None:
    call = await begun(peer, app, HANDSHAKE)
    await call.accept()
    peer.sends(GET)
    assert (await call.receive())["type"] == "websocket.disconnect"
    await peer.settle()
    assert len(app.calls) == 1
    assert peer.transport.ended


async def test_behind_a_handshake_that_is_denied_requests_go_on(peer: Http1Peer, app: SteeredApp) -> None:
    call = await begun(peer, app, HANDSHAKE + GET)
    await call.send({"type": "websocket.close"})
    following = await app.next_call()
    assert (following.scope["type"], following.scope["path"]) == ("http", "/next")
    await following.respond()
    await peer.settle()
    assert re.findall(rb"HTTP/1.1 (\d+)", peer.received) == [b"403", b"200"]


async def test_the_server_ends_a_tunnel_first_and_listens_for_the_clients_end(
    peer: Http1Peer, app: SteeredApp
) -> None:
    """RFC 6455, 7.1.1."""
    call = await begun(peer, app, HANDSHAKE)
    await call.accept()
    peer.sends(CLOSE)
    await peer.settle()
    assert peer.transport.ended
    assert not peer.transport.is_closing()
    peer.half_closes()
    assert peer.transport.is_closing()


async def test_a_client_that_ends_its_side_of_a_tunnel_has_ended_it(peer: Http1Peer, app: SteeredApp) -> None:
    call = await begun(peer, app, HANDSHAKE)
    await call.accept()
    peer.half_closes()
    assert (await call.receive())["code"] == 1006
    await peer.settle()
    assert peer.transport.ended


async def test_a_tunnel_is_not_read_while_its_application_does_not_receive(
    peer: Http1Peer, app: SteeredApp
) -> None:
    call = await begun(peer, app, HANDSHAKE)
    await call.accept()
    sent = 0
    while peer.transport.is_reading():
        peer.sends(LONG * 5)
        sent += 5
    for _ in range(sent):
        assert len((await call.receive())["text"]) == 5000
    assert peer.transport.is_reading()


async def test_a_flood_behind_a_handshake_is_not_read_before_it_is_answered(
    peer: Http1Peer, app: SteeredApp
) -> None:
    call = await begun(peer, app, HANDSHAKE)
    sent = 0
    while peer.transport.is_reading():
        peer.sends(LONG * 5)
        sent += 5
    assert sent * len(LONG) < 300_000
    await call.accept()
    for _ in range(sent):
        assert len((await call.receive())["text"]) == 5000
    assert peer.transport.is_reading()
