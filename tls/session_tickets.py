"""Session tickets that every worker can read, also after a reload: with keys of our own in place of OpenSSL's.

`ssl` has no way to set them, so OpenSSL itself is asked, through `ctypes`.

Invariants:
- Nothing is written before it is proved, on a context made for that, that we find the one that `ssl` means.
- Where OpenSSL is out of reach, contexts stay as they are, with random keys: in a Python that has OpenSSL linked
  in statically, is not CPython, is newer than 3.13, or has no `ctypes`.
- Knows nothing of certificates: what a ticket has to be bound to is said by whoever asks.
"""

import functools
import hashlib
import ssl
import sys
from typing import Any, Final

try:
    import ctypes
except ImportError:  # a Python that was built without libffi
    ctypes = None  # type: ignore[assignment]

_KEY_BYTES: Final = 80
"""A name of 16, 32 for HMAC-SHA256, 32 for AES-256: OpenSSL since 1.1.1."""

# Commands of SSL_CTX_ctrl (ssl.h, tls1.h).
_SET_SESSION_CACHE_MODE: Final = 44
_SET_TICKET_KEYS: Final = 59
_SESSION_CACHE_OFF: Final = 0


def share_tickets(context: ssl.SSLContext, *bound_to: bytes) -> bool:
    """Have a context make and read the same tickets as every other one that is bound to the same.

    From then on it keeps no sessions itself either, as OpenSSL would for clients without tickets.

    Args:
        context: A server's.
        bound_to: A secret, and whatever else has to be the same for a ticket to be read.

    Returns:
        Whether it does; if OpenSSL is out of reach, nothing has changed.
    """
    openssl = _openssl()
    if openssl is None or openssl.options(context) != context.options:
        return False
    # With their lengths, so that nothing can be shifted from one to the next. SHAKE needs no HMAC around it.
    prefixed = b"".join(len(each).to_bytes(8, "big") + each for each in bound_to)
    keys = hashlib.shake_256(prefixed).digest(_KEY_BYTES)
    openssl.control(context, _SET_SESSION_CACHE_MODE, _SESSION_CACHE_OFF)
    return openssl.control(context, _SET_TICKET_KEYS, _KEY_BYTES, keys) == 1


class _OpenSSL:
    """What we need of the libssl that `ssl` uses."""

    def __init__(self, library: Any) -> None:
        self._get_options = library.SSL_CTX_get_options
        self._get_options.argtypes = [ctypes.c_void_p]
        self._get_options.restype = ctypes.c_uint64
        self._ctrl = library.SSL_CTX_ctrl
        self._ctrl.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p]
        self._ctrl.restype = ctypes.c_long

    def options(self, context: ssl.SSLContext) -> int:
        """Return `context.options` as OpenSSL has them."""
        return int(self._get_options(_pointer(context)))

    def control(self, context: ssl.SSLContext, command: int, number: int, data: bytes | None = None) -> int:
        """Call SSL_CTX_ctrl."""
        return int(self._ctrl(_pointer(context), command, number, data))


def _pointer(context: ssl.SSLContext) -> int | None:
    """Return the SSL_CTX of a context: in CPython, the first thing behind what every object has."""
    return ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value


@functools.cache
def _openssl() -> _OpenSSL | None:
    """Find it; None where that cannot be done for certain."""
    # PySSLContext in Modules/_ssl.c, which may change; and a reference count and a type before it, no more.
    known = sys.implementation.name == "cpython" and sys.version_info < (3, 14)
    if not known or ctypes is None or object.__basicsize__ != 2 * ctypes.sizeof(ctypes.c_void_p):
        return None
    module = sys.modules["_ssl"]
    try:
        # What `_ssl` is linked with is found through it. PyDLL keeps the GIL, so no other thread interferes.
        openssl = _OpenSSL(ctypes.PyDLL(module.__file__))
    except (AttributeError, OSError):  # built in; or without these functions
        return None
    probe = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for option in (ssl.OP_NO_TICKET, ssl.OP_NO_RENEGOTIATION, ssl.OP_NO_COMPRESSION):
        probe.options ^= option
        if openssl.options(probe) != probe.options:
            return None
    # Without data, OpenSSL says how much it wants.
    return openssl if openssl.control(probe, _SET_TICKET_KEYS, 0) == _KEY_BYTES else None
