"""Names of requests: `x-request-id`, and the trace they belong to (W3C Trace Context)."""

import re
from typing import Final

# Version, trace-id, parent-id, flags (Trace Context, 3.2.2); a later version may say more behind a dash.
_TRACEPARENT: Final = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?", re.DOTALL
)


def read_trace_id(traceparent: bytes | None) -> str | None:
    """Return the trace-id of a `traceparent` field, 32 hexadecimal digits; None if it is not valid."""
    found = _TRACEPARENT.fullmatch(traceparent or b"")
    if found is None or (found[1] == b"00" and found[3]):
        return None
    return found[2].decode("ascii")
