"""Who sends next: RFC 9218 urgency, then turns. Pure; the wire has its say in test_http2_priorities."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphorn.protocols.http2_schedule import DEFAULT, EarlyPriorities, Priority, Schedule, parse_priority


class Sender:
    """Something that waits for its turn."""

    def __init__(self, stream_id: int, priority: Priority = DEFAULT) -> None:
        self.id = stream_id
        self.priority = priority


def line(urgency: int = 3) -> Priority:
    """The priority of a response that its client wants whole before the next."""
    return Priority(urgency, incremental=False)


def turns(senders: list[Sender], count: int) -> list[int]:
    """The numbers of those who send, frame by frame."""
    schedule: Schedule[Sender] = Schedule()
    for sender in senders:
        schedule.add(sender)
    return [schedule.next().id for _ in range(count)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", Priority(3, incremental=False)),
        (b"u=0", Priority(0, incremental=False)),
        (b"u=7, i", Priority(7, incremental=True)),
        (b"i,u=1", Priority(1, incremental=True)),
        (b"u=5,i=?0", Priority(5, incremental=False)),
        (b"u=5,i=?1", Priority(5, incremental=True)),
        (b"u=2;x=1, i;y", Priority(2, incremental=True)),
        (b"\tu=4 ,\ti ", Priority(4, incremental=True)),
        (b"u=1, u=6", Priority(6, incremental=False)),
        (b"u=8", Priority(3, incremental=False)),
        (b"u=-1", Priority(3, incremental=False)),
        (b"u=12", Priority(3, incremental=False)),
        (b"u=", Priority(3, incremental=False)),
        (b"u", Priority(3, incremental=False)),
        (b"i=1", Priority(3, incremental=False)),
        (b"urgency=1, incremental", Priority(3, incremental=False)),
    ],
    ids=repr,
)
def test_a_priority_field_is_read_as_rfc_9218_has_it(value: bytes, expected: Priority) -> None:
    assert parse_priority(value) == expected


@given(st.binary(max_size=64))
def test_any_bytes_are_a_priority(value: bytes) -> None:
    urgency, incremental = parse_priority(value)
    assert 0 <= urgency <= 7
    assert isinstance(incremental, bool)


def test_clients_that_say_nothing_get_turns() -> None:
    assert turns([Sender(1), Sender(3), Sender(5)], 7) == [1, 3, 5, 1, 3, 5, 1]


def test_the_more_urgent_go_first_whenever_they_came() -> None:
    assert turns([Sender(1), Sender(3, line(1)), Sender(5, Priority(2))], 4) == [3, 3, 3, 3]


def test_those_that_are_wanted_whole_go_in_the_order_of_the_requests() -> None:
    assert turns([Sender(5, line()), Sender(1, line()), Sender(3, line())], 3) == [1, 1, 1]


def test_the_line_takes_turns_with_the_others_as_one() -> None:
    assert turns([Sender(1, line()), Sender(3), Sender(5, line()), Sender(7)], 6) == [1, 3, 7, 1, 3, 7]


def test_the_next_in_line_follows_when_the_first_is_done() -> None:
    schedule: Schedule[Sender] = Schedule()
    first, second = Sender(1, line()), Sender(3, line())
    schedule.add(second)
    schedule.add(first)
    assert schedule.next() is first
    schedule.discard(first)
    assert schedule.next() is second
    schedule.discard(second)
    assert not schedule.members
    with pytest.raises(LookupError, match="no stream"):
        schedule.next()


def test_a_stream_is_there_once_however_often_it_is_added() -> None:
    schedule: Schedule[Sender] = Schedule()
    sender = Sender(1)
    schedule.add(sender)
    schedule.add(sender)
    schedule.discard(sender)
    schedule.discard(sender)
    assert not schedule.members


def test_a_stream_leaves_from_where_it_entered_though_its_priority_has_changed() -> None:
    schedule: Schedule[Sender] = Schedule()
    sender, other = Sender(1, line(2)), Sender(3)
    schedule.add(sender)
    schedule.add(other)
    sender.priority = Priority(6)
    schedule.discard(sender)
    schedule.add(sender)
    assert [schedule.next().id for _ in range(3)] == [3, 3, 3]


priorities = st.builds(Priority, st.integers(0, 7), st.booleans())


@given(st.lists(priorities, min_size=1, max_size=12), st.integers(1, 60))
def test_nobody_waits_longer_than_a_round_of_the_most_urgent(wanted: list[Priority], count: int) -> None:
    senders = [Sender(2 * number + 1, priority) for number, priority in enumerate(wanted)]
    served = Counter(turns(senders, count))
    urgent = [sender for sender in senders if sender.priority.urgency == min(p.urgency for p in wanted)]
    waiting_in_line = [sender for sender in urgent if not sender.priority.incremental][1:]
    taking_turns = [sender.id for sender in urgent if sender not in waiting_in_line]
    assert set(served) <= set(taking_turns)
    shares = [served[number] for number in taking_turns]
    assert max(shares) - min(shares) <= 1


@given(st.data())
def test_whatever_comes_and_goes_the_schedule_knows_who_is_there(data: st.DataObject) -> None:
    schedule: Schedule[Sender] = Schedule()
    senders = [Sender(number) for number in range(1, 12, 2)]
    present: set[Sender] = set()
    for _ in range(data.draw(st.integers(0, 40))):
        sender = data.draw(st.sampled_from(senders))
        match data.draw(st.sampled_from(["add", "discard", "change", "next"])):
            case "add":
                schedule.add(sender)
                present.add(sender)
            case "discard":
                schedule.discard(sender)
                present.discard(sender)
            case "change":
                sender.priority = data.draw(priorities)
            case _:
                if present:
                    assert schedule.next() in present
        assert bool(schedule.members) == bool(present)
    for sender in senders:
        schedule.discard(sender)
    assert not schedule.members
    assert all(not level.ring and not level.line for level in schedule._levels)


def test_what_was_said_early_is_given_once_and_streams_that_are_skipped_are_forgotten() -> None:
    early = EarlyPriorities()
    for stream_id in (1, 3, 5, 7):
        early.keep(stream_id, Priority(stream_id))
    early.keep(5, Priority(0))
    assert early.take(5) == Priority(0)
    assert len(early.kept) == 1
    assert early.take(5) is None
    assert early.take(7) == Priority(7)
    assert early.take(9) is None
    assert len(early.kept) == 0
