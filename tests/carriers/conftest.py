"""Fixtures of the carriers suite."""

import pytest

from support.conversation import Begin
from support.serving import Connect, Serve
from support.steered_app import SteeredApp


@pytest.fixture
def begin(serve: Serve, connect: Connect, app: SteeredApp) -> Begin:
    """Begin conversations with the steered application: `client, exchange, call = await begin()`."""
    return Begin(serve, connect, app)
