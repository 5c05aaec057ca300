"""Introduction: what comes before a connection when a proxy speaks for it (`--proxy-protocol`).

The PROXY header is looked at in the socket and only it is taken out, so that what follows, TLS or
not, arrives as if the client had connected itself.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ..core.clock import Timed
from ..core.errors import ConnectionFault
from ..core.log import error_log, format_address
from ..core.sockets import address_of
from .arrival import Reception
from .proxy_protocol import ProxyHeader, read_proxy_header

_MAX_BYTES: Final = 4096
"""The longest header that is waited for; HAProxy's own buffer for one is smaller."""


class Introduction:
    """One connection that has yet to say for whom it is."""

    __slots__ = ("_arrive", "_peer", "_reception", "_seen", "_socket", "deadline")

    def __init__(
        self,
        arrive: Callable[[Reception, socket.socket, Any, ProxyHeader], object],
        reception: Reception,
        accepted: socket.socket,
        peer: Any,
    ) -> None:
        self._arrive = arrive
        self._reception = reception
        self._socket = accepted
        self._peer = peer
        self._seen = 0
        self.deadline = reception.clock.now() + reception.config.handshake_timeout
        reception.enter(self, None)
        asyncio.get_running_loop().add_reader(accepted, self._look)
        if reception.proxies is None or not reception.proxies.trusts(address_of(peer)):
            self._refuse("is no trusted proxy")

    def expire(self) -> None:
        """Drop a proxy that does not introduce anybody."""
        if self._seen:
            what = "a connection was closed, its PROXY header does not come to an end"
            self._reception.limits.hit("handshake_timeout", address_of(self._peer), what)
        self._refuse("sent no PROXY header in time")

    def drop(self) -> None:
        """Close at once."""
        self._leave()
        self._socket.close()

    def _look(self) -> None:
        try:
            data = self._socket.recv(_MAX_BYTES, socket.MSG_PEEK)
            if not data or len(data) == self._seen:
                self._refuse("left before its PROXY header was complete")
                return
            header = read_proxy_header(data)
            if header is None:
                self._wait_for_more(len(data))
                return
            self._socket.recv(header.length)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        except (BlockingIOError, InterruptedError):
            return
        except (OSError, ConnectionFault) as error:
            self._refuse(str(error))
            return
        if header.client is not None and self._reception.turns_away(header.client):
            self.drop()
            return
        self._leave()
        self._arrive(self._reception, self._socket, self._peer, header)

    def _wait_for_more(self, seen: int) -> None:
        """Be woken again by the next byte, or by the end, rather than by what is there already."""
        if seen >= _MAX_BYTES:
            self._refuse("sent a PROXY header that is too long")
            return
        self._seen = seen
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, seen + 1)

    def _refuse(self, reason: str) -> None:
        error_log.debug("%s: %s", format_address(address_of(self._peer)), reason)
        self.drop()

    def _leave(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._reception.leave(self)


if TYPE_CHECKING:
    _: type[Timed] = Introduction
