"""The order of the answers on the wire: fair, unless the client says what it wants first (RFC 9218)."""

from itertools import groupby

import pytest

from support.carrier import HTTP2_CLEAR
from support.exchange import Fields
from support.frames import (
    ANY,
    GET,
    Data,
    Frame,
    FramePeer,
    Headers,
    Settings,
    WindowUpdate,
    priority_update,
)
from support.serving import Connect, Serve
from support.steered_app import Call, SteeredApp

pytestmark = pytest.mark.parametrize("carrier", [HTTP2_CLEAR], ids=str)

INITIAL_WINDOW_SIZE = 0x4
BODY = bytes(3 * 16384)
"""Three frames."""


async def waiting_answers(peer: FramePeer, app: SteeredApp, *requests: Frame) -> list[Call]:
    """Make requests on a connection without window; each of their answers is ready to be sent."""
    await peer.sends(WindowUpdate(0, 1_000_000), *requests)
    calls = []
    for request in requests:
        if isinstance(request, Headers):
            call = await app.next_call()
            await call.respond(200, body=BODY)
            await peer.expects(Headers(request.stream_id, [(b":status", b"200")]))
            calls.append(call)
    await peer.expects_nothing()
    return calls


def get(stream_id: int, priority: bytes | None = None) -> Headers:
    """A request that says how urgent it is."""
    said: Fields = [] if priority is None else [(b"priority", priority)]
    return Headers(stream_id, [*GET, *said], end_stream=True)


async def order(peer: FramePeer, *opening: Frame, streams: int) -> list[int]:
    """Open all windows at once and tell whose frames come, up to the end of all streams."""
    await peer.sends(*opening, Settings({INITIAL_WINDOW_SIZE: 1_000_000}))
    stream_ids: list[int] = []
    ended = 0
    while ended < streams:
        frame = await peer.expects(Data(ANY, ANY, end_stream=ANY))
        stream_ids.append(frame.stream_id)
        ended += frame.end_stream
    return stream_ids


@pytest.fixture
async def peer(serve: Serve, connect: Connect, app: SteeredApp) -> FramePeer:
    """A peer whose streams have no window yet."""
    return await connect.frames(await serve(app), {INITIAL_WINDOW_SIZE: 0})


async def test_answers_of_the_same_urgency_take_turns_frame_by_frame(
    peer: FramePeer, app: SteeredApp
) -> None:
    await waiting_answers(peer, app, get(1), get(3), get(5))
    assert await order(peer, streams=3) == [1, 3, 5, 1, 3, 5, 1, 3, 5]


async def test_the_urgent_answer_overtakes(peer: FramePeer, app: SteeredApp) -> None:
    await waiting_answers(peer, app, get(1), get(3, b"u=1"), get(5, b"u=6, i"))
    assert [key for key, _ in groupby(await order(peer, streams=3))] == [3, 1, 5]


async def test_answers_that_are_wanted_whole_come_one_after_the_other(
    peer: FramePeer, app: SteeredApp
) -> None:
    await waiting_answers(peer, app, get(1, b"u=3"), get(3, b"u=3"), get(5, b"u=3"))
    assert [key for key, _ in groupby(await order(peer, streams=3))] == [1, 3, 5]


async def test_answers_that_are_used_as_they_come_share(peer: FramePeer, app: SteeredApp) -> None:
    await waiting_answers(peer, app, get(1, b"i"), get(3, b"i"))
    assert await order(peer, streams=2) == [1, 3, 1, 3, 1, 3]


async def test_a_priority_may_change_while_the_answer_waits(peer: FramePeer, app: SteeredApp) -> None:
    await waiting_answers(peer, app, get(1), get(3), get(5))
    opening = priority_update(5, b"u=0"), priority_update(1, b"u=7"), priority_update(99, b"u=0")
    assert [key for key, _ in groupby(await order(peer, *opening, streams=3))] == [5, 3, 1]


async def test_a_priority_may_come_before_its_request_and_overrides_what_that_says(
    peer: FramePeer, app: SteeredApp
) -> None:
    await waiting_answers(
        peer,
        app,
        priority_update(3, b"u=7"),
        priority_update(3, b"u=2"),
        priority_update(5, b"u=1"),
        get(1),
        get(3, b"u=6"),
        get(5, b"u=5"),
    )
    assert [key for key, _ in groupby(await order(peer, streams=3))] == [5, 3, 1]


async def test_priorities_of_streams_that_never_come_do_not_add_up(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app, max_streams=2))
    for number in range(0, 40, 4):  # every other stream is prioritised and then skipped
        await peer.sends(priority_update(number + 1, b"u=1"), get(number + 3))
        await (await app.next_call()).respond(204)
        await peer.expects(Headers(number + 3, [(b":status", b"204")], end_stream=True))
    await peer.sends(priority_update(1, b"u=1"))  # long closed
    await peer.expects_nothing()


async def test_an_urgent_stream_without_window_holds_up_nobody(peer: FramePeer, app: SteeredApp) -> None:
    await waiting_answers(peer, app, get(1, b"u=0"), get(3))
    await peer.sends(WindowUpdate(3, 1_000_000))
    assert await peer.expects_body(3) == BODY
    await peer.expects_nothing()
    await peer.sends(WindowUpdate(1, 1_000_000))
    assert await peer.expects_body(1) == BODY


async def test_turns_go_on_where_the_window_of_the_connection_ended(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app), {INITIAL_WINDOW_SIZE: 0})
    await peer.sends(WindowUpdate(0, 16384 - (65_535 - 3 * 16384)))  # now it is four frames
    await peer.sends(get(1), get(3), get(5))
    for stream_id in (1, 3, 5):
        await (await app.next_call()).respond(200, body=BODY)
        await peer.expects(Headers(stream_id, [(b":status", b"200")]))
    await peer.sends(Settings({INITIAL_WINDOW_SIZE: 1_000_000}))
    for stream_id in (1, 3, 5, 1):
        await peer.expects(Data(stream_id, bytes(16384)))
    for stream_id in (3, 5, 1, 3, 5):
        await peer.expects_nothing()
        await peer.sends(WindowUpdate(0, 16384))
        await peer.expects(Data(stream_id, bytes(16384), end_stream=ANY))
