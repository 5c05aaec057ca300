"""The response table of HttpExchange, move by move, over a stream made of a list."""

import asyncio
import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alphorn.core.asgi import Message
from alphorn.core.errors import Disconnected, UnexpectedMessage
from alphorn.core.exchange import Waiters
from alphorn.core.http import MOVES, State
from support.conversation import settled
from support.fake_stream import FakeStream, body, make_exchange, start
from support.waiting import turns, until

DISCONNECT = {"type": "http.disconnect"}


# --- The table

CONTENT = b"content of the file"
FILE = len(CONTENT)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[io.BufferedReader]:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    with path.open("rb") as opened:
        yield opened


WAYS: dict[State, list[Message]] = {
    State.START: [],
    State.HELD: [start()],
    State.BODY: [start(), body(b"a", more=True)],
    State.TRAILERS: [start(trailers=True), body(b"a")],
    State.COMPLETE: [start(), body(b"a")],
}
"""How to get into each state, but for FILE, in which an application only is while it waits."""

ALL_TYPES = sorted({kind for moves in MOVES.values() for kind in moves})


@contextlib.asynccontextmanager
async def in_state(state: State, file: io.BufferedReader) -> Any:
    """Make an exchange that is in `state`."""
    exchange, stream = make_exchange(FakeStream(zero_copy=state is State.FILE))
    sending: asyncio.Future[None] | None = None
    for message in WAYS.get(state, [start()]):
        await exchange.send(message)
    if state is State.FILE:
        sending = asyncio.ensure_future(exchange.send(legal("http.response.zerocopysend", file)))
        await turns(1)
    assert exchange._state is state
    yield exchange, stream
    if sending is not None:
        stream.file_sent.set_result(FILE)
        with contextlib.suppress(Disconnected):  # the test may have ended the response meanwhile
            await sending


def legal(kind: str, file: io.BufferedReader) -> Message:
    """Make a message of this type that would be legal in some state."""
    messages: dict[str, Message] = {
        "http.response.start": start(),
        "http.response.body": body(b"b"),
        "http.response.trailers": {"type": kind, "headers": [(b"x", b"y")]},
        "http.response.early_hint": {"type": kind, "links": [b"</a>"]},
        "http.response.push": {"type": kind, "path": "/a", "headers": []},
        "http.response.zerocopysend": {"type": kind, "file": file, "offset": 0},
        "http.response.pathsend": {"type": kind, "path": file.name},
    }
    return messages[kind]


def test_every_state_has_its_row() -> None:
    assert set(MOVES) == set(State)


@pytest.mark.parametrize("kind", ALL_TYPES)
@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
async def test_the_table_says_what_is_legal(state: State, kind: str, file: io.BufferedReader) -> None:
    async with in_state(state, file) as (exchange, stream):
        before = list(stream.told)
        if kind in MOVES[state]:
            await exchange.send(legal(kind, file))
            return
        if state is State.COMPLETE:
            await exchange.send(legal(kind, file))
        else:
            with pytest.raises(UnexpectedMessage) as raised:
                await exchange.send(legal(kind, file))
            legal_now = ", ".join(MOVES[state]) or "nothing"
            assert str(raised.value) == f"{kind!r} while the response is {state.value}; legal: {legal_now}"
        assert (exchange._state, stream.told) == (state, before)


@pytest.mark.parametrize("kind", ["http.request", "http.response", "", "websocket.send"])
@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
async def test_what_no_row_knows_is_never_legal(state: State, kind: str, file: io.BufferedReader) -> None:
    async with in_state(state, file) as (exchange, stream):
        before = list(stream.told)
        with pytest.raises(UnexpectedMessage, match="while the response is"):
            await exchange.send({"type": kind})
        assert (exchange._state, stream.told) == (state, before)


