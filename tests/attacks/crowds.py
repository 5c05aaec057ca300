"""Attacks by number: thousands of connections, more requests than anybody can answer."""

import asyncio
import dataclasses
import socket
from typing import Final

from support.carrier import HTTP1_CLEAR, HTTP2_CLEAR

from .attack import Attack, Target, Undefended, after
from .http1_slow import REQUEST
from .http2_frames import request
from .intruder import Http2Intruder

_ELSEWHERE: Final = "127.0.0.2"
"""Another address of this computer (Linux), so that the attacker is not the neighbour."""


async def crowd(target: Target) -> str:
    """Hold thousands of silent connections."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout(target.patience):
            count = await _connect_and_wait(target, int(5000 * target.scale), "")
    except TimeoutError:
        raise Undefended(f"still held after {target.patience:.0f} s") from None
    return f"{count:,} held, then closed{after(loop.time() - began)}"


async def crowd_of_one_address(target: Target) -> str:
    """The same, from one address of which only so many are welcome."""
    try:
        async with asyncio.timeout(3.0):
            held = await _connect_and_wait(target, 1000, _ELSEWHERE, leave=100)
    except TimeoutError:
        raise Undefended("all connections were held") from None
    return f"closed at once, but for {held}"


async def full_house(target: Target) -> str:
    """Ask on many more connections than the server takes at once."""
    wires = [await target.connect() for _ in range(1000)]
    try:
        for wire in wires:
            await wire.write(REQUEST)
        answers = [asyncio.ensure_future(wire.read()) for wire in wires]
        answered, waiting = await asyncio.wait(answers, timeout=1.5)
        for answer in waiting:
            answer.cancel()
    finally:
        for wire in wires:
            wire.reset()
    if len(answered) > 200:
        raise Undefended(f"{len(answered)} connections were served at once")
    return f"{len(answered)} served, the others wait"


async def _connect_and_wait(target: Target, count: int, source: str, leave: int = 0) -> int:
    """Connect so often, and wait until the server has closed all connections but for some.

    Returns:
        How many there are, or were to begin with if all are closed.
    """
    loop = asyncio.get_running_loop()
    sockets: set[socket.socket] = set()
    try:
        for _ in range(count):
            connection = socket.socket()
            sockets.add(connection)
            connection.setblocking(False)
            if source:
                connection.bind((source, 0))
            await loop.sock_connect(connection, ("127.0.0.1", target.port))
        ends = {asyncio.ensure_future(loop.sock_recv(connection, 1)) for connection in sockets}
        while len(ends) > leave:
            _, ends = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
        return len(ends) or count
    finally:
        for connection in sockets:
            connection.close()


async def in_flight(target: Target) -> str:
    """Ask for more slow answers than a worker gives at once, from one address over many connections."""
    target = dataclasses.replace(target, source=_ELSEWHERE)
    count = int(36 * target.scale)
    requests = b"".join(request(stream_id, "/slow?seconds=4") for stream_id in range(1, 257, 2))
    asking = []
    for _ in range(count):
        intruder = await Http2Intruder.open(target, content_with_reset=True)
        asking.append(asyncio.ensure_future(intruder.provoke([requests], otherwise="")))
        await asyncio.sleep(1.3 / count)
    refused = [answer for answer in await asyncio.gather(*asking) if answer]
    if not refused:
        raise Undefended("all requests were begun")
    return refused[0]


ATTACKS: Final = (
    Attack(
        "crowd",
        "5,000 silent connections",
        HTTP1_CLEAR,
        ("max_connections", "head_timeout"),
        crowd,
        waits=True,
    ),
    Attack(
        "one-address",
        "1,000 connections of one address",
        HTTP1_CLEAR,
        ("max_connections_per_address",),
        crowd_of_one_address,
        options=("--max-connections-per-address", "100"),
    ),
    Attack(
        "full-house",
        "1,000 connections, where there is room for 200",
        HTTP1_CLEAR,
        ("max_connections",),
        full_house,
        options=("--max-connections", "200"),
    ),
    Attack(
        "in-flight",
        "4,608 requests at once, each of which takes long",
        HTTP2_CLEAR,
        ("max_in_flight", "max_in_flight_share", "max_queued", "queue_timeout"),
        in_flight,
        short_options=("--max-in-flight", "100", "--max-queued", "10"),
    ),
)
