"""An application on a real port for the length of a test, in a thread and an event loop of its own.

Invariants:
- What fails at the start or the end raises in the test, and nothing is left of it.
- Nobody's files are touched: a certificate is made anew, in a temporary folder.
- Knows nothing of pytest; `pytest_plugin` has the fixture.
"""

import asyncio
import contextlib
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .server import Server, loop_factory

__all__ = ["LiveServer", "serve"]

GRACEFUL_SECONDS = 2.0
"""What requests may still take at the end of a test; who left one open by mistake should not wait long."""


@dataclass(frozen=True)
class LiveServer:
    """Where an application is being served.

    Attributes:
        url: Such as `https://127.0.0.1:40123`, without a slash at the end.
        cafile: PEM file with whom clients have to trust (`curl --cacert`); None without TLS.
    """

    url: str
    cafile: str | None

    @property
    def ws_url(self) -> str:
        """The same place for WebSocket clients: `ws://` or `wss://`."""
        return self.url.replace("http", "ws", 1)

    def ssl_context(self) -> ssl.SSLContext:
        """Make the TLS settings of a client that trusts this server and nobody else.

        They are new each time, because clients write what they speak (ALPN) into them.

        Raises:
            RuntimeError: The server has no TLS.
        """
        if self.cafile is None:
            raise RuntimeError("this server has no TLS; start it with serve(app, tls=True)")
        return ssl.create_default_context(cafile=self.cafile)


@contextlib.contextmanager
def serve(app: Any, *, tls: bool = False, **settings: Any) -> Iterator[LiveServer]:
    """Serve an application while a block of code runs.

    `with serve(app) as server:` listens on a free port of 127.0.0.1 when the block begins and has drained when
    it ends.

    Args:
        app: An ASGI 3, ASGI 2 or WSGI application, or the "module:attribute" where one is.
        tls: Whether with TLS, and a certificate for localhost, 127.0.0.1 and ::1 made for the occasion.
        settings: Fields of a Config, where they should not be the defaults.

    Raises:
        ConfigError: The application cannot be loaded, or a setting cannot be used.
        StartupFailed: The application refused to start; the cause is its own exception, if it raised one.
        ShutdownFailed: The application reported that its shutdown failed.
    """
    with contextlib.ExitStack() as stack:
        cafile = None
        if tls:
            # Not for who has no need of it: cryptography is slow to import.
            from .tls.development import development_certificate  # noqa: PLC0415

            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="alphorn-"))
            certfile, keyfile, cafile = development_certificate([], Path(folder))
            settings |= {"certfile": certfile, "keyfile": keyfile}
        defaults = {"graceful_timeout": GRACEFUL_SECONDS} | ({} if "bind" in settings else {"port": 0})
        server = Server(app, **(defaults | settings))
        stack.enter_context(_in_a_thread(server))
        yield LiveServer(server.urls[0], cafile)


@contextlib.contextmanager
def _in_a_thread(server: Server) -> Iterator[None]:
    """Run a server in a thread of its own, and have its exceptions in this one."""
    # A daemon: a test that is interrupted while an application hangs should not keep the process.
    started: Future[Callable[[], object]] = Future()
    ended: Future[None] = Future()
    threading.Thread(target=_run, args=(server, started, ended), name="alphorn-testing", daemon=True).start()
    stop = started.result()
    try:
        yield
    finally:
        stop()
        ended.result()


def _run(server: Server, started: Future[Callable[[], object]], ended: Future[None]) -> None:
    async def main() -> None:
        stopping = asyncio.Event()
        async with server:
            started.set_result(partial(asyncio.get_running_loop().call_soon_threadsafe, stopping.set))
            await stopping.wait()

    try:
        with asyncio.Runner(loop_factory=loop_factory(server.config.loop)) as runner:
            runner.run(main())
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised where the test runs
        (ended if started.done() else started).set_exception(error)
    else:
        ended.set_result(None)
