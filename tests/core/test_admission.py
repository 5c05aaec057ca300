"""So many requests at once, then a short queue, then a refusal."""

import pytest

from alphorn.core.admission import Admission
from alphorn.core.asgi import Scope
from alphorn.core.config import Config
from alphorn.core.limits import Limits
from alphorn.core.worker import make_limits
from support.clock import ManualClock

CONFIG = Config(max_in_flight=2, max_queued=2, queue_timeout=5.0)


class Request:
    """A request that waits; remembers whether it was refused."""

    def __init__(self, client: str | None = "192.0.2.1") -> None:
        self.scope: Scope = {"type": "http", "client": client and (client, 5)}
        self.gone = False
        self.refused = False

    def refuse(self) -> None:
        self.refused = True


@pytest.fixture
def limits(clock: ManualClock) -> Limits:
    return make_limits(CONFIG, clock)


@pytest.fixture
def admission(clock: ManualClock, limits: Limits) -> Admission[Request]:
    """Full from the start: two requests are under way."""
    admission = Admission[Request](CONFIG, clock, limits)
    admission.in_flight = 2
    return admission


def test_it_is_open_as_long_as_there_is_room(admission: Admission[Request]) -> None:
    assert not admission.admits(Request())
    admission.in_flight = 1
    assert admission.admits(Request())


def test_who_waits_has_a_turn_in_the_order_of_arrival(admission: Admission[Request]) -> None:
    first, second = Request(), Request()
    admission.wait(first)
    admission.wait(second)
    assert admission.next() is None
    admission.in_flight = 1
    assert admission.next() is first
    assert admission.next() is second
    assert admission.next() is None


def test_one_address_has_its_share_of_the_places_and_others_have_the_rest(
    clock: ManualClock, limits: Limits
) -> None:
    config = Config(max_in_flight=8, max_in_flight_share=0.5, max_queued=2)
    admission = Admission[Request](config, clock, limits)

    def begin(request: Request) -> Request:
        assert admission.admits(request)
        admission.in_flight += 1
        admission.enter(request, request.scope["client"])
        return request

    greedy = [begin(Request()) for _ in range(4)]
    waiting = Request()
    assert not admission.admits(waiting)
    admission.wait(waiting)
    assert admission.next() is None
    begin(Request("192.0.2.2"))
    begin(Request(None))  # nobody knows whose it is, as on a unix socket: then all are one
    begin(Request(None))
    greedy[0].scope["client"] = None  # an application may write what it likes there
    admission.leave(greedy[0])
    assert admission.next() is waiting
    begin(waiting)
    assert not admission.admits(Request())
    begin(Request("192.0.2.2"))
    assert admission.in_flight == 8
    assert not admission.admits(Request("192.0.2.3")), "all places are taken"


def test_a_share_is_at_least_one_place(clock: ManualClock, limits: Limits) -> None:
    admission = Admission[Request](Config(max_in_flight=1, max_in_flight_share=0.0), clock, limits)
    assert admission.admits(Request())


def test_beyond_the_queue_requests_are_refused_and_counted(
    admission: Admission[Request], limits: Limits
) -> None:
    requests = [Request() for _ in range(4)]
    for request in requests:
        admission.wait(request)
    assert [request.refused for request in requests] == [False, False, True, True]
    assert limits.hits == {"max_in_flight": 2}


def test_those_who_have_left_take_no_place_in_the_queue(admission: Admission[Request]) -> None:
    gone, patient, new = Request(), Request(), Request()
    admission.wait(gone)
    admission.wait(patient)
    gone.gone = True
    admission.wait(new)
    assert not new.refused
    admission.in_flight = 0
    assert [admission.next(), admission.next(), admission.next()] == [patient, new, None]


def test_a_full_queue_is_not_looked_through_for_each_request_that_it_has_no_room_for(
    clock: ManualClock, limits: Limits
) -> None:
    looks = 0

    class Watched(Request):
        @property
        def gone(self) -> bool:
            nonlocal looks
            looks += 1
            return False

        @gone.setter
        def gone(self, value: bool) -> None:
            """Nobody goes."""

    admission = Admission[Request](Config(max_in_flight=1, max_queued=100), clock, limits)
    admission.in_flight = 1
    for _ in range(100 + 1000):
        admission.wait(Watched())
    assert limits.hits == {"max_in_flight": 1000}
    assert looks < 3000


def test_who_has_waited_too_long_is_refused(admission: Admission[Request], clock: ManualClock) -> None:
    early, left, late = Request(), Request(), Request()
    admission.wait(early)
    admission.wait(left)
    left.gone = True
    clock.advance(3)
    admission.wait(late)
    clock.advance(2)
    assert [early.refused, left.refused, late.refused] == [True, False, False]
    clock.advance(3)
    assert late.refused
    clock.advance(100)


def test_at_the_end_all_who_wait_are_refused(admission: Admission[Request], limits: Limits) -> None:
    waiting, gone = Request(), Request()
    gone.gone = True
    admission.wait(waiting)
    admission.wait(gone)
    admission.close()
    assert [waiting.refused, gone.refused] == [True, False]
    assert not limits.hits, "it was not the client's doing"
