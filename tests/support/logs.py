"""Logging as in a process of its own: pytest configures it, and so may the code under test."""

import contextlib
import logging
from collections.abc import Iterator

from alphorn.core.log import access_log, error_log


@contextlib.contextmanager
def unconfigured() -> Iterator[None]:
    """Run a block, or as a decorator a test, as if nobody had configured logging; then as before.

    A fixture could not do it: pytest gives the root logger its handlers for the test itself.
    """
    kept = [(logger, logger.handlers, logger.level) for logger in (logging.root, error_log, access_log)]
    for logger, _, _ in kept:
        logger.handlers = []
    for logger in (error_log, access_log):
        logger.setLevel(logging.NOTSET)
    try:
        yield
    finally:
        for logger, handlers, level in kept:
            logger.handlers = handlers
            logger.setLevel(level)
