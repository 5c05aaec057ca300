"""Letting the kernel send a file over a socket that a transport owns.

uvloop has no `loop.sendfile`, so the call is made here, on a duplicate of the descriptor: the
transport keeps its own registration with the event loop, and nothing else writes meanwhile.
"""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from ..core.errors import Disconnected

CAN_SEND_FILES: Final = hasattr(os, "sendfile") and hasattr(os, "pread")
# A client on a fast network can take bytes as quickly as they are sent; the others get their turn
# in between (nginx: sendfile_max_chunk 2m).
_MAX_PER_CALL: Final = 2 * 1024 * 1024


async def send_file(
    sock: socket.socket,
    wait_room: Callable[[int], Awaitable[None]],
    descriptor: int,
    offset: int,
    count: int,
) -> int:
    """Send a part of a file, once the transport has nothing left to send.

    Args:
        sock: The transport's socket.
        wait_room: Waits until a descriptor is writable; raises Disconnected if the connection goes.
        descriptor: The open file.
        offset: Where in the file to begin, in bytes.
        count: How many bytes to send at the most.

    Returns:
        How many bytes were sent: fewer than `count` at the end of the file.

    Raises:
        Disconnected: The client left meanwhile.
    """
    sent = 0
    outgoing = os.dup(sock.fileno())
    try:
        while sent < count:
            try:
                written = os.sendfile(outgoing, descriptor, offset + sent, min(count - sent, _MAX_PER_CALL))
            except BlockingIOError:
                await wait_room(outgoing)
                continue
            except (ConnectionError, TimeoutError) as error:
                raise Disconnected("the client has gone") from error
            if not written:
                break
            sent += written
            if sent < count:
                await asyncio.sleep(0)
    finally:
        os.close(outgoing)
    return sent
