"""Applications of every framework start, serve and stop: with status 0, and their own end done."""

from pathlib import Path

import httpx
import pytest

from support.process import ServerProcess

APPS = Path(__file__).parent / "apps"
WITH_LIFESPAN = ["on_connectrpc", "on_fastapi", "on_quart", "on_socketio", "on_starlette"]
WITHOUT_HOME = ["on_connectrpc", "on_socketio"]
WITHOUT_LIFESPAN = ["on_channels", "on_flask"]


@pytest.mark.parametrize("app", WITH_LIFESPAN + WITHOUT_LIFESPAN)
def test_it_starts_serves_and_stops(app: str) -> None:
    server = ServerProcess(f"{app}:app", folder=APPS)
    with httpx.Client(base_url=server.url, trust_env=False, timeout=20) as client:
        status = client.get("/").status_code
        assert status == (404 if app in WITHOUT_HOME else 200)
        assert server.stop() == 0, server.log  # with a client that keeps its connection
    assert ("the application has ended" in server.log) == (app in WITH_LIFESPAN)
    assert "Traceback" not in server.log
    assert " error " not in server.log
