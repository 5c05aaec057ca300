"""The acceptor with real sockets and real clients, on both event loops."""

import asyncio
import contextlib
import gc
import logging
import os
import resource
import socket
import ssl
import stat
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from alphorn.core.clock import TICK_SECONDS
from alphorn.core.config import Config
from alphorn.tls.arrival import HTTP2_PREFACE, Arrival, ClearArrival
from alphorn.tls.context import ServerContext
from support.certificates import Authority, Pair, authority
from support.door import Door, open_door
from support.handshake import context_of
from support.waiting import turns, until, within

GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.fixture
def tls(pair: Pair) -> ServerContext:
    return context_of(pair)


async def connect(door: Door) -> socket.socket:
    """Connect a bare socket, which sends exactly what it is told to."""
    client = socket.socket()
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", door.port))
    return client


async def send(client: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(client, data)


async def receive(client: socket.socket, count: int) -> bytes:
    """Receive `count` bytes, or all until the end."""
    received = b""
    async with within(f"{count} bytes, not {received!r}"):
        while len(received) < count:
            data = await asyncio.get_running_loop().sock_recv(client, count - len(received))
            if not data:
                break
            received += data
    return received


async def receive_all(client: socket.socket) -> bytes:
    return await receive(client, 1 << 20)


async def run(*command: str, sends: bytes = b"") -> str:
    """Run a client program; return what it wrote, both ways."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with within(command[0], 20):
        output, _ = await process.communicate(sends or None)  # it may have ended before nothing is written
    return output.decode("utf-8", "replace")


def client_hello(context: ssl.SSLContext) -> bytes:
    """Return what a client with this context sends first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def open_sockets() -> int:
    count = 0
    for descriptor in range(256):
        with contextlib.suppress(OSError):
            count += stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    return count


# --- In the clear


async def test_a_clear_request_goes_to_http1_with_every_byte_once() -> None:
    async with open_door(Config()) as door:
        with await connect(door) as client:
            await send(client, GET)
            assert await receive(client, 6 + len(GET)) == b"http1:" + GET
        assert door.handlers[0].events[:2] == ["made", "data"]


async def test_the_preface_goes_to_http2_with_what_follows_it() -> None:
    async with open_door(Config()) as door:
        with await connect(door) as client:
            await send(client, HTTP2_PREFACE + b"frames")
            assert await receive(client, 36) == b"http2:" + HTTP2_PREFACE + b"frames"
        assert len(door.handlers) == 1


async def test_a_preface_in_single_bytes_is_recognised() -> None:
    async with open_door(Config()) as door:
        with await connect(door) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for position in range(len(HTTP2_PREFACE)):
                await send(client, HTTP2_PREFACE[position : position + 1])
                await turns(1)
            assert await receive(client, 30) == b"http2:" + HTTP2_PREFACE


async def test_what_begins_like_the_preface_and_is_not_goes_to_http1() -> None:
    async with open_door(Config()) as door:
        with await connect(door) as client:
            await send(client, b"PRI")
            await door.wait_for_undecided(1)
            await send(client, b"VATE / HTTP/1.1\r\n")
            assert await receive(client, 26) == b"http1:PRIVATE / HTTP/1.1\r\n"


async def test_a_preface_that_breaks_off_goes_to_http1_with_its_end() -> None:
    async with open_door(Config()) as door:
        with await connect(door) as client:
            await send(client, HTTP2_PREFACE[:10])
            client.shutdown(socket.SHUT_WR)
            assert await receive_all(client) == b"http1:" + HTTP2_PREFACE[:10]
        assert door.handlers[0].events == ["made", "data", "eof", "lost"]


async def test_with_h2c_off_the_preface_goes_to_http1() -> None:
    async with open_door(Config(h2c=False)) as door:
        with await connect(door) as client:
            await send(client, HTTP2_PREFACE)
            assert await receive(client, 30) == b"http1:" + HTTP2_PREFACE


async def test_with_http2_off_the_preface_goes_to_http1() -> None:
    async with open_door(Config(http2=False)) as door:
        with await connect(door) as client:
            await send(client, HTTP2_PREFACE)
            assert await receive(client, 30) == b"http1:" + HTTP2_PREFACE


async def test_with_http1_off_anything_but_the_preface_is_closed() -> None:
    async with open_door(Config(http1=False)) as door:
        with await connect(door) as client:
            await send(client, GET)
            assert await receive_all(client) == b""
        assert door.handlers == []


async def test_a_silent_client_is_closed_when_the_head_is_due() -> None:
    async with open_door(Config(head_timeout=10)) as door:
        with await connect(door) as client:
            await door.wait_for_undecided(1)
            door.clock.advance(9.9)
            assert door.undecided == 1
            door.clock.advance(0.2)
            assert await receive_all(client) == b""


async def test_half_a_preface_does_not_buy_time() -> None:
    async with open_door(Config(head_timeout=10)) as door:
        with await connect(door) as client:
            await send(client, b"PRI * HTTP/2.0")
            await door.wait_for_undecided(1)
            (arrival,) = door.acceptor._reception.arrivals
            assert isinstance(arrival, ClearArrival)
            await until(lambda: arrival._first != b"", "the bytes")
            door.clock.advance(10.1)
            assert await receive_all(client) == b""


async def test_a_client_that_leaves_without_a_word_leaves_nothing_behind() -> None:
    async with open_door(Config()) as door:
        client = await connect(door)
        await door.wait_for_undecided(1)
        client.close()
        await door.wait_for_undecided(0)
        client = await connect(door)
        await door.wait_for_undecided(1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()  # with a reset
        await door.wait_for_undecided(0)
        assert door.handlers == []


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "tls"])
async def test_nothing_of_the_arrival_outlives_the_choice(tls: ServerContext, secure: bool) -> None:
    context = authority().client_context() if secure else None
    async with open_door(Config(), tls if secure else None) as door:
        gc.collect()
        gc.disable()  # so that a cycle would show
        try:
            reader, writer = await asyncio.open_connection("localhost", door.port, ssl=context)
            writer.write(GET)
            await reader.readexactly(6)
            await until(lambda: not door.acceptor._reception.tasks, "the task to end")
            await turns(1)
            assert not [found for found in gc.get_objects() if isinstance(found, Arrival)]
        finally:
            gc.enable()
        writer.close()
        await writer.wait_closed()


