"""Budgets that refill, connections that are counted, and a log that an attacker cannot fill."""

import logging

import pytest

from alphorn.core.limits import BUDGET_SECONDS, Budget, Limits, Occupancy, Pace
from support.clock import ManualClock

CLIENT = ("192.0.2.1", 4711)


def test_a_budget_allows_a_burst_and_no_more(clock: ManualClock) -> None:
    budget = Budget(clock, 3)
    assert [budget.spend() for _ in range(4)] == [True, True, True, False]


def test_a_budget_refills_evenly_and_up_to_its_size(clock: ManualClock) -> None:
    budget = Budget(clock, 10)
    assert budget.spend(10)
    clock.advance(BUDGET_SECONDS / 2)
    assert [budget.spend(), budget.spend(4), budget.spend()] == [True, True, False]
    clock.advance(100 * BUDGET_SECONDS)
    assert budget.spend(10)
    assert not budget.spend()


def test_what_was_refused_is_not_used_up(clock: ManualClock) -> None:
    budget = Budget(clock, 2)
    assert not budget.spend(3)
    assert budget.spend(2)


def test_something_useful_earns_a_part_of_the_budget_back(clock: ManualClock) -> None:
    budget = Budget(clock, 2)
    assert budget.spend(2)
    budget.earn()
    assert [budget.spend(), budget.spend()] == [True, False]
    budget.earn(50)
    assert not budget.spend(3)


def test_connections_are_counted_in_all() -> None:
    occupancy = Occupancy(2, 0)
    occupancy.enter(CLIENT)
    assert not occupancy.full
    occupancy.enter(None)
    assert occupancy.full
    occupancy.leave(None)
    assert not occupancy.full
    assert not occupancy.crowded(CLIENT)


def test_whoever_waits_for_a_place_hears_once_of_the_next_that_leaves() -> None:
    occupancy, heard = Occupancy(1, 0), list[str]()
    occupancy.enter(CLIENT)
    occupancy.when_left(lambda: heard.append("first"))
    occupancy.leave(CLIENT)
    occupancy.enter(CLIENT)
    occupancy.leave(CLIENT)
    assert heard == ["first"]


@pytest.mark.parametrize(
    ("there", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_a_client_is_an_ipv4_address_or_an_ipv6_network(there: str, other: str, same: bool) -> None:
    occupancy = Occupancy(100, 1)
    occupancy.enter((there, 1))
    assert occupancy.crowded((other, 2)) is same
    occupancy.leave((there, 1))
    assert not occupancy.crowded((other, 2))


def test_a_connection_without_an_address_is_nobodys() -> None:
    occupancy = Occupancy(100, 1)
    occupancy.enter(None)
    occupancy.enter(None)
    assert not occupancy.crowded(None)
    occupancy.leave(None)
    assert occupancy.total == 1


def test_a_hit_is_counted_and_names_the_client_and_the_setting(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    limits = Limits(clock, Occupancy(1, 0))
    limits.hit("max_resets", CLIENT, "too many resets")
    assert limits.hits == {"max_resets": 1}
    assert caplog.messages == ["192.0.2.1:4711: too many resets (--max-resets)"]
    assert caplog.records[0].levelno == logging.WARNING


def test_a_connection_is_named_once_and_another_of_the_same_client_again(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    limits = Limits(clock, Occupancy(1, 0))
    for client in (CLIENT, CLIENT, (CLIENT[0], 4712), CLIENT, None, None):
        limits.hit("max_resets", client, "too many resets")
    assert limits.hits["max_resets"] == 6
    named = [line.partition(": ")[0] for line in caplog.messages]
    assert named == ["192.0.2.1:4711", "192.0.2.1:4712", "-", "-"]


def test_only_so_many_connections_are_remembered(clock: ManualClock) -> None:
    limits = Limits(clock, Occupancy(1, 0))
    for port in range(3000):
        clock.advance(1)
        limits.hit("max_resets", ("192.0.2.1", port), "too many resets")
    assert len(limits._named) == 1024
    assert list(limits._named)[-1] == ("192.0.2.1", 2999)


def test_who_attacks_a_thousand_times_fills_no_log(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    limits = Limits(clock, Occupancy(1, 0))
    for port in range(1000):
        limits.hit("max_resets", ("192.0.2.1", port), "too many resets")
    said = len(caplog.messages)
    assert limits.hits["max_resets"] == 1000
    assert said < 100
    clock.advance(BUDGET_SECONDS)
    limits.hit("max_resets", CLIENT, "too many resets")
    assert f"{1000 - said} such lines were left out" in caplog.messages[-1]


def test_a_pace_is_asked_for_period_by_period() -> None:
    pace = Pace(10.0, 5)
    assert pace.start(100.0) == 110.0
    pace.stop(104.0, 49)
    assert pace.start(200.0) == 206.0, "only the time of waiting counts"
    assert not pace.renew()
    assert pace.start(206.0) == 216.0
    pace.stop(216.5, 50)
    assert pace.start(300.0) == 300.0, "a client that comes late has used its time up"
    assert pace.renew()
    assert pace.start(300.0) == 310.0
    assert not pace.renew(), "what came before does not count"


def test_what_comes_while_nobody_waits_counts_for_the_client() -> None:
    pace = Pace(10.0, 5)
    pace.start(0.0)
    pace.stop(1.0, 10)
    pace.stop(500.0, 40)
    assert pace.start(1000.0) == 1009.0
    assert pace.renew()
