"""The request heads of one connection: where each of them ends, and which lane reads it.

The plain lane of `--engine fast` is asked first, if there is one; what it will not read is read with h11, which decides.
"""

from ..core.config import Config
from .http1_head import HEAD_END, measure_head, read_head
from .http1_plain import PlainHeads
from .http1_request import Http1Request


class Heads:
    """Reads one head after the other."""

    __slots__ = ("_config", "_plain", "_seen")

    def __init__(self, config: Config) -> None:
        self._config = config
        self._plain = PlainHeads() if config.engine == "fast" else None
        self._seen = 0  # how much of the buffer has been looked at without finding an end

    def read_alone(self, data: bytes) -> Http1Request | None:
        """Read a plain head that one read brought whole and alone, as most come; None if it is anything else."""
        if self._plain is None or len(data) > self._config.max_head_bytes or not data.endswith(HEAD_END):
            return None
        return self._plain.read(data, self._config.max_fields)

    def read(self, buffer: bytearray) -> Http1Request | None:
        """Take a head from the front of the buffer; None while it is unfinished.

        Raises:
            StreamFault: With the status to answer. The connection cannot be used any further.
        """
        config = self._config
        if not self._seen:
            while buffer.startswith(b"\r\n"):  # RFC 9112, 2.2: empty lines before a request are ignored.
                del buffer[:2]
        if not buffer:
            return None
        length = measure_head(buffer, self._seen, config.max_head_bytes)
        if not length:
            if buffer != b"\r":  # which may become an empty line
                self._seen = len(buffer)
            return None
        raw = bytes(buffer[:length])
        del buffer[:length]
        self._seen = 0
        plain = self._plain.read(raw, config.max_fields) if self._plain is not None else None
        return plain or read_head(raw, config)
