"""Attacks with time: HTTP/1 clients that are silent, slow, idle, or do not read."""

import asyncio
import itertools
from typing import Final

from support.carrier import HTTP1_CLEAR, HTTP1_TLS

from .attack import Attack, Target, Undefended, after, unique, wait_given_up
from .intruder import Http1Intruder

REQUEST: Final = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"


async def say_nothing(target: Target) -> str:
    return await Http1Intruder(await target.connect()).provoke(seconds=target.patience)


async def slowloris(target: Target) -> str:
    head = itertools.chain(REQUEST[:-2] + b"x: ", itertools.repeat(ord("a")))
    intruder = Http1Intruder(await target.connect())
    return await intruder.provoke((bytes([byte]) for byte in head), pause=1, seconds=target.patience)


async def slow_body(target: Target) -> str:
    head = b"POST /upload HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n"
    pieces = itertools.chain([head], itertools.repeat(b"ten bytes!"))
    return await Http1Intruder(await target.connect()).provoke(pieces, pause=0.5, seconds=target.patience)


async def slow_chunks(target: Target) -> str:
    head = b"POST /upload HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    pieces = itertools.chain([head], itertools.repeat(b"1\r\nx\r\n"))
    return await Http1Intruder(await target.connect()).provoke(pieces, pause=0.5, seconds=target.patience)


async def stay(target: Target) -> str:
    return await Http1Intruder(await target.connect()).provoke([REQUEST], seconds=target.patience)


async def never_read(target: Target) -> str:
    wire = await target.connect(receive_buffer=4096)
    name = unique("/big")
    try:
        await wire.write(f"GET {name} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        return await wait_given_up(target, name, wire)
    finally:
        wire.reset()


async def never_hang_up(target: Target) -> str:
    """Go on sending, a byte now and then, after a refusal."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    wire = await target.connect()
    try:
        await wire.write(b"\x00nonsense\r\n\r\n")
        while (waited := loop.time() - began) < target.patience:
            await wire.write(b"a")
            await asyncio.sleep(0.5)
    except ConnectionError:
        return f"reset{after(waited)}"
    finally:
        wire.reset()
    raise Undefended(f"still listened to after {target.patience:.0f} s")


_HEAD: Final = ("head_timeout",)
_RATE: Final = ("body_min_rate", "body_timeout")
_READING: Final = ("write_timeout", "write_high_mark")

ATTACKS: Final = (
    Attack(
        "silence", "a connection without a byte", HTTP1_CLEAR, _HEAD, say_nothing, clients=100, waits=True
    ),
    Attack(
        "slowloris",
        "a request head, a byte a second",
        HTTP1_CLEAR,
        _HEAD,
        slowloris,
        clients=100,
        waits=True,
    ),
    Attack("slow-body", "content, 20 bytes a second", HTTP1_CLEAR, _RATE, slow_body, clients=100, waits=True),
    Attack(
        "slow-chunks",
        "chunked content, 2 bytes a second",
        HTTP1_CLEAR,
        _RATE,
        slow_chunks,
        clients=100,
        waits=True,
    ),
    Attack(
        "idle",
        "a connection that is kept for nothing",
        HTTP1_CLEAR,
        ("keep_alive_timeout",),
        stay,
        clients=100,
        waits=True,
    ),
    Attack(
        "goodbye",
        "a refused client that goes on sending, 2 bytes a second",
        HTTP1_CLEAR,
        ("linger_timeout",),
        never_hang_up,
        clients=100,
        waits=True,
    ),
    Attack(
        "deaf",
        "a large answer that is not read",
        HTTP1_CLEAR,
        _READING,
        never_read,
        clients=20,
        waits=True,
    ),
    Attack(
        "tls-deaf",
        "a large answer that is not read, over TLS",
        HTTP1_TLS,
        _READING,
        never_read,
        clients=20,
        waits=True,
    ),
)
