"""What a client may make the server hold or do on one HTTP/2 connection, beyond the settings of its operator.

Both machines go by it.
"""

from typing import Final

from . import http2_frames as wire

HEADER_LIST_TOLERANCE: Final = 4
"""A header list up to this many times the announced size is received and decoded, so that it can be
answered with 431; beyond that it is an attack, and the connection ends (HPACK bomb, CVE-2024-27316)."""

MAX_BLOCK_FRAMES: Final = 64
"""In how many frames a field block may come (h2's limit; CVE-2024-27316)."""

WORK_PER_TURN: Final = 64
"""What is taken before others get their turn, in ordinary frames: a read may hold tens of thousands, and each
may be a request. Half of them are as many requests, with their resets, as HTTP/1 begins in a turn."""

STARTS_PER_TURN: Final = 64
"""How many applications are started before others get their turn; those that have no more to do than to answer
take a millisecond, and what they say leaves in one write."""

ORDINARY_BYTES: Final = 32
"""Of a frame without content, such as the fields of a request that is like the one before. A turn has room
for 2 KiB of fields: fifty that are spelt out or two thousand by their numbers, which take a millisecond or two."""

MAX_CLOSED_STREAMS: Final = 1024
"""Of how many closed streams is remembered how they were closed (h2's default: 65,536 per connection).
Late frames come within a round trip, so within the last few hundred streams."""

MAX_TABLE_UPDATES: Final = 2
"""RFC 7541, 4.2: at the beginning of a field block, the smallest size and the last one."""

SETTINGS_WEIGHT: Final = 10
"""SETTINGS have us look at every stream, so they are dearer than other frames; a client has few to send."""

LATE_DATA_BYTES: Final = 1024
"""DATA that comes late for a stream that we have reset: in large frames it was under way, and costs the
client as much as us; so many of small ones would be made for the purpose."""

MAX_DEBUG_BYTES: Final = 200
"""How much GOAWAY says about the reason."""


def extra_work(kind: int, flags: int, size: int) -> int:
    """Return how much more work a frame is than an ordinary one, for `WORK_PER_TURN`.

    Args:
        kind: Its type (RFC 9113, 6).
        flags: Its flags.
        size: Of its payload, in bytes.
    """
    if kind == wire.SETTINGS and not flags & wire.ACK:
        return SETTINGS_WEIGHT
    return 0 if kind == wire.DATA else size // ORDINARY_BYTES
