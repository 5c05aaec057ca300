"""The tour of the README, and the start of the guide, typed in as they stand."""

import re
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.pages import ROOT, Page
from support.process import ServerProcess

README = Page(ROOT / "README.md")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader would be, after the first steps."""
    folder = tmp_path_factory.mktemp("tour")
    (application,) = README.blocks("python")
    assert application.text.startswith("# app.py\n")
    (folder / "app.py").write_text(application.text)
    (folder / "certs").mkdir()
    return folder


@pytest.fixture
def server(folder: Path) -> ServerProcess:
    return ServerProcess("app:app", "--dev-tls", folder=folder)


def test_the_commands_answer_what_the_page_says(
    folder: Path, server: ServerProcess, needs_tool: Callable[[str], str]
) -> None:
    needs_tool("curl")
    shell, texts = README.blocks("sh"), README.blocks("text")
    (commands,) = (block.text for block in shell if block.text.startswith("curl "))
    (answers,) = (block.text for block in texts)
    with server:
        commands = commands.replace("localhost:8000", f"localhost:{server.port}").replace(
            "curl ", "curl --silent "
        )
        done = subprocess.run(["sh", "-c", commands], cwd=folder, capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr) == (answers, "")


async def test_the_websocket_echoes(folder: Path, server: ServerProcess) -> None:
    client = pytest.importorskip("websockets.asyncio.client")
    with server:
        tls = ssl.create_default_context(cafile=folder / "certs" / "alphorn-ca.pem")
        async with client.connect(f"wss://localhost:{server.port}/", ssl=tls) as websocket:
            await websocket.send("hoi")
            assert await websocket.recv() == "hoi"


def test_the_log_says_what_the_page_says(tmp_path: Path) -> None:
    page = Page(ROOT / "docs" / "getting-started.md")
    application = page.blocks("python")[0].text
    assert application.startswith("# app.py\n")
    (tmp_path / "app.py").write_text(application)
    (shown,) = (block.text for block in page.blocks("text"))
    with ServerProcess("app:app", folder=tmp_path) as server:
        said = server.log.splitlines()
    without_lifespan, listening, _ = shown.splitlines()  # the third goes to standard output
    assert [_timeless(line) for line in said] == [
        _timeless(without_lifespan),
        _timeless(listening.replace(":8000", f":{server.port}")),
    ]


def _timeless(line: str) -> str:
    return re.sub(r"^\S+ \S+ ", "", line)
