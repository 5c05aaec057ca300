"""One accepted connection, from `accept()` until its protocol is known.

Invariants:
- An arrival ends in exactly one way: handed over to a handler, dropped, or lost. Until then it
  is in `Reception.arrivals` and on the clock, afterwards in neither.
- Whoever is handed a connection gets `connection_made` and every byte once, as if the transport
  had been its own from the start.
- TLS is looked at with MSG_PEEK only: OpenSSL sees the whole conversation and decides it. The
  one exception is a client whose ALPN offer has nothing for us, because Python's `ssl` cannot
  send the alert that RFC 7301, 3.2 demands.
- A peer's fault is one debug line. It never reaches the loop's exception handler.

Knows no protocol but the bytes by which HTTP/2 and TLS announce themselves.
"""

import asyncio
import contextvars
import logging
import socket
import ssl
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Final, NamedTuple, Protocol, TypeAlias, cast

from ..core.asgi import Address
from ..core.clock import Clock, Timed
from ..core.config import Config
from ..core.limits import Limits
from ..core.log import error_log, format_address
from ..core.proxies import TrustedProxies
from ..core.scope import ConnectionFacts
from ..core.sockets import address_of
from .client_hello import HANDSHAKE_RECORD, MAX_BYTES, bytes_wanted, read_client_hello
from .handshake import FAILURES
from .peer import tls_extension
from .proxy_protocol import ProxyHeader

HandlerFactory: TypeAlias = Callable[[ConnectionFacts], asyncio.Protocol]
"""Makes the handler of one connection."""

ContextFor: TypeAlias = Callable[[bytes | None], ssl.SSLContext]
"""Chooses the context for a client, by the name of the server it wants to reach, if it says one."""


class Handlers(NamedTuple):
    """Who handles which protocol; None where it is switched off."""

    http1: HandlerFactory | None
    http2: HandlerFactory | None


