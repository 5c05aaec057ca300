"""A load client: realistic requests over HTTP/2, where h2load can only repeat the same fields.

    python -m benchmarks.http2_realistic --connections 8 --streams 32 --seconds 3 https://127.0.0.1:8443

Frames are made before the clock starts, so that making them costs neither side anything meanwhile, and
kept in a folder for the next server. The run ends early if a connection has used up what was made for it.
"""

import asyncio
import itertools
import pickle
import time
from pathlib import Path
from urllib.parse import urlsplit

import hpack

from benchmarks.clients import address, parser, run, say, trusting_context
from benchmarks.http2_wire import END_HEADERS, END_STREAM, HEADERS, Http2Wire, frame, status
from benchmarks.realistic import requests

REQUESTS_PER_SECOND = 60_000
"""For how many there are requests, all connections together; no server here answers more on one core."""


class Script:
    """The requests of one connection, as bytes.

    Attributes:
        wire: All of them, one after the other.
        ends: Where each of them ends in it; `ends[0]` is 0.
    """

    def __init__(self, seed: int, count: int) -> None:
        encoder = hpack.Encoder()
        frames = []
        for number, fields in zip(range(count), requests(seed), strict=False):
            # As browsers do, the path is kept out of the table, and everything else goes into it.
            block = encoder.encode(
                hpack.NeverIndexedHeaderTuple(*field) if field[0] == ":path" else field for field in fields
            )
            frames.append(frame(HEADERS, END_HEADERS | END_STREAM, number * 2 + 1, block))
        self.wire = b"".join(frames)
        self.ends = [0, *itertools.accumulate(map(len, frames))]


def script(folder: Path | None, seed: int, count: int) -> Script:
    """Return a script, from `folder` if an earlier run has left it there."""
    if folder is None:
        return Script(seed, count)
    file = folder / f"script-{seed}-{count}.pickle"
    if not file.exists():
        file.write_bytes(pickle.dumps(Script(seed, count)))
    made: Script = pickle.loads(file.read_bytes())
    return made


class Player(Http2Wire):
    """Plays a script: so many requests at once, and for each that is answered another.

    Attributes:
        latencies: Of each answered request, in seconds.
        failures: How many requests were not answered with 200; only the first head is looked into.
    """

    def __init__(self, script: Script, streams: int, ready: asyncio.Event, done: asyncio.Event) -> None:
        super().__init__()
        self.latencies: list[float] = []
        self.failures = 0
        self._script = script
        self._streams = streams
        self._ready = ready
        self._done = done
        self._sent = 0
        self._owed = 0
        self._started: list[float] = []
        self._seen_head = False

    def ready(self) -> None:
        self._ready.set()

    def begin(self) -> None:
        """Send the first requests."""
        self._owed = self._streams
        self.turn_ends()

    def head(self, stream: int, block: bytes, ended: bool) -> None:
        if not self._seen_head:
            self._seen_head = True
            self.failures += status(block) != 200
        if ended:
            self._answered(stream)

    def data(self, stream: int, payload: bytes, ended: bool) -> None:
        if ended:
            self._answered(stream)

    def failed(self, stream: int) -> None:
        self.failures += 1
        self._owed += 1

    def turn_ends(self) -> None:
        if self._owed == 0:
            return
        ends = self._script.ends
        until = min(self._sent + self._owed, len(ends) - 1)
        self._started += [time.perf_counter()] * (until - self._sent)
        self.transport.write(self._script.wire[ends[self._sent] : ends[until]])
        if until == len(ends) - 1:
            self._done.set()
        self._sent, self._owed = until, 0

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._ready.set()
        self._done.set()

    def _answered(self, stream: int) -> None:
        self.latencies.append(time.perf_counter() - self._started[stream // 2])
        self._owed += 1


async def main() -> None:
    """Run as the command line says."""
    options = parser(__doc__)
    options.add_argument("--streams", type=int, default=32)
    options.add_argument("--folder", type=Path, help="where to keep what was made")
    arguments = options.parse_args()
    assert urlsplit(arguments.url).scheme == "https", "HTTP/2 is chosen by ALPN"
    prepared = round(REQUESTS_PER_SECOND * arguments.seconds / arguments.connections)
    context = trusting_context(arguments.url, "h2")
    done = asyncio.Event()
    players = []
    # Before the first connection: a server closes one that says nothing for long.
    scripts = [script(arguments.folder, seed, prepared) for seed in range(arguments.connections)]
    for each in scripts:
        ready = asyncio.Event()
        player = Player(each, arguments.streams, ready, done)
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda player=player: player, *address(arguments.url), ssl=context)
        players.append(player)
        await ready.wait()
    started = time.perf_counter()
    for player in players:
        player.begin()
    try:
        async with asyncio.timeout(arguments.seconds):
            await done.wait()
    except TimeoutError:
        pass
    seconds = time.perf_counter() - started
    latencies = sorted(itertools.chain.from_iterable(player.latencies for player in players))
    failed = sum(player.failures + player.closed for player in players)
    say(
        requests=len(latencies),
        seconds=seconds,
        failed=failed,
        p50_ms=latencies[len(latencies) // 2] * 1000 if latencies else None,
        p99_ms=latencies[len(latencies) * 99 // 100] * 1000 if latencies else None,
    )
    for player in players:
        player.transport.abort()


if __name__ == "__main__":
    run(main())
