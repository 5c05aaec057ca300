"""A peer that speaks HTTP/2 frame by frame, so that a test reads like an example of RFC 9113.

    await peer.sends(Headers(1, GET, end_stream=True))
    await peer.expects(Headers(1, [(b":status", b"204")], end_stream=True))
    await peer.sends(WindowUpdate(0, 0))
    await peer.expects(Goaway(ANY, ErrorCodes.PROTOCOL_ERROR))

The peer follows no rule but HPACK: what it sends may be illegal, and what it gets it compares,
nothing else. It acknowledges SETTINGS, so that the server need not wait; that can be switched off.
"""

import struct
from dataclasses import dataclass, field, fields
from typing import Any, Final, TypeAlias, TypeVar

import hpack

from .exchange import Fields
from .waiting import within
from .wire import Wire

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GET: Fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"localhost"), (b":path", b"/")]
POST: Fields = [(b":method", b"POST"), *GET[1:]]

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY = 0x20


class _Any:
    """Equal to everything; stands in an expected frame for what the test does not care about."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        raise TypeError("ANY equals everything, so it has no hash")

    def __repr__(self) -> str:
        return "ANY"


ANY: Final[Any] = _Any()


@dataclass(frozen=True)
class Data:
    """DATA (6.1). `padding`, when not None, sends the flag and so many bytes."""

    stream_id: int
    data: bytes = b""
    end_stream: bool = False
    padding: int | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Headers:
    """HEADERS (6.2), with the CONTINUATIONs that follow when received; expected fields need not be all."""

    stream_id: int
    fields: Fields
    end_stream: bool = False


@dataclass(frozen=True)
class HeadersPart:
    """HEADERS with a field block made by hand, whole or a part; only sent."""

    stream_id: int
    block: bytes
    end_stream: bool = False
    end_headers: bool = False


@dataclass(frozen=True)
class Continuation:
    """CONTINUATION (6.10); only sent."""

    stream_id: int
    block: bytes
    end_headers: bool = False


@dataclass(frozen=True)
class RstStream:
    """RST_STREAM (6.4)."""

    stream_id: int
    code: int


@dataclass(frozen=True)
class Settings:
    """SETTINGS (6.5); expected values need not be all."""

    values: dict[int, int] = field(default_factory=dict)
    ack: bool = False


@dataclass(frozen=True)
class PushPromise:
    """PUSH_PROMISE (6.6); expected fields need not be all."""

    stream_id: int
    promised_id: int
    fields: Fields


@dataclass(frozen=True)
class Ping:
    """PING (6.7)."""

    payload: bytes = b"\0" * 8
    ack: bool = False


@dataclass(frozen=True)
class Goaway:
    """GOAWAY (6.8)."""

    last_stream_id: int
    code: int
    debug: bytes = field(default=b"", compare=False)


@dataclass(frozen=True)
class WindowUpdate:
    """WINDOW_UPDATE (6.9)."""

    stream_id: int
    increment: int


@dataclass(frozen=True)
class Raw:
    """Any frame, as its header says it; what is received and none of the others is this."""

    type: int
    flags: int
    stream_id: int
    payload: bytes = b""


Frame: TypeAlias = (
    Data
    | Headers
    | HeadersPart
    | Continuation
    | RstStream
    | Settings
    | PushPromise
    | Ping
    | Goaway
    | WindowUpdate
    | Raw
)
FrameType = TypeVar(
    "FrameType", Data, Headers, RstStream, Settings, PushPromise, Ping, Goaway, WindowUpdate, Raw
)


def priority_update(stream_id: int, value: bytes) -> Raw:
    """PRIORITY_UPDATE (RFC 9218, 7.1) with a priority field value such as b"u=1, i"."""
    return Raw(0x10, 0, 0, struct.pack("!L", stream_id) + value)


class FramePeer:
    """A client made of frames.

    Attributes:
        wire: The connection.
        skips: Kinds of frames that `expects` passes over when they are not what it looks for.
        acknowledges_settings: Whether the server's SETTINGS are acknowledged as soon as they are read.
        seen: Every frame read so far.
        server_settings: The server's settings as read so far.
    """

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.skips: tuple[type, ...] = (Settings, WindowUpdate)
        self.acknowledges_settings = True
        self.seen: list[Frame] = []
        self.server_settings: dict[int, int] = {}
        self.encoder = hpack.Encoder()
        self._decoder = hpack.Decoder()
        self._unread = bytearray()

    async def start(self, settings: dict[int, int] | None = None) -> None:
        """Exchange prefaces: ours with `settings`, then the server's."""
        await self.wire.write(PREFACE)
        await self.sends(Settings(settings or {}))
        await self.expects(Settings(ANY))

    async def sends(self, *frames: Frame | bytes) -> None:
        """Send frames, or bytes that are none, in one piece."""
        await self.wire.write(
            b"".join(frame if isinstance(frame, bytes) else self.serialize(frame) for frame in frames)
        )

    async def expects(self, expected: FrameType) -> FrameType:
        """Read up to a frame like `expected` and return it.

        Fields of it may be `ANY`. Frames of kinds in `skips` may come before it; any other one, or
        the end of the connection, fails the test.
        """
        while True:
            frame = await self._next(f"{expected}")
            if isinstance(frame, type(expected)) and _matches(expected, frame):
                return frame
            assert isinstance(frame, self.skips), f"expected {expected}, got {frame}"

    async def expects_in_any_order(self, *expected: Frame) -> None:
        """Read until there was a frame like each of `expected`; otherwise like `expects`."""
        missing = list(expected)
        while missing:
            frame = await self._next(f"{missing}")
            match = next((one for one in missing if _matches(one, frame)), None)
            if match is not None:
                missing.remove(match)
            else:
                assert isinstance(frame, self.skips), f"expected {missing}, got {frame}"

    async def expects_body(self, stream_id: int) -> bytes:
        """Read the DATA of a stream, in however many frames, up to END_STREAM."""
        body = b""
        while True:
            frame = await self.expects(Data(stream_id, ANY, end_stream=ANY))
            body += frame.data
            if frame.end_stream:
                return body

    async def expects_nothing(self) -> None:
        """Prove that the server says nothing to all that was sent: its next frame answers a PING."""
        await self.sends(Ping(b"anything"))
        await self.expects(Ping(b"anything", ack=True))

    async def expects_end(self) -> None:
        """Read to the end of the connection; on the way only frames of kinds in `skips` may come."""
        while (frame := await self._read("the connection to end")) is not None:
            assert isinstance(frame, self.skips), f"expected the connection to end, got {frame}"

    def close(self) -> None:
        """Close the connection."""
        self.wire.close()

    def serialize(self, frame: Frame) -> bytes:  # noqa: C901 - one short case per kind
        """Return the bytes of a frame; field sections go through this peer's HPACK state."""
        match frame:
            case Data():
                flags = END_STREAM * frame.end_stream
                if frame.padding is None:
                    return _frame(0x0, flags, frame.stream_id, frame.data)
                padded = bytes([frame.padding]) + frame.data + bytes(frame.padding)
                return _frame(0x0, flags | PADDED, frame.stream_id, padded)
            case Headers():
                flags = END_HEADERS | END_STREAM * frame.end_stream
                return _frame(0x1, flags, frame.stream_id, self.encoder.encode(frame.fields))
            case HeadersPart():
                flags = END_HEADERS * frame.end_headers | END_STREAM * frame.end_stream
                return _frame(0x1, flags, frame.stream_id, frame.block)
            case RstStream():
                return _frame(0x3, 0, frame.stream_id, struct.pack("!L", frame.code))
            case Settings():
                values = b"".join(struct.pack("!HL", *item) for item in frame.values.items())
                return _frame(0x4, ACK * frame.ack, 0, values)
            case PushPromise():
                block = struct.pack("!L", frame.promised_id) + self.encoder.encode(frame.fields)
                return _frame(0x5, END_HEADERS, frame.stream_id, block)
            case Ping():
                return _frame(0x6, ACK * frame.ack, 0, frame.payload)
            case Goaway():
                codes = struct.pack("!LL", frame.last_stream_id, frame.code)
                return _frame(0x7, 0, 0, codes + frame.debug)
            case WindowUpdate():
                return _frame(0x8, 0, frame.stream_id, struct.pack("!L", frame.increment))
            case Continuation():
                return _frame(0x9, END_HEADERS * frame.end_headers, frame.stream_id, frame.block)
            case Raw():
                return _frame(frame.type, frame.flags, frame.stream_id, frame.payload)

    async def _next(self, what: str) -> Frame:
        frame = await self._read(what)
        assert frame is not None, f"expected {what}, but the connection was {self.wire.ending}"
        return frame

    async def _read(self, what: str) -> Frame | None:
        raw = await self._read_raw(what)
        if raw is None:
            return None
        frame = self._parse(raw)
        while raw.type in {0x1, 0x5} and not raw.flags & END_HEADERS:
            more = await self._read_raw("CONTINUATION")
            assert more is not None, "the connection ended within a field section"
            assert (more.type, more.stream_id) == (0x9, raw.stream_id), f"expected CONTINUATION, got {more}"
            raw = Raw(raw.type, raw.flags | more.flags, raw.stream_id, raw.payload + more.payload)
            frame = self._parse(raw)
        self.seen.append(frame)
        if isinstance(frame, Settings) and not frame.ack:
            self.server_settings |= frame.values
            if self.acknowledges_settings:
                await self.sends(Settings(ack=True))
        return frame

    async def _read_raw(self, what: str) -> Raw | None:
        """Read one frame; None at the end of the connection."""
        while len(self._unread) < 9 or len(self._unread) < 9 + int.from_bytes(self._unread[:3]):
            latest = ", ".join(f"{frame}"[:200] for frame in self.seen[-10:])
            async with within(f"{what}; the latest that came: {latest}"):
                data = await self.wire.read()
                if not data:
                    assert not self._unread, f"the connection ended within a frame: {bytes(self._unread)!r}"
                    return None
                self._unread += data
        size = int.from_bytes(self._unread[:3])
        kind, flags, stream_id = struct.unpack("!BBL", self._unread[3:9])
        payload = bytes(self._unread[9 : 9 + size])
        del self._unread[: 9 + size]
        return Raw(kind, flags, stream_id, payload)

    def _parse(self, raw: Raw) -> Frame:
        payload, stream_id = raw.payload, raw.stream_id
        end_stream = bool(raw.flags & END_STREAM)
        match raw.type:
            case 0x0:
                assert not raw.flags & PADDED, "a server that pads is unknown to these tests"
                return Data(stream_id, payload, end_stream)
            case 0x1 if raw.flags & END_HEADERS:
                assert not raw.flags & (PADDED | PRIORITY), "a server that pads is unknown to these tests"
                return Headers(stream_id, self._decode(payload), end_stream)
            case 0x3:
                return RstStream(stream_id, int.from_bytes(payload))
            case 0x4:
                return Settings(dict(struct.iter_unpack("!HL", payload)), ack=end_stream)
            case 0x5 if raw.flags & END_HEADERS:
                return PushPromise(stream_id, int.from_bytes(payload[:4]), self._decode(payload[4:]))
            case 0x6:
                return Ping(payload, ack=end_stream)
            case 0x7:
                return Goaway(int.from_bytes(payload[:4]), int.from_bytes(payload[4:8]), payload[8:])
            case 0x8:
                return WindowUpdate(stream_id, int.from_bytes(payload))
        return raw

    def _decode(self, block: bytes) -> Fields:
        return [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]


def _frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + struct.pack("!BBL", kind, flags, stream_id) + payload


def _matches(expected: Frame, frame: Frame) -> bool:
    """Compare field by field; of field sections and settings, what is expected must be among them."""
    if type(expected) is not type(frame):
        return False
    for each in fields(expected):
        wanted, got = getattr(expected, each.name), getattr(frame, each.name)
        if isinstance(wanted, list):
            if not all(one in got for one in wanted):
                return False
        elif isinstance(wanted, dict):
            if not wanted.items() <= got.items():
                return False
        elif each.compare and wanted != got:
            return False
    return True