HTTP2_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""The first bytes of every HTTP/2 connection (RFC 9113, 3.4)."""

NO_APPLICATION_PROTOCOL: Final = b"\x15\x03\x03\x00\x02\x02\x78"
"""A TLS record: the fatal alert 120 (RFC 7301, 3.2; RFC 8446, 6)."""

# Handshakes that are begun before others get their turn: each wants a signature, which takes up to a millisecond.
_HANDSHAKES_PER_TURN = 4
_DISCARD_BYTES = 64 * 1024
_DISCARDS = 16  # per wake-up, so that a fast client does not keep the loop


class Droppable(Timed, Protocol):
    """A connection that no handler has yet."""

    def drop(self) -> None:
        """Close at once, whatever stage the connection is in."""


@dataclass(slots=True, eq=False)
class Reception:
    """What all arrivals of one listener share."""

    handlers: Handlers
    clock: Clock
    config: Config
    context_for: ContextFor | None
    alpn: frozenset[bytes]
    state: Mapping[str, Any] | None
    proxies: TrustedProxies | None
    limits: Limits
    handshakes: Counter[str]
    """Of TLS: how many were "completed", how many "failed"."""
    arrivals: dict["Droppable", Address | None] = field(default_factory=dict)
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    queue: deque[Callable[[], None]] = field(default_factory=deque)

    def begin_in_turn(self, begin: Callable[[], None]) -> None:
        """Begin a handshake, in one of the next turns of the loop if many want one at once."""
        self.queue.append(begin)
        if len(self.queue) == 1:
            asyncio.get_running_loop().call_soon(self._begin_some)

    def _begin_some(self) -> None:
        due = [self.queue.popleft() for _ in range(min(_HANDSHAKES_PER_TURN, len(self.queue)))]
        if self.queue:
            asyncio.get_running_loop().call_soon(self._begin_some)
        for begin in due:
            begin()

    def enter(self, arrival: "Droppable", client: Address | None) -> None:
        """Keep a connection in mind, with the client whose connections are counted, until it leaves."""
        self.arrivals[arrival] = client
        self.limits.occupancy.enter(client)
        self.clock.watch(arrival)

    def leave(self, arrival: "Droppable") -> None:
        """Forget a connection; harmless if it is forgotten already."""
        if arrival in self.arrivals:
            self.limits.occupancy.leave(self.arrivals.pop(arrival))
            self.clock.forget(arrival)

    def turns_away(self, client: Address | None) -> bool:
        """Tell whether a client has as many connections as it may, so that this one is to be closed."""
        if not self.limits.occupancy.crowded(self.limited(client)):
            return False
        what = "a connection was closed at once, the client has too many"
        self.limits.hit("max_connections_per_address", client, what)
        return True

    def limited(self, client: Address | None) -> Address | None:
        """Return whose connections are counted; None for a trusted proxy, who comes for many."""
        return None if self.proxies is not None and self.proxies.trusts(client) else client


def opens_http2(first: bytes) -> bool | None:
    """Tell whether a connection opens with the HTTP/2 preface; None while it still may."""
    if first.startswith(HTTP2_PREFACE):
        return True
    return None if HTTP2_PREFACE.startswith(first) else False


class Arrival(asyncio.Protocol):
    """One connection whose protocol is not known yet; the transport's own protocol meanwhile."""

    __slots__ = (
        "_begun",
        "_failures",
        "_peer",
        "_reception",
        "_socket",
        "_task",
        "_told",
        "_transport",
        "deadline",
    )

    limit: ClassVar[str]
    """The setting that says how long a client may take."""

    def __init__(
        self,
        reception: Reception,
        accepted: socket.socket,
        peer: Any,
        told: ProxyHeader | None,
    ) -> None:
        self._reception = reception
        self._socket = accepted
        self._peer = peer
        self._told = told if told is not None and told.client is not None else None
        self._task: asyncio.Task[Any] | None = None
        self._transport: asyncio.Transport | None = None
        self._failures: list[ssl.SSLError] = []  # of the handshake: one, if it fails
        self._begun = False  # whether the client has said something, and owes the rest
        self.deadline = reception.clock.now() + getattr(reception.config, self.limit)
        reception.enter(self, reception.limited(self._client))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport, after the TLS handshake where there is one."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection that ended before it chose a protocol."""
        self._leave()

    def expire(self) -> None:
        """Drop a client that took too long, to begin or to leave.

        Browsers connect before they know what for, so that who says nothing has done nothing wrong.
        """
        if self._begun:
            what = "a connection was closed, its beginning does not come to an end"
            self._reception.limits.hit(self.limit, self._client, what)
        else:
            self._debug("waited too long for the client")
        self.drop()

    def drop(self) -> None:
        """Close at once, whatever stage the connection is in."""
        self._leave()
        if self._transport is not None:
            self._transport.abort()
        elif self._task is not None:
            self._task.cancel()
        else:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()

    def _connect(self, context: ssl.SSLContext | None) -> None:
        """Have the loop make a transport of the socket; with a context, after the TLS handshake."""
        loop, config = asyncio.get_running_loop(), self._reception.config
        connecting = loop.connect_accepted_socket(
            lambda: self,
            self._socket,
            ssl=context,
            # The clock is quicker, and counts; but the loop will not do without a timer.
            ssl_handshake_timeout=2 * config.handshake_timeout if context else None,
            ssl_shutdown_timeout=config.linger_timeout if context else None,
        )
        # The transport's callbacks run in the context of the task that makes it, so what fails there
        # can be told apart by connection.
        own = contextvars.copy_context()
        own.run(FAILURES.set, self._failures)
        self._task = loop.create_task(connecting, context=own)
        self._task.add_done_callback(self._connected)
        self._reception.tasks.add(self._task)

    def _connected(self, task: asyncio.Task[Any]) -> None:
        self._reception.tasks.discard(task)
        self._task = None  # its result holds this arrival and the transport
        error = None if task.cancelled() else task.exception()
        if isinstance(error, OSError):
            reason = _reason(self._failures[0] if self._failures else error)
            self._debug(f"connection failed: {reason}")
        elif error is not None:
            error_log.error("a connection could not be set up", exc_info=error)
        if self._transport is None:
            # Failed, cancelled (perhaps before its first step), or lost in mid-handshake: the
            # loop's transport, if there was one, has let go of the socket already.
            self._leave()
            self._socket.close()

    def _hand_over(self, factory: HandlerFactory | None, first: bytes = b"") -> asyncio.Protocol | None:
        """Give the connection to a handler and step out of the way; close it where there is none.

        Returns:
            The handler.
        """
        self._leave()
        transport = self._transport
        assert transport is not None
        if factory is None:
            self._debug("no handler for its protocol")
            transport.close()
            return None
        handler = factory(self._facts(transport))
        transport.set_protocol(handler)
        handler.connection_made(transport)
        if first and not transport.is_closing():
            handler.data_received(first)
        return handler

    def _facts(self, transport: asyncio.Transport) -> ConnectionFacts:
        reception = self._reception
        session = transport.get_extra_info("ssl_object")
        return ConnectionFacts(
            self._client,
            self._told.server if self._told is not None else address_of(self._socket.getsockname()),
            make_tls=partial(tls_extension, session) if session is not None else None,
            root_path=reception.config.root_path,
            state=reception.state,
            proxies=reception.proxies,
        )

    @property
    def _client(self) -> Address | None:
        return self._told.client if self._told is not None else address_of(self._peer)

    def _leave(self) -> None:
        self._reception.leave(self)

    def _debug(self, what: str) -> None:
        if error_log.isEnabledFor(logging.DEBUG):
            error_log.debug("%s: %s", format_address(address_of(self._peer)), what)


