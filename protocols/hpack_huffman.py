"""Huffman-coded strings of HPACK (RFC 7541, 5.2): long ones are decoded by zlib, others a byte at a time.

DEFLATE lets each block bring a Huffman code of its own, and HPACK's is canonical, as it asks for. So a
string is a block, but for the order of the bits in a byte. What DEFLATE has no room for are codes longer
than 15 bits: they all begin with fifteen 1s, which is where its end of block goes.

The automaton that goes by bytes is hpack's, which goes by half bytes; here two of its steps are one
look-up. Its states depend on no connection and are kept for the process, each computed when a string
first comes to it: text takes a few dozen, and all 256 are 8 MB.
"""

import zlib
from collections.abc import Iterable
from typing import Final, TypeAlias

from hpack import HPACKDecodingError
from hpack.huffman_constants import REQUEST_CODES_LENGTH
from hpack.huffman_table import HUFFMAN_COMPLETE, HUFFMAN_EMIT_SYMBOL, HUFFMAN_FAIL, HUFFMAN_TABLE

# In bytes; where zlib, which takes 0.8 µs to begin, is as fast as the automaton.
_SHORT: Final = 14

_MOST_BITS: Final = 15  # of a code in DEFLATE (RFC 1951, 3.2.7)
# DEFLATE begins with the lowest bit of a byte, HPACK with the highest.
_REVERSED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
# Behind up to seven bits of padding, it ends the block; behind anything else it is a symbol and does not.
_END: Final = b"\xff\xfe".translate(_REVERSED)
_MOST_UNUSED: Final = 1  # byte of it, if there were seven bits of padding

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
    if len(data) > _SHORT and data[-1] != 0xFF:  # which may be more than seven bits of padding
        inflater = _INFLATER.copy()
        decoded = inflater.decompress(data.translate(_REVERSED) + _END)
        if inflater.eof and len(inflater.unused_data) <= _MOST_UNUSED:
            return decoded
    return _decode_by_bytes(data)


def _decode_by_bytes(data: bytes) -> bytes:
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


def _block_head() -> bytes:
    """Return the head of a DEFLATE block in HPACK's code (RFC 1951, 3.2.7).

    A length of a code is said in four bits that are the length. Three empty blocks before it, of ten bits
    each, are what it takes for the strings to begin at a byte.
    """
    lengths = [length if length <= _MOST_BITS else 0 for length in REQUEST_CODES_LENGTH[:256]]
    lengths += [_MOST_BITS, 1]  # of the end of block; and of a distance, for there has to be one
    order = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
    bits = [
        *("0100000000" for _ in range(3)),  # not the last block, in the fixed code, and its end
        *("101", "00000", "00000", "1111"),  # the last block, in a code of its own: 257, 1 and 19 lengths
        *("001" if length <= _MOST_BITS else "000" for length in order),  # whose codes have four bits
        *(f"{length:04b}" for length in lengths),
    ]
    return _packed(bits)


def _packed(bits: Iterable[str]) -> bytes:
    """Put bits into bytes, the lowest first."""
    joined = "".join(bits)
    return bytes(int(joined[at : at + 8][::-1], 2) for at in range(0, len(joined), 8))


_INFLATER: Final = zlib.decompressobj(wbits=-9)  # the smallest window: nothing is ever repeated from it
_INFLATER.decompress(_block_head())
