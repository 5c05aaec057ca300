"""What the two machines of HTTP/2 make of the same bytes, as far as it has to be the same."""

from collections.abc import Sequence

from alphorn.protocols.http2_events import DataReceived, Event


def merged(heard: Sequence[Event]) -> list[Event]:
    """Put content together that comes on one stream with nothing between: a machine may have done so, or not."""
    together: list[Event] = []
    for event in heard:
        before = together[-1] if together else None
        if (
            isinstance(event, DataReceived)
            and isinstance(before, DataReceived)
            and before.stream_id == event.stream_id
            and not before.ended
        ):
            data, size = before.data + event.data, before.size + event.size
            together[-1] = DataReceived(event.stream_id, data, size, event.ended)
        else:
            together.append(event)
    return together
