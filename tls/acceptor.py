"""Accept connections, find out their protocol, hand them to its handler, step out of the way.

One `Acceptor` per listening socket. It takes connections itself, rather than through
`loop.create_server`, because the first bytes of a TLS connection are looked at before TLS starts.
What happens between `accept()` and the handler is in `arrival`.

Invariants:
- Nothing here outlives the choice: no wrapper, no task, no deadline per established connection.
- The listening socket belongs to the caller, before and after.
"""

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..core.clock import NEVER, Clock, Timed
from ..core.config import Config
from ..core.limits import Limits
from ..core.log import error_log
from ..core.proxies import TrustedProxies
from ..core.sockets import address_of
from .arrival import ClearArrival, ContextFor, HandlerFactory, Handlers, Reception, TlsArrival
from .handshake import alpn_protocols
from .introduction import Introduction

__all__ = ["Acceptor", "ContextFor", "HandlerFactory", "Handlers"]

BATCH = 4
"""Connections accepted per wake-up: few enough that the connections there already wait no longer than
about half a millisecond for what comes of them; one by one each would cost a sixth more. (nginx takes
one, or all with `multi_accept`; asyncio up to its backlog.)"""


class Acceptor:
    """Takes the connections of one listening socket.

    Attributes:
        deadline: When to accept again, after the system refused to.
    """

    def __init__(  # noqa: PLR0913 - the parts that the composition root has
        self,
        listener: socket.socket,
        handlers: Handlers,
        *,
        clock: Clock,
        config: Config,
        context_for: ContextFor | None = None,
        state: Mapping[str, Any] | None = None,
        proxies: TrustedProxies | None = None,
        limits: Limits,
        handshakes: Counter[str] | None = None,
    ) -> None:
        self.deadline = NEVER
        self._listener = listener
        self._is_tcp = listener.family != getattr(socket, "AF_UNIX", None)
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arrival = ClearArrival if context_for is None else TlsArrival
        self._reception = Reception(
            handlers=handlers,
            clock=clock,
            config=config,
            context_for=context_for,
            alpn=frozenset(name.encode() for name in alpn_protocols(config)),
            state=state,
            proxies=proxies,
            limits=limits,
            handshakes=Counter() if handshakes is None else handshakes,
        )

    def start(self) -> None:
        """Begin to accept, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener, self._accept)

    def stop(self) -> None:
        """Stop accepting; who was accepted goes on. Calling it again does nothing."""
        if self._loop is not None:
            self._loop.remove_reader(self._listener)
            self._loop = None
            self._clock.forget(self)

    def close(self) -> None:
        """Stop accepting and drop the connections that have not chosen a protocol yet.

        Connections that were handed over go on. Calling it again does nothing.
        """
        self.stop()
        for arrival in tuple(self._reception.arrivals):
            arrival.drop()

    def expire(self) -> None:
        """Accept again after a pause."""
        self.deadline = NEVER
        self._clock.forget(self)
        self._resume()

    def _resume(self) -> None:
        if self._loop is not None:
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        occupancy = self._reception.limits.occupancy
        if occupancy.full:
            self._wait_for_place()
            return
        for _ in range(BATCH):
            if occupancy.full:
                return  # if somebody is there for whom there is no place, the loop will say so
            try:
                accepted, peer = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:  # the client left while it waited in the backlog
                continue
            except OSError as error:
                self._pause(error)
                return
            self._admit(accepted, peer)

    def _admit(self, accepted: socket.socket, peer: Any) -> None:
        try:
            accepted.setblocking(False)
            if self._is_tcp:
                # asyncio does it only for sockets that were made with an explicit protocol number.
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:  # the client has gone, and some systems say so here
            accepted.close()
            return
        if self._reception.config.proxy_protocol:
            Introduction(self._arrival, self._reception, accepted, peer)
        elif self._reception.turns_away(address_of(peer)):
            accepted.close()
        else:
            self._arrival(self._reception, accepted, peer)

    def _wait_for_place(self) -> None:
        """Stop accepting until a connection has left; others wait in the backlog."""
        assert self._loop is not None
        limits = self._reception.limits
        limits.hit("max_connections", None, "no more connections are accepted until one has ended")
        self._loop.remove_reader(self._listener)
        limits.occupancy.when_left(self._place_left)

    def _place_left(self) -> None:
        # Soon, not at once: a connection leaves and enters again when it is handed over.
        if self._loop is not None:
            self._loop.call_soon(self._take_place)

    def _take_place(self) -> None:
        if self._reception.limits.occupancy.full:
            self._reception.limits.occupancy.when_left(self._place_left)
        else:
            self._resume()

    def _pause(self, error: OSError) -> None:
        """Stop accepting until the next tick of the clock.

        The listener stays readable, so going on would spin. Connections wait in the backlog
        meanwhile, and those that close give their descriptors back.
        """
        assert self._loop is not None
        mend = "; raise the limit of open files (ulimit -n)" if error.errno == errno.EMFILE else ""
        error_log.error("cannot accept connections, trying again in a moment: %s%s", error.strerror, mend)
        self._loop.remove_reader(self._listener)
        self.deadline = self._clock.now()
        self._clock.watch(self)


if TYPE_CHECKING:
    _: type[Timed] = Acceptor
