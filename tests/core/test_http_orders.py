"""Any order of what wires and applications do: no exception escapes, and nothing is left behind."""

import asyncio
import atexit
import io
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from alphorn.core.asgi import Message
from alphorn.core.errors import Disconnected, UnexpectedMessage
from alphorn.core.exchange import CLOSED, Waiters
from support.fake_stream import FakeStream, body, make_exchange, start
from support.waiting import turns, within


class Play:
    """An exchange between a wire and an application that both do as they like, within their rights."""

    def __init__(self, *, zero_copy: bool, method: str) -> None:
        self.exchange, self.stream = make_exchange(FakeStream(zero_copy=zero_copy), method)
        self.fed = b""
        self.ended = False
        self.lost = False
        self.finished = False
        self.completed = False
        self.tasks: list[asyncio.Task[Any]] = []
        self.received: list[Message] = []

    # The wire's part.

    def feed(self, data: bytes) -> None:
        if not (self.ended or self.lost):
            self.fed += data
            self.exchange.feed(data)

    def feed_end(self) -> None:
        if not (self.ended or self.lost):
            self.ended = True
            self.exchange.feed_end()

    def feed_eof(self) -> None:
        if not self.lost:
            self.exchange.feed_eof()

    def lose(self) -> None:
        self.lost = self.stream.over = True
        self.stream.file_sent.cancel()
        self.exchange.lost()

    def fill(self) -> None:
        self.stream.writable = False

    def empty(self) -> None:
        self.stream.writable = True
        self.exchange.resume()

    def send_file(self, count: int) -> None:
        if not self.stream.file_sent.done():
            self.stream.file_sent.set_result(count)

    def shutdown(self) -> None:
        self.exchange.shutdown()

    # The application's part.

    def receive(self) -> None:
        self._do(self._receive())

    async def _receive(self) -> None:
        self.received.append(await self.exchange.receive())

    def send(self, message: Message) -> None:
        if not self.finished:
            self._do(self.exchange.send(message))

    def cancel(self, index: int) -> None:
        if self.tasks:
            self.tasks[index % len(self.tasks)].cancel()

    def finish(self, error: BaseException | None = None) -> None:
        if not self.finished:
            self.finished = True
            self.completed = not self.exchange._lost
            self.exchange.finished(error)

    def _do(self, work: Any) -> None:
        self.tasks.append(asyncio.ensure_future(work))

    # The end.

    async def close(self, *, lost_first: bool) -> None:
        """Whatever has happened, the end of application and wire leaves nothing behind."""
        if lost_first:
            self.lose()
        self.finish()
        if not self.lost:
            self.lose()
        async with within("everything that waits"):
            outcomes = await asyncio.gather(*self.tasks, return_exceptions=True)
        assert self.exchange._stream is CLOSED
        if self.completed:
            assert self.exchange.complete, "what has ended has begun again"
        for outcome in outcomes:
            assert outcome is None or isinstance(
                outcome, UnexpectedMessage | Disconnected | asyncio.CancelledError
            ), outcome
        for waiters in (self.exchange._readers, self.exchange._writers):
            assert waiters is None or (isinstance(waiters, Waiters) and not waiters.waiting)
        self.check_received()

    def check_received(self) -> None:
        kinds = [message["type"] for message in self.received]
        ends = [message for message in self.received if message.get("more_body") is False]
        assert len(ends) <= (1 if self.ended else 0)
        content = b"".join(message.get("body", b"") for message in self.received)
        assert self.fed.startswith(content)
        assert self.stream.pulled <= len(content)
        if ends and not self.exchange.complete:
            assert content == self.fed
        if "http.disconnect" in kinds and not self.exchange._eof:
            after = kinds[kinds.index("http.disconnect") :]
            assert set(after) == {"http.disconnect"}


FILE_OF_PLAY: Final = io.FileIO(__file__)
atexit.register(FILE_OF_PLAY.close)

HINTS = st.just({"type": "http.response.early_hint", "links": [b"</a>"]})
PUSHES = st.just({"type": "http.response.push", "path": "/a", "headers": []})
STARTS = st.one_of(
    st.builds(start, status=st.sampled_from([200, 200, 204, 99]), trailers=st.booleans()),
    st.just(start(headers=[(b"content-length", b"5")])),
)
BODIES = st.builds(body, st.binary(max_size=8), more=st.booleans())
PIECES = st.builds(body, st.binary(max_size=8), more=st.just(True))
FILES = st.builds(
    lambda count, more: {
        "type": "http.response.zerocopysend",
        "file": FILE_OF_PLAY,
        "offset": 0,
        "count": count,
        "more_body": more,
    },
    st.integers(0, 8),
    st.booleans(),
)
PATHS = st.just({"type": "http.response.pathsend", "path": __file__})
TRAILERS = st.builds(
    lambda fields, more: {"type": "http.response.trailers", "headers": fields, "more_trailers": more},
    st.sampled_from([[], [(b"x", b"y")], [(b"x", b"\n")]]),
    st.booleans(),
)
NONSENSE = st.sampled_from([{}, {"type": "nonsense"}, {"type": "http.response.body", "body": "str"}])

# Repeated where it shall come more often.
EVENTS = st.one_of(
    st.tuples(st.just("feed"), st.binary(min_size=1, max_size=8)),
    st.tuples(st.sampled_from(["receive", "receive", "turn", "turn", "fill", "empty"])),
    st.tuples(st.sampled_from(["receive", "turn", "fill", "feed_end", "feed_eof", "lose", "shutdown"])),
    st.tuples(st.just("send_file"), st.integers(0, 8)),
    st.tuples(st.just("cancel"), st.integers(0, 5)),
    st.tuples(st.just("send"), st.one_of(HINTS, PUSHES, STARTS, BODIES, FILES, PATHS, TRAILERS, NONSENSE)),
    st.tuples(st.sampled_from(["turn", "receive", "finish"])),
)


@st.composite
def events(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    """A response in a likely order, and anything at all in between."""
    parts = [STARTS, st.one_of(PIECES, FILES, PATHS), PIECES, st.one_of(BODIES, FILES), TRAILERS]
    drawn = draw(st.lists(EVENTS, max_size=15))
    position = 0
    for part in parts[: draw(st.sampled_from([5, 4, 3, 2, 1, 0]))]:
        position = draw(st.integers(position, len(drawn)))
        turns = [("turn",)] * draw(st.sampled_from([1, 1, 0]))
        drawn[position:position] = [("send", draw(part)), *turns]
        position += 1 + len(turns)
    return drawn


@settings(deadline=None, max_examples=200)
@given(events(), st.booleans(), st.sampled_from(["GET", "POST", "HEAD"]), st.booleans(), st.booleans())
async def test_any_order_of_events_leaves_no_task_and_no_waiter_behind(
    events: list[tuple[Any, ...]], zero_copy: bool, method: str, full: bool, lost_first: bool
) -> None:
    play = Play(zero_copy=zero_copy, method=method)
    play.stream.writable = not full
    for name, *arguments in events:
        if name == "turn":
            await turns(1)
        else:
            getattr(play, name)(*arguments)
    await play.close(lost_first=lost_first)
