"""The engine that the servers of the tests run on: every test has to hold on both."""

import os
from typing import Final, Literal, TypeAlias, cast

Engine: TypeAlias = Literal["fast", "reference"]

ENGINES: Final[tuple[Engine, ...]] = ("fast", "reference")

ENGINE: Final = cast(Engine, os.environ.get("ALPHORN_TEST_ENGINE", "fast"))
"""`ALPHORN_TEST_ENGINE=reference` runs the suite on h11, h2 and wsproto alone."""