STEPS: list[tuple[State, str, dict[str, Any], State, list[Any]]] = [
    # From, message, what is special about it; to, what the stream is told.
    (State.START, "start", {}, State.HELD, []),
    (State.START, "start", {"trailers": True}, State.HELD, []),
    (State.START, "early_hint", {}, State.START, [("informational", 103, [(b"link", b"</a>")])]),
    (State.HELD, "early_hint", {}, State.HELD, [("informational", 103, [(b"link", b"</a>")])]),
    (State.HELD, "push", {}, State.HELD, [("push", b"/a", [])]),
    (State.HELD, "body", {}, State.COMPLETE, [("send", 200, b"b", True)]),
    (State.HELD, "body", {"more_body": True}, State.BODY, [("send", 200, b"b", False)]),
    (State.HELD, "body", {"body": b"", "more_body": True}, State.BODY, [("send", 200, b"", False)]),
    (State.HELD, "pathsend", {}, State.COMPLETE, ["file", ("send", None, b"", True)]),
    (State.HELD, "zerocopysend", {}, State.COMPLETE, ["file", ("send", None, b"", True)]),
    (State.HELD, "zerocopysend", {"more_body": True}, State.BODY, ["file"]),
    (State.HELD, "zerocopysend", {"count": 0, "more_body": True}, State.HELD, []),
    (State.BODY, "push", {}, State.BODY, [("push", b"/a", [])]),
    (State.BODY, "body", {}, State.COMPLETE, [("send", None, b"b", True)]),
    (State.BODY, "body", {"more_body": True}, State.BODY, [("send", None, b"b", False)]),
    (State.BODY, "body", {"body": b"", "more_body": True}, State.BODY, []),
    (State.BODY, "zerocopysend", {}, State.COMPLETE, ["file", ("send", None, b"", True)]),
    (State.BODY, "zerocopysend", {"more_body": True}, State.BODY, ["file"]),
    (State.TRAILERS, "trailers", {}, State.COMPLETE, [("trailers", [(b"x", b"y")])]),
    (State.TRAILERS, "trailers", {"headers": []}, State.COMPLETE, [("send", None, b"", True)]),
    (State.TRAILERS, "trailers", {"more_trailers": True}, State.TRAILERS, []),
]


