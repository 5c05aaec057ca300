"""The pytest fixture `alphorn_serve`, for who says `pytest_plugins = ["alphorn.pytest_plugin"]`.

Deliberately no `pytest11` entry point: pytest would import it in every run, of everybody who has Alphorn
installed, and rewrite the assertions of all our modules, so that what is tested is not what is shipped. There is no assertion here to be rewritten either, and saying so
(PYTEST_DONT_REWRITE) spares a warning to who has imported this before.
"""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from .testing import LiveServer, serve


@pytest.fixture
def alphorn_serve() -> Iterator[Callable[..., LiveServer]]:
    """Return a function like `alphorn.testing.serve` whose servers run until the end of the test.

    It returns what that gives to a `with` block: `server = alphorn_serve(app, tls=True)`.
    """
    with contextlib.ExitStack() as stack:
        yield lambda *args, **settings: stack.enter_context(serve(*args, **settings))
