"""WebSocket frames as a client over HTTP/2 needs them: one made beforehand, and those of the server counted."""

import struct


class MessageCounter:
    """Counts the messages in what a server sends: unmasked frames, in any pieces (RFC 6455, 5.2)."""

    def __init__(self) -> None:
        self._head = b""  # of a frame, as long as it is incomplete
        self._left = 0  # of the content of a frame
        self._final = False  # whether its end is that of a message

    def feed(self, data: bytes) -> int:
        """Take what came, and return how many messages it completes."""
        if self._head:
            data = self._head + data
        end, next_frame = len(data), self._left
        complete = int(0 < next_frame <= end and self._final)
        while end - next_frame >= 2:
            first, length = data[next_frame], data[next_frame + 1]
            content = next_frame + 2
            if length > 125:
                content += 2 if length == 126 else 8
                if content > end:
                    break
                length = int.from_bytes(data[next_frame + 2 : content])
            self._final = first & 0x88 == 0x80  # the last of a message, and no control frame
            next_frame = content + length
            complete += self._final and next_frame <= end
        self._left = max(0, next_frame - end)
        self._head = data[next_frame:]
        return complete


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
