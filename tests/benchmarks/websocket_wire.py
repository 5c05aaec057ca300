"""WebSocket frames as a client over HTTP/2 needs them: one made beforehand, and those of the server counted."""

import struct


class MessageCounter:
    """Counts the messages in what a server sends: unmasked frames, in any pieces (RFC 6455, 5.2)."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._left = 0
        self._final = False

    def feed(self, data: bytes) -> int:
        """Take what came, and return how many messages it completes."""
        complete = start = 0
        while start < len(data):
            if self._left:
                taken = min(self._left, len(data) - start)
                self._left -= taken
                start += taken
            else:
                self._head.append(data[start])
                start += 1
                if not self._head_is_read():
                    continue
            if self._left == 0:
                complete += self._final
        return complete

    def _head_is_read(self) -> bool:
        head = self._head
        extended = {126: 2, 127: 8}.get(head[1], 0) if len(head) > 1 else 0
        if len(head) < 2 + extended:
            return False
        self._left = int.from_bytes(head[2:]) if extended else head[1]
        is_control = bool(head[0] & 8)
        self._final = bool(head[0] & 128) and not is_control
        head.clear()
        return True


def masked(message: bytes) -> bytes:
    """Return a binary frame as a client sends it."""
    mask = b"\x5a\xa5\x3c\xc3"
    size = len(message)
    if size < 126:
        head = bytes((0x82, 0x80 | size))
    elif size < 65536:
        head = struct.pack("!BBH", 0x82, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x82, 0x80 | 127, size)
    key = (mask * (size // 4 + 1))[:size]
    body = (int.from_bytes(message) ^ int.from_bytes(key)).to_bytes(size)
    return head + mask + body
