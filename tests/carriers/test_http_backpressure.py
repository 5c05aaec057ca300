"""Back-pressure in both directions: whoever does not read is waited for, alone, and holds little memory."""

import asyncio
from typing import Any

import pytest

from alphorn.core.http import HttpExchange
from support.carrier import HTTP2_CLEAR, HTTP2_TLS, Carrier
from support.clock import ManualClock
from support.conversation import Begin, settled
from support.exchange import ClientExchange
from support.http2_client import Http2Client
from support.serving import Connect, Serve
from support.steered_app import Call

over_http2 = pytest.mark.parametrize("carrier", [HTTP2_CLEAR, HTTP2_TLS], ids=str)

PIECE = 16 * 1024
WINDOW = 32 * 1024
HIGH_MARK = 64 * 1024

KERNEL = 8 * 1024 * 1024
"""More than the buffers of two sockets on one machine hold (Linux: 4 MiB, tcp_wmem and tcp_rmem)."""

READ = 512 * 1024
"""What an event loop reads at once goes beyond a window: 256 KiB, and as much again that TLS has ready."""


class Endless:
    """An application that sends, in pieces, until it is told to stop.

    Attributes:
        sent: How many bytes `send()` has taken.
    """

    def __init__(self, call: Call) -> None:
        self.sent = 0
        self._call = call
        self._stopping = False
        self.task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        await self._call.start()
        while not self._stopping:
            await self._call.body(self.sent.to_bytes(8, "big") * (PIECE // 8), more=True)
            self.sent += PIECE
        await self._call.body()

    async def stalled(self) -> int:
        """Wait until nothing goes any more, and return how much went."""
        await settled(lambda: self.sent)
        assert not self.task.done()
        return self.sent

    def stop(self) -> None:
        self._stopping = True


def held_by_the_server(serve: Serve) -> int:
    """How many bytes of responses wait in this process, behind what the kernel has taken."""
    running: Any = serve.servers[0]._running
    total = 0
    for connection in running._worker.connections:
        total += connection._transport.get_write_buffer_size()
        total += sum(stream.pending_bytes for stream in getattr(connection, "_streams", {}).values())
    return total


def held_for(call: Call) -> int:
    """How many bytes of a request wait for the application."""
    exchange = call._receive.__self__  # type: ignore[attr-defined]
    assert isinstance(exchange, HttpExchange)
    return sum(map(len, exchange._chunks))


async def read_pieces(exchange: ClientExchange, count: int) -> None:
    """Read `count` bytes of what `Endless` sends; they must be the next ones."""
    for at in range(0, count, PIECE):
        assert await exchange.read_exactly(PIECE) == at.to_bytes(8, "big") * (PIECE // 8)


# --- A client that does not read


async def test_a_client_that_never_reads_makes_the_server_hold_a_high_mark_and_a_message(
    begin: Begin, serve: Serve, carrier: Carrier
) -> None:
    """Defect 2: over HTTP/2 as well, `send()` waits for a slow reader."""
    _, exchange, call = await begin(receive_window=WINDOW, write_high_mark=HIGH_MARK)
    endless = Endless(call)
    sent = await endless.stalled()

    assert held_by_the_server(serve) <= HIGH_MARK + PIECE
    if carrier.http_version == "2":
        # Of the message that waits, send() has not returned yet.
        assert WINDOW + HIGH_MARK - PIECE <= sent + PIECE <= WINDOW + HIGH_MARK + PIECE
    else:
        assert sent < KERNEL
    endless.stop()
    await read_pieces(exchange, sent + PIECE)
    await endless.task
    assert (await exchange.response()).complete


async def test_a_message_larger_than_all_buffers_waits_until_it_has_mostly_left(
    begin: Begin, carrier: Carrier
) -> None:
    content = bytes(KERNEL)
    _, exchange, call = await begin(receive_window=WINDOW, write_high_mark=HIGH_MARK)
    await call.start()
    if carrier.secure and carrier.http_version == "1.1":
        await call.body(content, more=True)  # asyncio's TLS takes one before it says stop
    sending = asyncio.ensure_future(call.body(content, more=True))
    await settled(sending.done)
    assert not sending.done()
    reading = asyncio.ensure_future(exchange.read())
    await sending
    await call.body()
    assert len(await reading) % len(content) == 0


async def test_a_stalled_client_that_goes_on_reading_wakes_the_application_each_time(begin: Begin) -> None:
    _, exchange, call = await begin(receive_window=WINDOW)
    endless = Endless(call)
    sent = await endless.stalled()
    for at in range(0, 3 * sent, PIECE):
        assert await exchange.read_exactly(PIECE) == at.to_bytes(8, "big") * (PIECE // 8)
    endless.stop()
    await exchange.read()
    await endless.task
    assert exchange.complete


async def test_a_client_that_never_reads_delays_no_other_connection(begin: Begin, connect: Connect) -> None:
    _, _, call = await begin(receive_window=WINDOW)
    endless = Endless(call)
    await endless.stalled()
    _, other, call = await begin.on(await connect(begin.url))
    await call.respond(body=b"not delayed")

    assert (await other.response()).body == b"not delayed"
    endless.task.cancel()


@over_http2
async def test_a_stalled_stream_delays_neither_its_siblings_nor_a_ping(begin: Begin, serve: Serve) -> None:
    """Defect 2: each stream has its own high mark, and waits for its own window."""
    window = 8192  # of all these streams together less than the connection's, 65,535
    client, exchange, call = await begin(receive_window=window, write_high_mark=HIGH_MARK)
    assert isinstance(client, Http2Client)
    stalled = [(exchange, Endless(call))]
    for _ in range(3):
        _, exchange, call = await begin.on(client)
        stalled.append((exchange, Endless(call)))
    totals = [await endless.stalled() for _, endless in stalled]
    assert all(total <= window + HIGH_MARK for total in totals)
    assert held_by_the_server(serve) <= 4 * (HIGH_MARK + PIECE)

    await client.ping()
    _, sibling, call = await begin.on(client)
    await call.respond(body=b"x" * window)
    assert len((await sibling.response()).body) == window
    for (exchange, endless), total in zip(stalled, totals, strict=True):
        endless.stop()
        await read_pieces(exchange, total + PIECE)
        await endless.task


@over_http2
async def test_the_end_of_a_response_does_not_wait_for_the_client_to_read_it(begin: Begin) -> None:
    """What is left fits the high mark: the application may go, its stream sends on."""
    _, exchange, call = await begin(receive_window=WINDOW, write_high_mark=HIGH_MARK)
    await call.respond(body=b"x" * (WINDOW + HIGH_MARK))
    call.finish()
    assert await call.cancelled_or_done() == "done"

    assert len((await exchange.response()).body) == WINDOW + HIGH_MARK


async def test_a_client_that_leaves_while_the_application_waits_for_it_wakes_the_application(
    begin: Begin,
) -> None:
    _, exchange, call = await begin(receive_window=WINDOW)
    endless = Endless(call)
    await endless.stalled()
    await exchange.abandon()

    with pytest.raises(OSError, match="gone"):
        await endless.task


# --- An application that does not read


class Upload:
    """A client that sends, in pieces, until it is told to stop.

    Attributes:
        sent: How many bytes could be written.
    """

    def __init__(self, exchange: ClientExchange) -> None:
        self.sent = 0
        self._exchange = exchange
        self._stopping = False
        self.task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        while not self._stopping:
            await self._exchange.send(self.sent.to_bytes(8, "big") * (PIECE // 8))
            self.sent += PIECE
        await self._exchange.send_end()

    async def stalled(self) -> int:
        await settled(lambda: self.sent)
        assert not self.task.done()
        return self.sent

    def stop(self) -> None:
        self._stopping = True


async def test_an_application_that_never_reads_makes_the_server_hold_a_window_at_most(
    begin: Begin, carrier: Carrier
) -> None:
    _, exchange, call = await begin("POST", "/", end=False, stream_window=65535)
    upload = Upload(exchange)
    sent = await upload.stalled()

    if carrier.http_version == "2":
        assert held_for(call) == 65535
        assert sent <= 65535
    else:
        assert held_for(call) <= 65535 + READ
        assert sent < KERNEL
    upload.stop()
    content = await call.receive_body()
    assert content == b"".join(at.to_bytes(8, "big") * (PIECE // 8) for at in range(0, len(content), PIECE))
    await upload.task
    assert len(content) == upload.sent


async def test_an_application_that_reads_slowly_is_behind_its_client_by_a_window_at_most(
    begin: Begin,
) -> None:
    _, exchange, call = await begin("POST", "/", end=False, stream_window=65535)
    upload = Upload(exchange)
    taken = 0
    while taken < KERNEL:
        await upload.stalled()
        assert held_for(call) <= 65535 + READ
        taken += len((await call.receive())["body"])
    upload.stop()
    await call.receive_body()
    await upload.task


async def test_an_application_that_never_reads_delays_no_other_connection(
    begin: Begin, connect: Connect
) -> None:
    _, exchange, _ = await begin("POST", "/", end=False, stream_window=65535)
    upload = Upload(exchange)
    await upload.stalled()
    _, other, call = await begin.on(await connect(begin.url), "POST", "/", content=b"x" * 50_000)

    assert len(await call.receive_body()) == 50_000
    await call.respond(body=b"not delayed")
    assert (await other.response()).body == b"not delayed"
    upload.task.cancel()


@over_http2
async def test_an_application_that_never_reads_stalls_only_its_own_stream(begin: Begin) -> None:
    """Defect 3: a PING is answered, and siblings are served, both ways."""
    client, exchange, stalled_call = await begin("POST", "/", end=False)
    assert isinstance(client, Http2Client)
    upload = Upload(exchange)
    await upload.stalled()
    assert exchange.send_window == 0  # type: ignore[attr-defined]
    await client.ping()
    _, sibling, call = await begin.on(client, "POST", "/", content=b"x" * 200_000)
    assert len(await call.receive_body()) == 200_000
    await call.respond(body=b"y" * 200_000)
    assert len((await sibling.response()).body) == 200_000

    assert not upload.task.done()
    upload.stop()
    assert len(await stalled_call.receive_body()) == upload.sent
    await upload.task


async def test_a_stalled_upload_is_let_go_by_an_answer(begin: Begin, clock: ManualClock) -> None:
    client, exchange, call = await begin("POST", "/", end=False, stream_window=65535, clock=clock)
    upload = Upload(exchange)
    await upload.stalled()
    await call.respond(413, body=b"enough")
    call.finish()

    response = await exchange.response()
    assert (response.status, response.body) == (413, b"enough")
    upload.task.cancel()
    await asyncio.wait([upload.task])
    client.close()