async def test_a_connection_that_was_handed_over_is_left_alone() -> None:
    async with open_door(Config(head_timeout=10)) as door:
        with await connect(door) as client:
            await send(client, GET)
            await receive(client, 6 + len(GET))
            door.clock.advance(1000)
            door.acceptor.close()
            await send(client, b"more")
            assert await receive(client, 4) == b"more"


async def test_handlers_are_told_who_talks_to_whom() -> None:
    async with open_door(Config(root_path="/app"), state={"key": "value"}) as door:
        with await connect(door) as client:
            await send(client, GET)
            await receive(client, 6)
            facts = door.handlers[0].facts
            assert facts.client == client.getsockname()
            assert facts.server == ("127.0.0.1", door.port)
            assert facts.root_path == "/app"
            assert facts.state == {"key": "value"}
            assert not facts.secure
            assert facts.tls is None


async def test_a_unix_client_has_no_address_and_its_server_a_path(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    async with open_door(Config(), listener=listener) as door:
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            await asyncio.get_running_loop().sock_connect(client, path)
            await send(client, GET)
            assert await receive(client, 6 + len(GET)) == b"http1:" + GET
        assert door.handlers[0].facts.client is None
        assert door.handlers[0].facts.server == (path, None)


async def test_an_ipv4_client_of_an_ipv6_socket_is_an_ipv4_client() -> None:
    listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    async with open_door(Config(), listener=listener) as door:
        with await connect(door) as client:
            await send(client, GET)
            await receive(client, 6)
            assert door.handlers[0].facts.client == client.getsockname()
            assert door.handlers[0].facts.server == ("127.0.0.1", door.port)


async def test_small_writes_are_not_held_back() -> None:
    async with open_door(Config()) as door:
        with await connect(door) as client:
            await send(client, GET)
            await receive(client, 6)
            accepted = door.handlers[0].transport.get_extra_info("socket")
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# --- Over TLS


@pytest.mark.parametrize(
    ("offers", "chosen", "handler"),
    [
        (["h2", "http/1.1"], "h2", "http2"),
        (["http/1.1", "h2"], "h2", "http2"),
        (["http/1.1"], "http/1.1", "http1"),
        (["http/1.0"], "http/1.0", "http1"),
        (["acme-tls/1", "h2"], "h2", "http2"),
        ([], None, "http1"),
    ],
)
async def test_alpn_chooses_the_handler(
    tls: ServerContext, offers: list[str], chosen: str | None, handler: str
) -> None:
    async with open_door(Config(), tls) as door:
        context = authority().client_context(*offers)
        reader, writer = await asyncio.open_connection("localhost", door.port, ssl=context)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == chosen
        writer.write(b"first bytes")
        assert await reader.readexactly(17) == handler.encode() + b":first bytes"
        assert door.handlers[0].facts.secure
        writer.close()
        await writer.wait_closed()


async def test_with_http1_off_a_client_without_alpn_is_closed(tls: ServerContext) -> None:
    async with open_door(Config(http1=False), tls) as door:
        reader, writer = await asyncio.open_connection(
            "localhost", door.port, ssl=authority().client_context()
        )
        assert await reader.read() == b""
        assert door.handlers == []
        writer.close()
        await writer.wait_closed()


async def test_an_alpn_offer_without_anything_for_us_gets_the_alert_of_rfc_7301(
    tls: ServerContext, caplog: pytest.LogCaptureFixture, needs_tool: Callable[[str], str]
) -> None:
    caplog.set_level(logging.DEBUG)
    openssl = needs_tool("openssl")
    async with open_door(Config(), tls) as door:
        with pytest.raises(ssl.SSLError, match=r"(?i)alert.no.application.protocol"):
            await asyncio.open_connection(
                "localhost", door.port, ssl=authority().client_context("spdy/3", "h3")
            )
        output = await run(
            openssl, "s_client", "-connect", f"127.0.0.1:{door.port}", "-alpn", "spdy/3", sends=b"Q\n"
        )
        assert "SSL alert number 120" in output
        await door.wait_for_undecided(0)
    lines = [record.getMessage() for record in caplog.records if record.name == "alphorn.error"]
    assert len(lines) == 2
    assert "spdy/3" in lines[0]


@pytest.mark.parametrize("size", [1, 4, 5, 6, 100])
async def test_a_client_hello_in_two_segments_is_waited_for_without_spinning(
    tls: ServerContext, size: int
) -> None:
    async with open_door(Config(), tls) as door:
        hello = client_hello(authority().client_context("spdy/3"))
        with await connect(door) as client:
            await send(client, hello[:size])
            await door.wait_for_undecided(1)
            arrival: Any = next(iter(door.acceptor._reception.arrivals))
            accepted = arrival._socket
            wanted = 5 if size < 5 else len(hello)
            await until(
                lambda: accepted.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == wanted,
                "the low mark",
            )
            await send(client, hello[size:])
            assert await receive_all(client) == b"\x15\x03\x03\x00\x02\x02\x78"


async def test_a_client_that_trickles_its_handshake_is_served(tls: ServerContext) -> None:
    async with open_door(Config(), tls) as door:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = authority().client_context("h2").wrap_bio(incoming, outgoing, server_hostname="localhost")
        with await connect(door) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while session.version() is None or outgoing.pending:
                with contextlib.suppress(ssl.SSLWantReadError):
                    session.do_handshake()
                flight = outgoing.read()
                for position in range(0, len(flight), 50):
                    await send(client, flight[position : position + 50])
                    await turns(2)  # so that the server, in the same loop, reads it for itself
                if session.version() is None:
                    incoming.write(await asyncio.get_running_loop().sock_recv(client, 65536))
            session.write(b"hi")  # shorter than the low mark that the ClientHello had
            await send(client, outgoing.read())
            async with within("an echo"):
                received = b""
                while received != b"http2:hi":
                    try:
                        received += session.read(100)
                    except ssl.SSLWantReadError:
                        incoming.write(await asyncio.get_running_loop().sock_recv(client, 65536))


async def test_where_there_is_no_low_mark_a_part_is_left_to_openssl(
    tls: ServerContext, tmp_path: Path
) -> None:
    # A unix socket takes the mark and wakes for every byte all the same.
    path = str(tmp_path / "s")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    async with open_door(Config(), tls, listener=listener) as door:
        hello = client_hello(authority().client_context("h2"))
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            await asyncio.get_running_loop().sock_connect(client, path)
            await send(client, hello[:100])
            await door.wait_for_undecided(1)
            arrival: Any = next(iter(door.acceptor._reception.arrivals))
            await until(lambda: arrival._task is not None, "OpenSSL")
            await send(client, hello[100:])
            assert await receive(client, 3) == b"\x16\x03\x03"  # a ServerHello


async def test_of_many_handshakes_a_few_are_begun_in_each_turn_of_the_loop(tls: ServerContext) -> None:
    async with open_door(Config(), tls) as door:
        begun: list[int] = []
        for number in range(10):
            door.acceptor._reception.begin_in_turn(partial(begun.append, number))
        counts = []
        for _ in range(4):
            await turns(1)
            counts.append(len(begun))
        assert counts == [4, 8, 10, 10]
        assert begun == list(range(10))


async def test_a_handshake_is_not_begun_if_its_client_is_dropped_before_its_turn(tls: ServerContext) -> None:
    async with open_door(Config(), tls) as door:
        with await connect(door) as client:
            await door.wait_for_undecided(1)
            arrival: Any = next(iter(door.acceptor._reception.arrivals))
            arrival._greet(client_hello(authority().client_context("h2")))
            arrival.drop()
            assert len(door.acceptor._reception.queue) == 1
            assert await receive_all(client) == b""
            await until(lambda: not door.acceptor._reception.queue, "its turn")
            assert arrival._task is None


async def test_a_client_hello_that_breaks_off_is_one_line(
    tls: ServerContext, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with open_door(Config(), tls) as door:
        for size in (3, 50):
            with await connect(door) as client:
                await send(client, client_hello(authority().client_context("h2"))[:size])
                await door.wait_for_undecided(1)
                client.shutdown(socket.SHUT_WR)
                assert await receive_all(client) == b""
        await door.wait_for_undecided(0)
    assert len([record for record in caplog.records if record.name == "alphorn.error"]) == 2


async def test_clear_http_on_a_tls_port_gets_a_readable_answer(
    tls: ServerContext, needs_tool: Callable[[str], str]
) -> None:
    curl = needs_tool("curl")
    async with open_door(Config(), tls) as door:
        with await connect(door) as client:
            await send(client, GET)
            client.shutdown(socket.SHUT_WR)
            answer = await receive_all(client)
            assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
            assert b"\r\ndate: " in answer
            assert b"\r\nconnection: close\r\n" in answer
            assert b"speaks HTTPS" in answer
        output = await run(curl, "-si", f"http://127.0.0.1:{door.port}/")
        assert output.startswith("HTTP/1.1 400 Bad Request")
        assert "speaks HTTPS" in output


async def test_the_answer_to_a_clear_upload_is_not_lost_to_a_reset(
    tls: ServerContext, tmp_path: Path
) -> None:
    upload = tmp_path / "upload"
    upload.write_bytes(bytes(8 << 20))
    async with open_door(Config(), tls) as door:
        output = await run(
            "curl", "-si", "-T", str(upload), "-H", "expect:", f"http://127.0.0.1:{door.port}/"
        )
        assert "speaks HTTPS" in output


async def test_a_refused_client_that_does_not_close_is_closed(tls: ServerContext) -> None:
    async with open_door(Config(), tls) as door:
        with await connect(door) as client:
            await send(client, GET)
            assert b"speaks HTTPS" in await receive_all(client)
            assert door.undecided == 1
            door.clock.advance(Config().linger_timeout + 0.1)
            assert door.undecided == 0


@pytest.mark.parametrize("first", [b"", b"\x16\x03", GET], ids=["silent", "hello", "clear"])
@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
async def test_a_client_that_leaves_before_tls_leaves_nothing_behind(
    tls: ServerContext, first: bytes, reset: bool
) -> None:
    async with open_door(Config(), tls) as door:
        client = await connect(door)
        await send(client, first)
        await door.wait_for_undecided(1)
        if reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        await door.wait_for_undecided(0)
        assert door.handlers == []


async def test_neither_tls_nor_http_is_closed_without_a_word(
    tls: ServerContext, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with open_door(Config(), tls) as door:
        for garbage in (b"\x80\x2e\x01\x00\x02", b"\0" * 100, b"\xff", b"\r\n"):
            with await connect(door) as client:
                await send(client, garbage)
                with contextlib.suppress(ConnectionResetError):
                    assert await receive_all(client) == b""
        await door.wait_for_undecided(0)
    lines = [record.getMessage() for record in caplog.records if record.name == "alphorn.error"]
    assert len(lines) == 4


async def test_a_client_that_says_nothing_is_closed_when_the_handshake_is_due(tls: ServerContext) -> None:
    async with open_door(Config(handshake_timeout=3), tls) as door:
        with await connect(door) as client:
            await door.wait_for_undecided(1)
            door.clock.advance(2.9)
            assert door.undecided == 1
            door.clock.advance(0.2)
            assert door.undecided == 0
            assert await receive_all(client) == b""


async def test_a_handshake_that_stalls_is_closed_by_the_clock(tls: ServerContext) -> None:
    async with open_door(Config(handshake_timeout=30), tls) as door:
        with await connect(door) as client:
            await send(client, client_hello(authority().client_context("h2")))
            assert await receive(client, 1) == b"\x16"  # so OpenSSL has it
            door.clock.advance(30.1)
            await receive_all(client)
            assert door.undecided == 0


async def test_a_handshake_that_stalls_is_closed_by_the_loop(
    tls: ServerContext, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with open_door(Config(handshake_timeout=0.1), tls) as door:
        with await connect(door) as client:
            await send(client, client_hello(authority().client_context("h2")))
            await receive_all(client)
            await door.wait_for_undecided(0)
    lines = [record for record in caplog.records if record.name == "alphorn.error"]
    assert len(lines) == 1
    assert lines[0].exc_info is None


async def test_a_failed_handshake_is_one_debug_line(
    tls: ServerContext, caplog: pytest.LogCaptureFixture, needs_tool: Callable[[str], str]
) -> None:
    caplog.set_level(logging.DEBUG)
    openssl = needs_tool("openssl")
    async with open_door(Config(), tls) as door:
        # A client that does not trust us, and one that speaks TLS 1.1 at the most.
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection(
                "localhost", door.port, ssl=Authority("Somebody else").client_context("h2")
            )
        address = f"127.0.0.1:{door.port}"
        await run(openssl, "s_client", "-connect", address, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
        await door.wait_for_undecided(0)
        assert door.handlers == []
    lines = [record for record in caplog.records if record.name == "alphorn.error"]
    assert [line.levelno for line in lines] == [logging.DEBUG] * 2
    assert all(line.exc_info is None for line in lines)
    assert "127.0.0.1" in lines[0].getMessage()
    assert not [record for record in caplog.records if record.name == "asyncio" and record.levelno > 10]


async def test_a_fault_of_ours_is_an_error_line_and_closes(caplog: pytest.LogCaptureFixture) -> None:
    no_context = cast("ssl.SSLContext", object())
    async with open_door(Config(), no_context) as door:
        with await connect(door) as client:
            await send(client, client_hello(authority().client_context("h2")))
            with contextlib.suppress(ConnectionResetError):
                assert await receive_all(client) == b""
            await door.wait_for_undecided(0)
    (line,) = caplog.records
    assert line.levelno == logging.ERROR
    assert line.exc_info


# --- The listening socket


async def test_closing_drops_the_undecided_at_every_stage_and_no_socket_stays(tls: ServerContext) -> None:
    before = open_sockets()
    clear_listener = socket.create_server(("127.0.0.1", 0))
    async with open_door(Config(), tls) as door, open_door(Config(), listener=clear_listener) as clear:
        clients = [await connect(door) for _ in range(4)]
        await send(clients[1], b"\x16\x03")
        await send(clients[2], client_hello(authority().client_context("h2")))
        assert await receive(clients[2], 1) == b"\x16"
        await send(clients[3], GET)
        await receive_all(clients[3])
        clients += [await connect(clear) for _ in range(2)]
        await send(clients[5], b"PRI")
        await door.wait_for_undecided(4)
        await clear.wait_for_undecided(2)
        for each in (door, clear):
            each.acceptor.close()
            each.acceptor.close()  # a second time does nothing
            assert each.undecided == 0
        for client in clients:
            with contextlib.suppress(ConnectionResetError):  # where we had not read what it sent
                await receive_all(client)
            client.close()
        assert door.listener.fileno() >= 0
    await until(lambda: open_sockets() == before, "the sockets to be closed")


async def test_closing_in_the_moment_of_accepting_leaves_nothing_behind(tls: ServerContext) -> None:
    for context in (None, tls):
        async with open_door(Config(), context) as door:
            with await connect(door) as client:
                door.acceptor._accept()
                assert door.undecided == 1
                door.acceptor.close()
                assert await receive_all(client) == b""


async def test_more_connections_than_a_batch_are_all_accepted() -> None:
    async with open_door(Config()) as door:
        clients = [await connect(door) for _ in range(100)]
        await door.wait_for_undecided(100)
        for client in clients:
            client.close()
        await door.wait_for_undecided(0)


async def test_without_descriptors_accepting_pauses_for_a_tick_with_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_door(Config()) as door:
        client = socket.socket()
        client.setblocking(False)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        next_free = os.dup(0)
        os.close(next_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (next_free, hard))
        try:
            await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", door.port))
            await until(lambda: bool(caplog.records), "the pause")
            await turns(20)  # the listener is readable in each
            assert door.undecided == 0
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        (line,) = caplog.records
        assert line.levelno == logging.ERROR
        assert "Too many open files" in line.getMessage()
        assert "ulimit" in line.getMessage()
        door.clock.advance(TICK_SECONDS)
        await door.wait_for_undecided(1)
        client.close()