@pytest.mark.parametrize("zero_copy", [False, True], ids=["copied", "zero-copy"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: "-".join([step[0].name, step[1], *step[2]]))
async def test_each_legal_move_leads_where_it_should(
    file: io.BufferedReader, step: tuple[State, str, dict[str, Any], State, list[Any]], zero_copy: bool
) -> None:
    before, kind, special, after, told = step
    exchange, stream = make_exchange(FakeStream(zero_copy=zero_copy))
    stream.file_sent.set_result(FILE)
    for message in WAYS[before]:
        await exchange.send(message)
    already = len(stream.told)
    await exchange.send({**legal(f"http.response.{kind}", file), **special})

    head = 200 if before is State.HELD else None
    if "file" in told and zero_copy:
        sent = [("send", head, b"", False)] if head else []
        told = [*sent, ("file", 0, FILE), *told[1:]]
    elif "file" in told:
        told = [("send", head, CONTENT, False), *told[1:]]
    assert (exchange._state, stream.told[already:]) == (after, told)


def test_every_move_of_the_table_is_among_the_steps() -> None:
    walked = {(step[0], f"http.response.{step[1]}") for step in STEPS}
    assert walked == {(state, kind) for state, moves in MOVES.items() for kind in moves}


# --- Endings


@pytest.mark.parametrize("error", [None, RuntimeError()], ids=["returned", "raised"])
@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
async def test_what_an_application_leaves_open_is_completed_or_cut(
    state: State, error: BaseException | None, file: io.BufferedReader
) -> None:
    async with in_state(state, file) as (exchange, stream):
        before = list(stream.told)
        complaint = exchange.finished(error)
        left_open = state is not State.COMPLETE
        assert complaint == (
            f"application returned while the response was {state.value}" if left_open and not error else None
        )
        told = stream.told[len(before) :]
        if state in (State.START, State.HELD):
            assert told == [("send", 500, b"Internal Server Error", True)]
        else:
            assert told == ([("abort",)] if left_open else [])
        assert exchange.complete
        assert await exchange.receive() == DISCONNECT
        await exchange.send(body())
        assert exchange.finished(None) is None


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
async def test_a_stream_that_is_lost_is_told_nothing_more(state: State, file: io.BufferedReader) -> None:
    exchange, stream = make_exchange()
    for message in WAYS.get(state, [start()]):
        await exchange.send(message)
    stream.over = True
    exchange.lost()
    exchange.lost()

    assert exchange.finished(RuntimeError()) is None
    assert await exchange.receive() == DISCONNECT
    for kind in ALL_TYPES:
        if state is State.COMPLETE:
            await exchange.send(legal(kind, file))
        else:
            with pytest.raises(Disconnected, match="gone"):
                await exchange.send(legal(kind, file))


async def test_large_chunks_are_received_one_by_one_uncopied_and_small_ones_joined() -> None:
    exchange, _ = make_exchange(FakeStream())
    large = [bytes(64 * 1024), bytes(256_000)]
    for chunk in (*large, b"small ", b"change"):
        exchange.feed(chunk)
    exchange.feed_end()
    received = [await exchange.receive() for _ in range(3)]
    assert received[0]["body"] is large[0]
    assert received[1]["body"] is large[1]
    assert received[2]["body"] == b"small change"
    assert [message["more_body"] for message in received] == [True, True, False]


async def test_content_that_comes_after_the_response_is_not_kept() -> None:
    exchange, _ = make_exchange()
    exchange.feed(b"before")
    await exchange.send(start())
    await exchange.send(body())
    exchange.feed(b"after")

    assert exchange._chunks == []


async def test_credit_is_given_for_what_the_application_took_and_nothing_else() -> None:
    exchange, stream = make_exchange()
    exchange.feed(b"four")
    exchange.feed(b"and six")
    assert stream.pulled == 0
    assert (await exchange.receive())["body"] == b"fourand six"
    assert stream.pulled == 11
    exchange.feed(b"unread")
    await exchange.send(start())
    await exchange.send(body())

    assert await exchange.receive() == DISCONNECT
    assert stream.pulled == 11


# --- Files


@pytest.mark.parametrize("more", [False, True])
async def test_a_file_that_the_kernel_cannot_send_whole_cuts_the_response(
    file: io.BufferedReader, more: bool
) -> None:
    exchange, stream = make_exchange(FakeStream(zero_copy=True))
    await exchange.send(start())
    stream.file_sent.set_result(5)
    with pytest.raises(UnexpectedMessage, match="became shorter"):
        await exchange.send({**legal("http.response.zerocopysend", file), "more_body": more})

    assert stream.told[-1] == ("abort",)
    assert exchange.complete


@pytest.mark.parametrize("error", [OSError("disk"), asyncio.CancelledError()], ids=["disk", "cancelled"])
async def test_a_file_that_failed_in_the_kernel_cuts_the_response(
    file: io.BufferedReader, error: BaseException
) -> None:
    exchange, stream = make_exchange(FakeStream(zero_copy=True))
    await exchange.send(start())
    if isinstance(error, asyncio.CancelledError):
        stream.file_sent.cancel()
    else:
        stream.file_sent.set_exception(error)
    with pytest.raises(type(error)):
        await exchange.send({**legal("http.response.zerocopysend", file), "more_body": True})

    assert stream.told[-1] == ("abort",)
    await exchange.send(body(b"ignored"))


async def test_a_client_that_leaves_during_a_file_is_gone_before_the_wire_says_so(
    file: io.BufferedReader,
) -> None:
    exchange, stream = make_exchange(FakeStream(zero_copy=True))
    await exchange.send(start())
    stream.file_sent.set_exception(Disconnected("the client has gone"))
    with pytest.raises(Disconnected):
        await exchange.send(legal("http.response.zerocopysend", file))

    assert stream.told[-1] == ("abort",)
    with pytest.raises(Disconnected):
        await exchange.send(body())
    assert await exchange.receive() == DISCONNECT


async def test_a_copied_file_that_becomes_shorter_leaves_the_rest_to_the_application(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 300_000)
    exchange, stream = make_exchange()
    await exchange.send(start())
    stream.writable = False
    sending = asyncio.ensure_future(exchange.send({"type": "http.response.pathsend", "path": str(path)}))
    await until(lambda: exchange._writers is not None, "the first piece")
    os.truncate(path, 10)
    stream.writable = True
    exchange.resume()
    with pytest.raises(UnexpectedMessage, match="became shorter"):
        await sending

    assert exchange._state is State.BODY
    assert exchange.finished(None) == "application returned while the response was in its body"


async def test_a_file_whose_last_piece_waits_for_room_does_not_begin_an_ended_response_again(
    file: io.BufferedReader,
) -> None:
    exchange, stream = make_exchange(FakeStream(zero_copy=False))
    stream.writable = False
    starting = asyncio.ensure_future(exchange.send(start(trailers=True)))
    await until(lambda: exchange._state is State.HELD, "the response to start")
    sending = asyncio.ensure_future(
        exchange.send({"type": "http.response.zerocopysend", "file": file, "offset": 0, "count": FILE})
    )
    await until(lambda: ("send", 200, CONTENT, False) in stream.told, "the file to be copied")
    exchange.finished(None)
    with pytest.raises(Disconnected):
        await sending
    await starting
    assert exchange.complete
    assert stream.told[-1] == ("abort",)


# --- Waiters


async def test_a_cancelled_waiter_leaves_its_neighbours_waiting() -> None:
    waiters = Waiters()
    first, second = (asyncio.ensure_future(waiters.wait()) for _ in range(2))
    await turns(1)
    first.cancel()
    await asyncio.wait([first])
    assert not second.done()
    waiters.wake()
    await second

    assert not waiters.waiting


async def test_waking_twice_is_waking_once() -> None:
    waiters = Waiters()
    waiters.wake()
    waiting = asyncio.ensure_future(waiters.wait())
    await settled(waiting.done)
    assert not waiting.done()
    waiters.wake()
    waiters.wake()
    await waiting
