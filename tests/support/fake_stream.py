"""A stream made of a list, and exchanges on it: the core without any wire."""

import asyncio
from typing import TYPE_CHECKING, Any, Final

from alphorn.core.asgi import Fields, Message, Scope
from alphorn.core.clock import Clock
from alphorn.core.codec import Handshake
from alphorn.core.config import Config
from alphorn.core.exchange import Head, Stream
from alphorn.core.http import HttpExchange
from alphorn.core.worker import Worker

EXTENSIONS: Final = (
    "http.response.early_hint",
    "http.response.pathsend",
    "http.response.push",
    "http.response.trailers",
    "http.response.zerocopysend",
)


class FakeStream:
    """Writes down what it is told, and minds the order: nothing after an end, the head first and once."""

    id: Final = 0

    def __init__(self, *, zero_copy: bool = False) -> None:
        self.writable = True
        self.zero_copy = zero_copy
        self.told: list[tuple[Any, ...]] = []
        self.pulled = 0
        self.over = False
        self.file_sent: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def new_extensions(self) -> dict[str, dict[str, Any]]:
        return {name: {} for name in EXTENSIONS}

    def send(self, head: Head | None, body: bytes, end: bool) -> None:
        begun = any(what[0] == "send" for what in self.told)
        assert begun is (head is None), "the head comes first, and once"
        self._note("send", head and head.status, body, end)
        self.over = end

    def send_informational(self, status: int, fields: Fields) -> None:
        assert not any(what[0] == "send" for what in self.told), "a 1xx comes before the head"
        self._note("informational", status, fields)

    def send_trailers(self, fields: Fields) -> None:
        self._note("trailers", fields)
        self.over = True

    async def send_file(self, descriptor: int, offset: int, count: int) -> int:
        self._note("file", offset, count)
        return await self.file_sent

    def push(self, path: bytes, fields: Fields) -> None:
        self._note("push", path, fields)

    def pull(self, taken: int) -> None:
        assert not self.over
        self.pulled += taken

    def refuse(self) -> bool:
        return False

    def abort(self) -> None:
        self._note("abort")
        self.over = True

    def _note(self, *what: Any) -> None:
        assert not self.over, f"{what} after the end"
        self.told.append(what)


async def _no_application(_scope: Scope, _receive: object, _send: object) -> None: ...


def _no_handshake(_fields: Fields, _http_version: str, _config: Config) -> Handshake:
    raise AssertionError("no WebSocket is opened on a fake stream")


def make_worker(config: Config, clock: Clock | None = None) -> Worker:
    """Make a worker whose application does nothing, in the running loop."""
    return Worker(config, clock or Clock(), _no_application, _no_handshake)


def make_exchange(stream: FakeStream | None = None, method: str = "GET") -> tuple[HttpExchange, FakeStream]:
    """Make an exchange on a stream; both belong to the running loop."""
    stream = stream or FakeStream()
    worker = make_worker(Config(server_header=""))
    scope = {
        "type": "http",
        "method": method,
        "path": "/",
        "headers": [(b"te", b"trailers")],
        "extensions": {name: {} for name in EXTENSIONS},
    }
    return HttpExchange(worker, stream, scope), stream


def start(**more: Any) -> Message:
    return {"type": "http.response.start", "status": 200, "headers": [], **more}


def body(data: bytes = b"", *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


if TYPE_CHECKING:
    _: type[Stream] = FakeStream
