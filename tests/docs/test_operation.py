"""The example of docs/guide/operation.md."""

import http.client
import signal
from pathlib import Path

from support.pages import ROOT, Page
from support.process import ServerProcess

PAGE = Page(ROOT / "docs" / "guide" / "operation.md")


def test_the_application_that_is_told_of_the_end_ends_its_answer_well(tmp_path: Path) -> None:
    (application,) = PAGE.blocks("python")
    (tmp_path / "app.py").write_text(application.text)
    with ServerProcess("app:app", "--shutdown-event", folder=tmp_path) as server:
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        client.request("GET", "/")
        with client.getresponse() as answer:
            assert answer.readline() == b"still here\n"
            server.send_signal(signal.SIGTERM)
            assert answer.read().splitlines()[-1] == b"come again"
        client.close()
        assert server.wait() == 0