class ClearArrival(Arrival):
    """A connection without TLS: its first bytes choose."""

    __slots__ = ("_first",)

    limit = "head_timeout"

    def __init__(
        self, reception: Reception, accepted: socket.socket, peer: Any, told: ProxyHeader | None = None
    ) -> None:
        super().__init__(reception, accepted, peer, told)
        self._first = b""
        self._connect(None)

    def data_received(self, data: bytes) -> None:
        """Look at the first bytes; hand over as soon as they are telling."""
        self._first += data
        self._begun = True
        http1, http2 = self._reception.handlers
        known = self._reception.config.h2c and http2 is not None
        prior_knowledge = opens_http2(self._first) if known else False
        if prior_knowledge is not None:
            self._hand_over(http2 if prior_knowledge else http1, self._first)

    def eof_received(self) -> bool | None:
        """Let HTTP/1.1 answer a preface that broke off; a connection without a byte just ends."""
        if not self._first:
            return False
        handler = self._hand_over(self._reception.handlers.http1, self._first)
        return handler.eof_received() if handler is not None else False


class TlsArrival(Arrival):
    """A connection to a TLS listener: its ClientHello, then the handshake, then ALPN chooses."""

    __slots__ = ("_dropped", "_low_mark")

    limit = "handshake_timeout"

    def __init__(
        self, reception: Reception, accepted: socket.socket, peer: Any, told: ProxyHeader | None = None
    ) -> None:
        super().__init__(reception, accepted, peer, told)
        self._low_mark = 1
        self._dropped = 0
        asyncio.get_running_loop().add_reader(accepted, self._look)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand over to the handler of the protocol that ALPN chose; without ALPN it is HTTP/1.1."""
        super().connection_made(transport)
        http1, http2 = self._reception.handlers
        chosen = transport.get_extra_info("ssl_object").selected_alpn_protocol()
        self._hand_over(http2 if chosen == "h2" else http1)

    def _leave(self) -> None:
        """Count what came of the handshake; of who said nothing, or was refused before, nothing did."""
        if self._begun and self in self._reception.arrivals:
            self._reception.handshakes["failed" if self._transport is None else "completed"] += 1
        super()._leave()

    def _look(self) -> None:
        """Look at what has come so far, without taking it."""
        try:
            data = self._socket.recv(MAX_BYTES, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            data = b""
            self._debug(_reason(error))
        self._begun = bool(data)
        if not data:
            self.drop()
        elif data[0] != HANDSHAKE_RECORD:
            self._refuse_clear_text(data)
        elif not self._wait_for(bytes_wanted(data), len(data)):
            self._greet(data)

    def _wait_for(self, wanted: int, seen: int) -> bool:
        """Be woken again when `wanted` bytes are there, not for each segment of them.

        Returns:
            False when there is nothing to wait for: they are all there, or fewer came than were
            asked for, so the client has closed or the system does not honour the mark.
        """
        if seen >= wanted or seen < self._low_mark:
            return False
        if self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return False  # reset behind what it sent; uvloop does not call a reader again after that
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, wanted)
        except OSError:
            return False
        self._low_mark = wanted
        return True

    def _greet(self, data: bytes) -> None:
        """Start the handshake, unless no protocol could come of it."""
        hello = read_client_hello(data)
        if hello.protocols is not None and self._reception.alpn.isdisjoint(hello.protocols):
            self._refuse(NO_APPLICATION_PROTOCOL, f"no protocol for us in its ALPN offer {hello.protocols}")
            return
        asyncio.get_running_loop().remove_reader(self._socket)
        if self._low_mark > 1:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        assert self._reception.context_for is not None
        context = self._reception.context_for(hello.server_name)
        self._reception.begin_in_turn(partial(self._shake_hands, context))

    def _shake_hands(self, context: ssl.SSLContext) -> None:
        if self in self._reception.arrivals:  # it has not been dropped meanwhile
            self._connect(context)

    def _refuse_clear_text(self, data: bytes) -> None:
        if data[:1].isalpha():  # every HTTP method, and the HTTP/2 preface, begins with a letter
            self._refuse(_https_expected(self._reception.clock.date), "HTTP in clear text on a TLS port")
        else:
            self._debug("neither TLS nor HTTP on a TLS port")
            self.drop()

    def _refuse(self, answer: bytes, reason: str) -> None:
        """Answer without TLS and close so that the answer arrives.

        A close with unread input resets the connection, and the reset can overtake the answer
        (RFC 9112, 9.6). So the input is read until the client closes, for a while and up to a bound.
        """
        self._debug(reason)
        self._reception.handshakes["failed"] += 1
        self._begun = False
        try:
            self._socket.send(answer)
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.drop()
            return
        self.deadline = self._reception.clock.now() + self._reception.config.linger_timeout
        asyncio.get_running_loop().add_reader(self._socket, self._discard)

    def _discard(self) -> None:
        """Read what a refused client still sends, up to a bound, and drop it when it has closed."""
        try:
            for _ in range(_DISCARDS):
                data = self._socket.recv(_DISCARD_BYTES)
                if not data:
                    break
                self._dropped += len(data)
                if self._dropped > self._reception.config.max_drain:
                    asyncio.get_running_loop().remove_reader(self._socket)
                    return
            else:
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._debug(_reason(error))
        self.drop()


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"client certificate refused, {error.verify_message}"
    # OpenSSL's own word (such as NO_SHARED_CIPHER) is shorter than its sentence.
    return getattr(error, "reason", None) or str(error) or "closed by the client"


def _https_expected(date: bytes) -> bytes:
    body = b"This port speaks HTTPS: begin the address with https://\n"
    return (
        b"HTTP/1.1 400 Bad Request\r\n"
        b"date: %s\r\n"
        b"content-type: text/plain; charset=utf-8\r\n"
        b"content-length: %d\r\n"
        b"connection: close\r\n"
        b"\r\n%s"
    ) % (date, len(body), body)
