"""The page about static files, typed in as it stands."""

import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from support.pages import ROOT, Page
from support.process import ServerProcess

PAGE = Page(ROOT / "docs" / "guide" / "static.md")


def test_the_commands_answer_what_the_page_says(tmp_path: Path, needs_tool: Callable[[str], str]) -> None:
    needs_tool("curl")
    blocks = PAGE.blocks("sh", "python", "text")
    preparation, application, serve, *_ = blocks
    _run(preparation.text, tmp_path)
    (tmp_path / "app.py").write_text(application.text)
    name, *options = serve.text.split()[1:]
    tried = 0
    with ServerProcess(name, *options, folder=tmp_path) as server:
        for commands, answers in pairwise(blocks):
            if answers.language == "text":
                text = commands.text.replace("http://localhost:8000", server.url)
                assert _run(text.replace("curl ", "curl --silent "), tmp_path) == answers.text
                tried += 1
    assert tried == 2


def _run(commands: str, folder: Path) -> str:
    done = subprocess.run(["sh", "-c", commands], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.replace("\r\n", "\n")
