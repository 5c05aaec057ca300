"""Attacks with size and number: HTTP/1 requests that are too large, too many, or cut too small."""

import itertools
from typing import Final

from support.carrier import HTTP1_CLEAR

from .attack import Attack, Target
from .http1_slow import REQUEST
from .intruder import Http1Intruder, forever

MEBIBYTE: Final = 1024 * 1024


async def huge_head(target: Target) -> str:
    pieces = itertools.chain([REQUEST[:-2] + b"x: "], forever(b"a" * 16384))
    return await Http1Intruder(await target.connect()).provoke(pieces)


async def many_fields(target: Target) -> str:
    pieces = itertools.chain([REQUEST[:-2]], forever(b"a: b\r\n", 1000))
    return await Http1Intruder(await target.connect()).provoke(pieces)


async def long_line(target: Target) -> str:
    pieces = itertools.chain([b"GET /"], forever(b"a" * 16384))
    return await Http1Intruder(await target.connect()).provoke(pieces)


async def large_body(target: Target) -> str:
    head = b"POST /upload HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10000000000\r\n\r\n"
    return await Http1Intruder(await target.connect()).provoke(itertools.chain([head], forever(b"a" * 16384)))


async def large_chunked_body(target: Target) -> str:
    head = b"POST /upload HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    chunk = b"4000\r\n%s\r\n" % bytes(0x4000)
    return await Http1Intruder(await target.connect()).provoke(itertools.chain([head], forever(chunk)))


async def tiny_chunks(target: Target) -> str:
    """Send chunks of one byte to an application that does not read."""
    head = b"POST /slow?seconds=4 HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    pieces = itertools.chain([head], forever(b"1\r\nx\r\n", 2000))
    return await Http1Intruder(await target.connect()).provoke(pieces, may_stall=True)


async def chunk_extensions(target: Target) -> str:
    head = b"POST /upload HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n1;"
    return await Http1Intruder(await target.connect()).provoke(itertools.chain([head], forever(b"a" * 16384)))


async def pipeline(target: Target) -> str:
    """Send requests without end, and read the answers: that is a lot of work, but no more than was asked for."""
    intruder = Http1Intruder(await target.connect())
    return await intruder.provoke(
        forever(REQUEST, 400), may_stall=True, otherwise="answered in turn with others"
    )


async def pipeline_unread(target: Target) -> str:
    """Send requests without end, and read nothing."""
    intruder = Http1Intruder(await target.connect(receive_buffer=4096))
    return await intruder.provoke(forever(REQUEST, 400), reading=False, may_stall=True)


async def many_requests(target: Target) -> str:
    """Send requests without end, where only so many are welcome on one connection."""
    return await Http1Intruder(await target.connect()).provoke(forever(REQUEST, 100))


async def unwanted_body(target: Target) -> str:
    """Send content without end to an application that has answered without it."""
    head = b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    chunk = b"4000\r\n%s\r\n" % bytes(0x4000)
    return await Http1Intruder(await target.connect()).provoke(itertools.chain([head], forever(chunk)))


async def garbage(target: Target) -> str:
    """Connect for a request that is none, time and again."""
    answer = "closed"
    for _ in range(int(2500 * target.scale)):
        answer = await Http1Intruder(await target.connect()).provoke([b"\x00nonsense\r\n\r\n"])
    return answer


_HEAD: Final = ("max_head_bytes",)

ATTACKS: Final = (
    Attack("huge-head", "a field without end", HTTP1_CLEAR, _HEAD, huge_head),
    Attack("many-fields", "fields without end", HTTP1_CLEAR, ("max_fields", *_HEAD), many_fields),
    Attack("long-line", "a request line without end", HTTP1_CLEAR, _HEAD, long_line),
    Attack(
        "large-body",
        "announced content above --max-body",
        HTTP1_CLEAR,
        ("max_body",),
        large_body,
        options=("--max-body", "1MiB"),
    ),
    Attack(
        "large-chunked-body",
        "chunked content above --max-body",
        HTTP1_CLEAR,
        ("max_body",),
        large_chunked_body,
        options=("--max-body", "1MiB"),
    ),
    Attack("chunk-extension", "a chunk extension without end", HTTP1_CLEAR, (), chunk_extensions),
    Attack(
        "tiny-chunks",
        "chunks of one byte, for an application that does not read",
        HTTP1_CLEAR,
        ("stream_window",),
        tiny_chunks,
    ),
    Attack("pipeline", "pipelined requests without end", HTTP1_CLEAR, (), pipeline),
    Attack(
        "pipeline-unread",
        "the same, and no answer is read",
        HTTP1_CLEAR,
        ("write_high_mark", "stream_window"),
        pipeline_unread,
    ),
    Attack(
        "many-requests",
        "requests without end, above --max-requests-per-connection",
        HTTP1_CLEAR,
        ("max_requests_per_connection",),
        many_requests,
        options=("--max-requests-per-connection", "1000"),
    ),
    Attack(
        "unwanted-body",
        "content without end, for an application that has answered without it",
        HTTP1_CLEAR,
        ("max_drain",),
        unwanted_body,
    ),
    Attack("garbage", "10,000 connections for requests that are none", HTTP1_CLEAR, (), garbage, clients=4),
)
