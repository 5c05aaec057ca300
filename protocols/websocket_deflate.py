"""permessage-deflate for the server (RFC 7692): what is agreed to, and inflating within a bound.

wsproto compresses; what it would agree to and inflate too readily is done here. Parameters are
read as strictly as section 7 asks: an offer with anything unknown, repeated or out of range in it
is declined, and the client's next offer is looked at.
"""

import codecs
import re
import zlib
from typing import Final

from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

_SPACE: Final = r"[ \t]*+"
_TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"  # noqa: S105 - of a grammar (RFC 9110, 5.6.2)
_PARAMETER: Final = rf'{_SPACE};{_SPACE}({_TOKEN})(?:{_SPACE}={_SPACE}(?:({_TOKEN})|"({_TOKEN})"))?'
_OFFER: Final = re.compile(rf"[ \t,]*+({_TOKEN})((?:{_PARAMETER})*){_SPACE}(?:,|$)")
_PARAMETERS: Final = re.compile(_PARAMETER)

_WINDOW_BITS: Final = frozenset(str(bits) for bits in range(8, 16))
# RFC 7692, 7.1.2.1 has 8 as well, but zlib cannot compress with that.
_SERVER_WINDOW_BITS: Final = _WINDOW_BITS - {"8"}
_LEGAL: Final[dict[str, frozenset[str | None]]] = {
    "server_no_context_takeover": frozenset((None,)),
    "client_no_context_takeover": frozenset((None,)),
    "server_max_window_bits": _SERVER_WINDOW_BITS,
    # A hint: what we inflate with is large enough for every window, so we never restrict the client.
    "client_max_window_bits": _WINDOW_BITS | {None},
}

# How much is inflated at a time. Nobody knows what it becomes, up to a thousand times as much: so it begins with
# little, and whoever sends what becomes a hundred times as much is not trusted with more.
_SMALL_BITE: Final = 64
_LARGE_BITE: Final = 1024
_DENSE: Final = 100

# UTF-8 has at most four bytes a character (RFC 3629, 3).
_LONGEST_CHARACTER: Final = 4


class Deflate(PerMessageDeflate):
    """permessage-deflate that stops inflating as soon as a message is too big.

    It gives out a little more than the bound then, for others to see it, and nothing after that, whatever comes.

    Args:
        response: What was agreed, as our `sec-websocket-extensions` says it.
        max_message: The largest message after inflation, in bytes.

    Attributes:
        bite: How many bytes to inflate at a time.
        inflated: How many bytes were inflated since somebody set it to 0.
        overflown: Whether a message was too big; nothing is inflated any more.
    """

    def __init__(self, response: str, max_message: int) -> None:
        super().__init__()
        self.bite = _SMALL_BITE
        self.inflated = 0
        self.finalize(response)
        self._max_message = max_message
        self._room = max_message
        self.overflown = False
        self._largest_bite = _LARGE_BITE

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        """Let a control frame be no part of the message around it (RFC 7692, 6.1), which wsproto takes it for."""
        if opcode.iscontrol() and not rsv.rsv1:
            self._inbound_is_compressible = False
            return RsvBits(True, False, False)
        return super().frame_inbound_header(proto, opcode, rsv, payload_length)

    def frame_inbound_payload_data(
        self, proto: FrameDecoder | FrameProtocol, data: bytes
    ) -> bytes | CloseReason:
        """Inflate a part of a message, but hardly further than to the bound; then drop the rest of it."""
        if not self._inbound_compressed or not self._inbound_is_compressible:
            return data
        inflated = []
        before, inflated_before = len(data), self.inflated
        try:
            while data and not self.overflown:
                assert self._decompressor is not None
                more = self._decompressor.decompress(data, self._room + _LONGEST_CHARACTER)
                self._room -= len(more)
                self.overflown = self._room < 0
                self.inflated += len(more)
                inflated.append(_whole_characters(more) if self.overflown else more)
                data = self._decompressor.unused_data
                if self._decompressor.eof:  # a final block ends its stream, not the message (7.2.3.4)
                    self._decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
        except zlib.error:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        if self.inflated - inflated_before > _DENSE * before:
            self._largest_bite = _SMALL_BITE
        self.bite = min(2 * self.bite, self._largest_bite)
        return b"".join(inflated)

    def frame_inbound_complete(
        self, proto: FrameDecoder | FrameProtocol, fin: bool
    ) -> bytes | CloseReason | None:
        """Finish a message; the next one has the whole bound again."""
        if not self._inbound_is_compressible:
            return None
        if fin:
            self._room = self._max_message
            if self.overflown:
                self._inbound_compressed = None
                return None
        return super().frame_inbound_complete(proto, fin)


def agree(offers: bytes, max_message: int) -> tuple[bytes, Deflate] | None:
    """Agree to the first acceptable offer of permessage-deflate.

    Args:
        offers: The value of the client's `sec-websocket-extensions`.
        max_message: The largest message after inflation, in bytes.

    Returns:
        The value of our field of that name, and the extension; None without an acceptable offer.
    """
    for name, parameters in _parse_offers(offers.decode("latin-1")):
        if name == PerMessageDeflate.name and _is_acceptable(parameters):
            agreed = [PerMessageDeflate.name]
            agreed += [
                key if value is None else f"{key}={value}"
                for key, value in parameters
                if key != "client_max_window_bits"
            ]
            response = "; ".join(agreed)
            return response.encode("ascii"), Deflate(response, max_message)
    return None


def _parse_offers(value: str) -> list[tuple[str, list[tuple[str, str | None]]]]:
    """Read a list of extensions (RFC 6455, 9.1); nothing of a list that is malformed."""
    offers: list[tuple[str, list[tuple[str, str | None]]]] = []
    position = 0
    value = value.strip(" \t,")
    while position < len(value):
        match = _OFFER.match(value, position)
        if match is None:
            return []
        parameters = [
            (parameter[1], parameter[2] or parameter[3]) for parameter in _PARAMETERS.finditer(match[2])
        ]
        offers.append((match[1], parameters))
        position = match.end()
    return offers


def _is_acceptable(parameters: list[tuple[str, str | None]]) -> bool:
    names = [name for name, _ in parameters]
    return len(set(names)) == len(names) and all(value in _LEGAL.get(name, ()) for name, value in parameters)


def _whole_characters(data: bytes) -> bytes:
    """Cut data so that it does not end within a character, should it be UTF-8; wsproto would complain."""
    _, consumed = codecs.utf_8_decode(data, "replace", False)
    return data[:consumed]
