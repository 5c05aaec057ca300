"""What is said to systemd, and which sockets it has passed on."""

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from alphorn.core.errors import ConfigError
from alphorn.core.sockets import open_binds, parse_bind
from alphorn.core.systemd import ServiceManager, passed_descriptors
from support.clock import ManualClock

HERE = str(os.getpid())


# --- Sockets


@pytest.mark.parametrize(
    ("name", "expected"),
    [("", [3, 4, 5]), ("web", [3, 5]), ("admin", [4])],
)
def test_sockets_are_found_by_name(name: str, expected: list[int]) -> None:
    environment = {"LISTEN_PID": HERE, "LISTEN_FDS": "3", "LISTEN_FDNAMES": "web:admin:web"}
    assert passed_descriptors(name, environment) == expected


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({}, "no sockets were passed"),
        ({"LISTEN_PID": "HERE"}, "no sockets were passed"),
        ({"LISTEN_PID": "HERE", "LISTEN_FDS": "many"}, "no sockets were passed"),
        ({"LISTEN_PID": "HERE", "LISTEN_FDS": "-1"}, "no sockets were passed"),
        ({"LISTEN_PID": "1", "LISTEN_FDS": "1"}, "to process 1 .LISTEN_PID., and this is [0-9]"),
        ({"LISTEN_FDS": "1"}, "to process ?"),
        (
            {"LISTEN_PID": "HERE", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b"},
            "but: a, b; see FileDescriptorName=",
        ),
        ({"LISTEN_PID": "HERE", "LISTEN_FDS": "1"}, "but: none; see FileDescriptorName="),
    ],
)
def test_what_was_not_passed_is_refused_with_what_was(environment: dict[str, str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        passed_descriptors("web", {key: value.replace("HERE", HERE) for key, value in environment.items()})


def test_a_bind_says_that_nothing_was_passed_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    with pytest.raises(ConfigError, match="cannot listen on systemd://web: no sockets were passed"):
        open_binds([parse_bind("systemd://web")], 1)


# --- How the service is


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0"))
        self._socket.settimeout(5)

    def heard(self) -> list[str]:
        return self._socket.recv(4096).decode().splitlines()

    @property
    def silent(self) -> bool:
        self._socket.setblocking(False)
        try:
            self._socket.recv(4096)
        except BlockingIOError:
            return True
        finally:
            self._socket.settimeout(5)
        return False

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "abstract":
        if not Path("/proc/net/unix").exists():
            pytest.skip("names without files are Linux's")
        return f"@alphorn-{os.getpid()}-{tmp_path.name}"
    return str(tmp_path / "notify")


@pytest.fixture
def systemd(address: str) -> Iterator[Systemd]:
    other = Systemd(address)
    yield other
    other.close()


def test_it_hears_how_the_service_is(address: str, systemd: Systemd, clock: ManualClock) -> None:
    manager = ServiceManager(clock, {"NOTIFY_SOCKET": address})
    manager.ready()
    assert systemd.heard() == ["READY=1", "STATUS=serving"]
    manager.reloading()
    assert systemd.heard() == ["RELOADING=1", f"MONOTONIC_USEC={int(clock.now() * 1_000_000)}"]
    manager.main_process(17)
    assert systemd.heard() == ["MAINPID=17"]
    manager.stopping()
    assert systemd.heard() == ["STOPPING=1", "STATUS=draining"]
    clock.advance(60)
    assert systemd.silent


def test_it_hears_that_the_service_is_alive_twice_as_often_as_it_wants(
    address: str, systemd: Systemd, clock: ManualClock
) -> None:
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000000", "WATCHDOG_PID": HERE}
    manager = ServiceManager(clock, environment)
    clock.advance(60)
    assert systemd.silent
    manager.ready()
    assert systemd.heard()[0] == "READY=1"
    for _ in range(3):
        assert systemd.heard() == ["WATCHDOG=1"]
        clock.advance(9)
        assert systemd.silent
        clock.advance(1)
    assert systemd.heard() == ["WATCHDOG=1"]
    manager.close()
    clock.advance(60)
    assert systemd.silent


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"},
    ],
)
def test_who_is_not_asked_for_signs_of_life_gives_none(
    address: str, systemd: Systemd, clock: ManualClock, environment: dict[str, str]
) -> None:
    ServiceManager(clock, {"NOTIFY_SOCKET": address} | environment).ready()
    assert systemd.heard()[0] == "READY=1"
    clock.advance(60)
    assert systemd.silent


def test_without_systemd_nothing_is_said(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    manager = ServiceManager(clock, {"WATCHDOG_USEC": "1000000"})
    for say in (manager.ready, manager.reloading, manager.stopping, manager.close):
        say()
    clock.advance(60)
    assert caplog.records == []


@pytest.mark.parametrize("address", ["/nowhere/notify", "@alphorn-nobody", "vsock:2:1234"])
def test_a_socket_that_nobody_has_is_complained_of_once(
    clock: ManualClock, caplog: pytest.LogCaptureFixture, address: str
) -> None:
    with caplog.at_level(logging.WARNING):
        manager = ServiceManager(clock, {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"})
        manager.ready()
        clock.advance(60)
        manager.stopping()
    assert len(caplog.records) == 1
    assert "NOTIFY_SOCKET" in caplog.records[0].getMessage()
