"""What a request may cost, counted: "a GET is one write, one task, no timer, no future".

Wires run here on a transport and a loop that count; nothing is timed, so nothing depends on the machine.
"""

import asyncio
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import h2.config
import h2.connection
import h2.events
import pytest

from alphorn.core.access_log import AccessLog
from alphorn.core.asgi import Application, Receive, Scope, Send
from alphorn.core.clock import Clock
from alphorn.core.config import Config
from alphorn.core.metrics import Metrics
from alphorn.core.scope import ConnectionFacts
from alphorn.core.static import StaticFiles, parse_mounts
from alphorn.core.worker import Worker
from alphorn.protocols.http1 import Http1Connection
from alphorn.protocols.http2 import Http2Connection
from alphorn.protocols.observed import ObservedHttp1, ObservedHttp2
from alphorn.protocols.websocket import open_handshake
from support.engine import ENGINE
from support.waiting import turns

EAGER: Final = sys.version_info >= (3, 12)
"""Whether a task starts when it is made; else it takes a turn of the loop, which asyncio asks for itself."""


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts what somebody asks of the loop. Its time stands still, so that no timer rings."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        super().__init__()

    def call_soon(self, *args: Any, **kwargs: Any) -> asyncio.Handle:  # type: ignore[override]
        self.asked["call_soon"] += 1
        return super().call_soon(*args, **kwargs)

    def call_later(self, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:  # type: ignore[override]
        self.asked["timer"] += 1
        return super().call_later(*args, **kwargs)

    def call_at(self, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:  # type: ignore[override]
        self.asked["timer"] += 1
        return super().call_at(*args, **kwargs)

    def time(self) -> float:
        return 0.0

    def create_future(self) -> asyncio.Future[Any]:
        self.asked["future"] += 1
        return super().create_future()


class CountingClock(Clock):
    """Counts how often somebody wants to know the time."""

    def __init__(self) -> None:
        self.asked = 0
        super().__init__()

    def now(self) -> float:
        self.asked += 1
        return super().now()


class CountingTransport(asyncio.Transport):
    """Keeps every write apart."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closing = False

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        raise AssertionError("there is nothing to hold back")

    def resume_reading(self) -> None:
        raise AssertionError("nothing was held back")

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        pass

    def get_protocol(self) -> asyncio.BaseProtocol:
        raise AssertionError("asked only of a connection that lingers, which none does here")


class Http1Wire:
    """HTTP/1.1 on a counting transport."""

    def __init__(self, worker: Worker, transport: CountingTransport) -> None:
        connection = Http1Connection if worker.metrics is None else ObservedHttp1
        self.connection = connection(worker, ConnectionFacts(("::1", 1), ("::1", 2)))
        self.connection.connection_made(transport)

    def request(self, method: str, content: bytes = b"") -> bytes:
        length = b"content-length: %d\r\n" % len(content) if content else b""
        return b"%b / HTTP/1.1\r\nhost: example.org\r\n%b\r\n%b" % (method.encode(), length, content)

    def answers(self, written: bytes) -> int:
        return written.count(b"HTTP/1.1 200 OK\r\n") if written.endswith(b"\r\n\r\nhello") else 0


class Http2Wire:
    """HTTP/2 on a counting transport; the prefaces have been exchanged."""

    def __init__(self, worker: Worker, transport: CountingTransport) -> None:
        connection = Http2Connection if worker.metrics is None else ObservedHttp2
        self.connection = connection(worker, ConnectionFacts(("::1", 1), ("::1", 2)))
        self.connection.connection_made(transport)
        self._client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
        self._client.initiate_connection()
        self.connection.data_received(self._client.data_to_send())
        self._client.receive_data(b"".join(transport.writes))
        self.connection.data_received(self._client.data_to_send())

    def request(self, method: str, content: bytes = b"") -> bytes:
        client = self._client
        stream_id = client.get_next_available_stream_id()
        pseudo = [(":method", method), (":scheme", "http"), (":authority", "example.org"), (":path", "/")]
        client.send_headers(stream_id, pseudo, end_stream=not content)
        if content:
            client.send_data(stream_id, content, end_stream=True)
        return client.data_to_send()

    def answers(self, written: bytes) -> int:
        events = self._client.receive_data(written)
        return sum(isinstance(event, h2.events.StreamEnded) for event in events)


Wire = Http1Wire | Http2Wire
WIRES = pytest.mark.parametrize("wire_class", [Http1Wire, Http2Wire], ids=["http1", "http2"])


class Bench:
    """One connection under a magnifying glass.

    Attributes:
        tasks: The tasks that the application ran in.
        clock: The worker's; counts since the last read of the socket began.
    """

    def __init__(
        self,
        loop: CountingLoop,
        application: Application,
        wire_class: type[Wire],
        *,
        counted: bool,
        logged: Path | None,
    ) -> None:
        self.tasks: list[asyncio.Task[Any] | None] = []

        async def observed(scope: Scope, receive: Receive, send: Send) -> None:
            self.tasks.append(asyncio.current_task())
            await application(scope, receive, send)

        self._loop = loop
        self._transport = CountingTransport()
        self.clock = clock = CountingClock()
        self._worker = Worker(
            Config(**dict[str, Any](access_log=False, engine=ENGINE)),
            clock,
            observed,
            open_handshake,
            metrics=Metrics(clock) if counted else None,
        )
        self._close = contextlib.ExitStack()
        if logged is not None:
            log = AccessLog(Config(access_log_file=str(logged)), clock)
            self._worker.observers.append(log.observe)
            self._close.callback(log.close)
        self.wire: Wire = wire_class(self._worker, self._transport)

    def close(self) -> None:
        """Write what has yet to be written."""
        self._close.close()

    async def cost(self, data: bytes, answers: int = 1) -> Counter[str]:
        """Feed one read of the socket, wait for the answers, and return what it took.

        Callbacks are those that were asked for during the read; the turns of the loop in which
        this waits are themselves callbacks.
        """
        await self._rest()
        self.tasks.clear()
        self._transport.writes.clear()
        self._loop.asked.clear()
        self.clock.asked = 0
        self.wire.connection.data_received(data)
        callbacks = self._loop.asked["call_soon"]
        await self._rest()
        assert self.wire.answers(b"".join(self._transport.writes)) == answers
        counted = Counter(
            write=len(self._transport.writes),
            task=len(set(self.tasks)),
            future=self._loop.asked["future"],
            timer=self._loop.asked["timer"],
            callback=callbacks,
        )
        return +counted

    async def _rest(self) -> None:
        """Let everything that was put off happen, and see that no other task is there."""
        await turns(10)
        assert asyncio.all_tasks() == {asyncio.current_task()}


def measure(
    application: Application,
    wire_class: type[Wire],
    scenario: Callable[[Bench], Coroutine[Any, Any, Counter[str]]],
    *,
    counted: bool = False,
    logged: Path | None = None,
) -> Counter[str]:
    """Run a scenario on a bench in a counting loop; `counted`, as with `--admin-bind`; `logged`, to a file."""
    loop = CountingLoop()

    async def main() -> Counter[str]:
        bench = Bench(loop, application, wire_class, counted=counted, logged=logged)
        try:
            await bench.cost(bench.wire.request("GET"))  # the first request of a connection may cost more
            return await scenario(bench)
        finally:
            bench.close()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main())


async def hello(_scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive())["more_body"]:
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"hello"})


async def drips(_scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    for letter in (b"h", b"e", b"l", b"l"):
        await send({"type": "http.response.body", "body": letter, "more_body": True})
    await send({"type": "http.response.body", "body": b"o"})


@WIRES
def test_a_get_is_one_write_one_task_no_timer_and_no_future(wire_class: type[Wire]) -> None:
    cost = measure(hello, wire_class, lambda bench: bench.cost(bench.wire.request("GET")))

    del cost["callback"]
    assert cost == Counter(write=1, task=1)


@WIRES
def test_a_get_for_the_application_beside_static_files_is_no_more(
    wire_class: type[Wire], tmp_path: Path
) -> None:
    application = StaticFiles(parse_mounts([f"/assets={tmp_path}"]), hello, time.time)
    cost = measure(application, wire_class, lambda bench: bench.cost(bench.wire.request("GET")))

    del cost["callback"]
    assert cost == Counter(write=1, task=1)


@WIRES
def test_a_get_that_is_counted_for_the_operator_is_no_more(wire_class: type[Wire]) -> None:
    cost = measure(hello, wire_class, lambda bench: bench.cost(bench.wire.request("GET")), counted=True)

    del cost["callback"]
    assert cost == Counter(write=1, task=1)


@WIRES
def test_a_get_that_is_logged_is_no_more_and_its_line_waits_for_others(
    wire_class: type[Wire], tmp_path: Path
) -> None:
    file = tmp_path / "access.log"

    async def twenty(bench: Bench) -> Counter[str]:
        asked = Counter[str]()
        for _ in range(20):
            asked += await bench.cost(bench.wire.request("GET"))
        assert not file.read_text()
        return asked

    cost = measure(hello, wire_class, twenty, logged=file)
    del cost["callback"]
    assert cost == Counter(write=20, task=20), (
        "the first line of a batch asks for a timer, the others for nothing"
    )
    assert file.read_text().count('"GET / HTTP/') == 21


@WIRES
def test_a_get_is_timed_only_where_somebody_wants_to_know(wire_class: type[Wire]) -> None:
    async def times(bench: Bench) -> Counter[str]:
        await bench.cost(bench.wire.request("GET"))
        return Counter(asked=bench.clock.asked)

    alone, counted = (measure(hello, wire_class, times, counted=counted) for counted in (False, True))
    assert counted["asked"] == alone["asked"] + 2, "at its beginning and at its end"


@pytest.mark.skipif(not EAGER, reason="without eager tasks, asyncio puts the application off")
def test_a_get_over_http1_asks_nothing_of_the_loop() -> None:
    cost = measure(hello, Http1Wire, lambda bench: bench.cost(bench.wire.request("GET")))

    assert cost == Counter(write=1, task=1)


@WIRES
def test_a_post_whose_content_has_come_costs_the_same(wire_class: type[Wire]) -> None:
    cost = measure(hello, wire_class, lambda bench: bench.cost(bench.wire.request("POST", b"x" * 1000)))

    del cost["callback"]
    assert cost == Counter(write=1, task=1)


@pytest.mark.skipif(not EAGER, reason="without eager tasks, each application has a turn of its own")
@WIRES
def test_requests_that_come_in_one_read_are_answered_in_one_write(wire_class: type[Wire]) -> None:
    async def ten(bench: Bench) -> Counter[str]:
        return await bench.cost(b"".join(bench.wire.request("GET") for _ in range(10)), answers=10)

    cost = measure(hello, wire_class, ten)
    del cost["callback"]
    assert cost == Counter(write=1, task=10)


@pytest.mark.skipif(not EAGER, reason="without eager tasks, the application runs after the read")
@WIRES
def test_a_body_in_pieces_leaves_in_one_write_if_the_application_does_not_wait(
    wire_class: type[Wire],
) -> None:
    cost = measure(drips, wire_class, lambda bench: bench.cost(bench.wire.request("GET")))

    del cost["callback"]
    assert cost == Counter(write=1, task=1)
