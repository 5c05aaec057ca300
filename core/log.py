"""The two logs: `alphorn.error` for the operator, `alphorn.access` with one line per request.

Nothing that a peer wrote reaches a log unescaped: control characters would let a client
forge lines or drive a terminal.
"""

import logging
import re

error_log = logging.getLogger("alphorn.error")
access_log = logging.getLogger("alphorn.access")

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]|[\"\\]")


def escape(text: str) -> str:
    r"""Make peer-made text safe in a log line: quotes, backslashes and all but printable ASCII as \x.."""
    return _UNPRINTABLE.sub(_escape_one, text)


def _escape_one(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
