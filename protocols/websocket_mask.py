"""Taking the mask off what a WebSocket client sends (RFC 6455, 5.3): by websockets in C, or without.

Python has no fast way to combine two runs of bytes; for 64 KiB that one function in C takes 2 µs instead of 70.
Where websockets comes without it (PyPy, or built without a compiler), `unmask_in_python` takes its place.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

from wsproto.frame_protocol import XorMaskerSimple

_MASK_BYTES: Final = 4
_SHORT: Final = 512  # bytes

Content: TypeAlias = bytes | bytearray | memoryview


def unmask_in_python(content: Content, mask: bytes | bytearray) -> bytes:
    """Return the content without its mask of four bytes."""
    length = len(content)
    if length > _SHORT:
        return bytes(XorMaskerSimple(mask).process(bytearray(content)))
    # As one number: for little that is one operation; for much, making the number takes longer.
    key = (mask * (length // _MASK_BYTES + 1))[:length]
    return (int.from_bytes(content, "little") ^ int.from_bytes(key, "little")).to_bytes(length, "little")


unmask: Callable[[Content, bytes | bytearray], bytes]
"""Return the content without its mask of four bytes."""
try:
    from websockets.speedups import apply_mask as unmask
except ImportError:
    unmask = unmask_in_python
