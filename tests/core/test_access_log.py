"""When lines of the access log are written, and that none is forgotten."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from alphorn.core.access_log import AccessLog
from alphorn.core.config import Config
from alphorn.core.log import flush_logs
from alphorn.core.outcome import Outcome
from support.clock import ManualClock
from support.waiting import until


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


@contextlib.contextmanager
def logging_to(file: Path) -> Iterator[AccessLog]:
    log = AccessLog(Config(access_log_file=str(file), access_log_format="%(time)s %(s)s"), ManualClock())
    try:
        yield log
    finally:
        log.close()


def outcome(status: int) -> Outcome:
    return {}, status, [], 0, 0.0, 0.0, 0


def statuses(file: Path) -> list[int]:
    return [int(line.rpartition(" ")[2]) for line in file.read_text().splitlines()]


async def test_many_lines_are_written_together(file: Path) -> None:
    with logging_to(file) as log:
        for status in range(200, 231):
            log.observe(outcome(status))
        assert statuses(file) == []
        log.observe(outcome(231))
        assert statuses(file) == list(range(200, 232))


async def test_few_lines_are_written_soon(file: Path) -> None:
    with logging_to(file) as log:
        for status in (200, 404):
            log.observe(outcome(status))
            await until(lambda: statuses(file)[-1:] == [status], "the line")  # noqa: B023 - it is awaited here
        assert statuses(file) == [200, 404]


async def test_whoever_ends_the_process_has_them_written_first(file: Path) -> None:
    with logging_to(file) as log:
        log.observe(outcome(200))
        flush_logs()
        assert statuses(file) == [200]


async def test_whoever_closes_the_log_has_them_written_first(file: Path) -> None:
    with logging_to(file) as log:
        log.observe(outcome(200))
    assert statuses(file) == [200]


async def test_a_handler_of_somebody_else_gets_the_lines_at_once_as_the_level_says(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "alphorn.access")
    log = AccessLog(Config(access_log_format="%(s)s"), ManualClock())
    log.observe(outcome(200))
    assert caplog.messages == ["200"]
    caplog.set_level(logging.WARNING, "alphorn.access")
    log.observe(outcome(201))
    caplog.set_level(logging.INFO, "alphorn.access")
    log.observe(outcome(202))
    assert caplog.messages == ["200", "202"]
    log.close()
