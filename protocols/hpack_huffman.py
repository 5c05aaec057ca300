"""Huffman-coded strings of HPACK (RFC 7541, 5.2), decoded a byte at a time.

The automaton is hpack's, which goes by half bytes; here two of its steps are one look-up. Its states
depend on no connection and are kept for the process, each computed when a string first comes to it:
text takes a few dozen, and all 256 are 8 MB.
"""

from typing import Final, TypeAlias

from hpack import HPACKDecodingError
from hpack.huffman_table import HUFFMAN_COMPLETE, HUFFMAN_EMIT_SYMBOL, HUFFMAN_FAIL, HUFFMAN_TABLE

# What a byte leads to: the symbols that it completes, the next state, and whether the string may end here.
_Step: TypeAlias = "tuple[bytes, _State, bool]"
# Its step for each byte; empty until a string comes to it.
_State: TypeAlias = list[_Step]

_STATES: Final[list[_State]] = [[] for _ in range(len(HUFFMAN_TABLE) // 16)]
_START: Final[_Step] = (b"", _STATES[0], True)
# Where EOS leads, which no string may hold: a string that came here never ends well.
_DEAD: Final[_State] = []
_DEAD.extend([(b"", _DEAD, False)] * 256)


def decode_huffman(data: bytes) -> bytes:
    """Decode a string.

    Raises:
        HPACKDecodingError: It holds EOS, or does not end in up to seven bits of padding, all 1.
    """
    while True:
        step = _START
        try:
            decoded = [(step := step[1][byte])[0] for byte in data]
        except IndexError:
            _compute(step[1])
            continue
        if not step[2]:
            raise HPACKDecodingError("EOS or invalid padding in a Huffman-coded string")
        return b"".join(decoded)


def _compute(state: _State) -> None:
    """Fill in the steps of a state."""
    start = next(node for node, known in enumerate(_STATES) if known is state)
    state += [_step(start, byte) for byte in range(256)]


def _step(node: int, byte: int) -> _Step:
    symbols, flags = b"", 0
    for half in (byte >> 4, byte & 0xF):
        node, flags, symbol = HUFFMAN_TABLE[node * 16 + half]
        if flags & HUFFMAN_FAIL:
            return b"", _DEAD, False
        if flags & HUFFMAN_EMIT_SYMBOL:
            symbols += bytes((symbol,))
    return symbols, _STATES[node], bool(flags & HUFFMAN_COMPLETE)
