"""HTTP/2 clients that hold on: to windows, to streams, to an application's time, to the connection."""

import itertools
from collections.abc import Iterator
from typing import Final

from support.carrier import HTTP2_CLEAR, HTTP2_TLS
from support.frames import PREFACE

from .attack import Attack, Target, Undefended, unique, wait_given_up
from .http2_frames import (
    DATA,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    frame,
    request,
    request_block,
    reset,
    setting,
    window_update,
)
from .intruder import Http2Intruder

_STREAMS: Final = range(1, 255, 2)  # 127 of them: fewer than a client may have


async def say_nothing(target: Target) -> str:
    return await (await Http2Intruder.open(target)).provoke(seconds=target.patience)


async def say_half_a_preface(target: Target) -> str:
    return await Http2Intruder(await target.connect("h2")).provoke([PREFACE[:20]], seconds=target.patience)


async def stay(target: Target) -> str:
    return await (await Http2Intruder.open(target)).provoke([request(1)], seconds=target.patience)


async def never_end_the_head(target: Target) -> str:
    intruder = await Http2Intruder.open(target)
    intruder.acknowledges_settings = False
    return await intruder.provoke([frame(HEADERS, 1, request_block())], seconds=target.patience)


async def slow_body(target: Target) -> str:
    pieces = itertools.chain([request(1, "/upload", "POST")], itertools.repeat(frame(DATA, 1, b"ten bytes!")))
    intruder = await Http2Intruder.open(target, content_with_reset=True)
    return await intruder.provoke(pieces, pause=0.5, seconds=target.patience)


async def hold_windows(target: Target) -> str:
    """Ask for a hundred large answers, and have room for none."""
    intruder = await Http2Intruder.open(target, {INITIAL_WINDOW_SIZE: 0}, content_with_reset=True)
    pieces = [b"".join(request(stream_id, "/big") for stream_id in _STREAMS)]
    return await intruder.provoke(pieces, seconds=target.patience)


async def hold_the_connections_window(target: Target) -> str:
    """Ask for a hundred large answers, and have room for 64 KiB of them all."""
    intruder = await Http2Intruder.open(target, {INITIAL_WINDOW_SIZE: 2**31 - 1}, content_with_reset=True)
    pieces = [b"".join(request(stream_id, "/big") for stream_id in _STREAMS)]
    return await intruder.provoke(pieces, seconds=target.patience)


async def dribble(target: Target) -> str:
    """Have a large answer sent, two bytes a second: too slow to be of use, too seldom to be a flood."""
    pieces = itertools.chain(
        [setting(INITIAL_WINDOW_SIZE, 0) + request(1, "/big")], itertools.repeat(window_update(1, 1))
    )
    intruder = await Http2Intruder.open(target, content_with_reset=True)
    return await intruder.provoke(pieces, pause=0.5, seconds=target.patience)


async def never_read(target: Target) -> str:
    intruder = await Http2Intruder.open(target, {INITIAL_WINDOW_SIZE: 2**31 - 1})
    name = unique("/big")
    try:
        await intruder.wire.write(window_update(0, 2**30) + request(1, name))
        return await wait_given_up(target, name, intruder.wire)
    finally:
        intruder.wire.reset()


async def tiny_data(target: Target) -> str:
    """Fill the windows of many applications that do not read, two bytes at a time."""

    def pieces() -> Iterator[bytes]:
        yield b"".join(request(stream_id, "/slow?seconds=4", "POST") for stream_id in _STREAMS)
        for stream_id in itertools.cycle(_STREAMS):
            yield frame(DATA, stream_id, b"xx") * 500

    intruder = await Http2Intruder.open(target)
    return await intruder.provoke(pieces(), may_stall=True, otherwise="taken in turn with others")


async def leave_applications_running(target: Target) -> str:
    """Reset streams whose applications take their time, and open others in their place."""

    def pieces() -> Iterator[bytes]:
        first, then = range(1, 240, 2), range(241, 480, 2)
        yield b"".join(request(stream_id, name) for stream_id in first)
        yield b"".join(map(reset, first))
        yield b"".join(request(stream_id, name) for stream_id in then)

    intruder = await Http2Intruder.open(target, content_with_reset=True)
    name = unique("/slow?seconds=4")
    seen = await intruder.provoke(pieces(), pause=0.2)
    calls = (await target.ask("/calls")).get(name, 0)
    if calls > 128:
        raise Undefended(f"{calls} applications run for one connection")
    return seen


_READING: Final = ("write_timeout", "write_high_mark")

ATTACKS: Final = (
    Attack(
        "http2-silence",
        "nothing after the preface",
        HTTP2_TLS,
        ("head_timeout",),
        say_nothing,
        clients=50,
        waits=True,
    ),
    Attack(
        "half-preface",
        "half a preface",
        HTTP2_CLEAR,
        ("head_timeout",),
        say_half_a_preface,
        clients=50,
        waits=True,
    ),
    Attack(
        "http2-idle",
        "a connection that is kept for nothing",
        HTTP2_CLEAR,
        ("keep_alive_timeout",),
        stay,
        clients=50,
        waits=True,
    ),
    Attack(
        "unfinished-head",
        "a field section that is never finished",
        HTTP2_CLEAR,
        ("head_timeout",),
        never_end_the_head,
        clients=50,
        waits=True,
    ),
    Attack(
        "http2-slow-body",
        "content, 20 bytes a second",
        HTTP2_CLEAR,
        ("body_min_rate", "body_timeout"),
        slow_body,
        clients=50,
        waits=True,
    ),
    Attack(
        "zero-window",
        "127 large answers without a window",
        HTTP2_CLEAR,
        _READING,
        hold_windows,
        clients=3,
        waits=True,
    ),
    Attack(
        "shared-window",
        "127 large answers that share 64 KiB of window",
        HTTP2_CLEAR,
        _READING,
        hold_the_connections_window,
        clients=3,
        waits=True,
    ),
    Attack(
        "slow-dribble",
        "a large answer, 2 bytes a second",
        HTTP2_CLEAR,
        _READING,
        dribble,
        clients=20,
        waits=True,
    ),
    Attack(
        "http2-deaf",
        "a large answer that is not read, windows wide open",
        HTTP2_CLEAR,
        _READING,
        never_read,
        clients=20,
        waits=True,
    ),
    Attack(
        "tiny-data",
        "DATA of two bytes, for 127 applications that do not read",
        HTTP2_CLEAR,
        ("stream_window", "connection_window", "max_control_frames"),
        tiny_data,
    ),
    Attack(
        "slots",
        "streams reset while their applications go on",
        HTTP2_CLEAR,
        ("max_streams", "max_resets"),
        leave_applications_running,
    ),
)
