"""A browser at the demonstration: what carries the page, its events, its chat and its transfers."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.browser import run_browser
from support.certificates import Pair
from support.process import ServerProcess

CHAT_CARRIER = '/^WebSocket/.test(byId("chat-carrier").textContent) && byId("chat-carrier").textContent'
CARRIERS = """[...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
    .map((entry) => entry.nextHopProtocol)"""


@pytest.fixture
def demo(request: pytest.FixtureRequest, certificate: Pair) -> Iterator[ServerProcess]:
    """The demonstration, over TLS unless the test's parameter says otherwise."""
    pair = certificate if getattr(request, "param", "tls") == "tls" else None
    with ServerProcess("alphorn.demo:app", folder=Path(__file__).parent, certificate=pair) as server:
        yield server


async def test_everything_on_the_page_shares_http2(
    needs_tool: Callable[[str], str], tmp_path: Path, demo: ServerProcess, certificate: Pair
) -> None:
    async with run_browser(needs_tool("chromium"), tmp_path, Path(certificate.certfile)) as browser:
        first = await browser.open(demo.url)
        assert await first.wait_until(CHAT_CARRIER) == "WebSocket over HTTP/2"
        await first.wait_until('byId("events-carrier").textContent === "HTTP/2"')
        verdict = await first.evaluate('document.querySelector(".verdict").textContent')
        assert " ".join(verdict.split()) == "This page came over HTTP/2 with TLS 1.3"
        carriers = await first.evaluate(CARRIERS)
        assert set(carriers) == {"h2"}
        assert len(carriers) >= 3  # the page, its style, its script

        second = await browser.open(demo.url)
        await second.wait_until(CHAT_CARRIER)
        await first.evaluate('byId("line").value = "Grüezi"; byId("say").requestSubmit()')
        await second.wait_until('byId("log").textContent.includes("Grüezi")')

        await second.evaluate('byId("upload").requestSubmit()')
        result = await second.wait_until(
            '/SHA/.test(byId("upload-result").textContent) && byId("upload-result").textContent'
        )
        assert result.startswith("32.0 MiB in ")
        assert " over HTTP/2. " in result
        assert result.endswith("The browser's own digest is the same.")
        await second.evaluate('byId("download").requestSubmit()')
        await second.wait_until('byId("download-result").textContent.startsWith("64.0 MiB in ")')
        assert (first.problems, second.problems) == ([], [])


@pytest.mark.parametrize("demo", ["clear"], indirect=True)
async def test_in_the_clear_a_browser_speaks_http1(
    needs_tool: Callable[[str], str], tmp_path: Path, demo: ServerProcess
) -> None:
    async with run_browser(needs_tool("chromium"), tmp_path) as browser:
        page = await browser.open(demo.url)
        assert await page.wait_until(CHAT_CARRIER) == "WebSocket over HTTP/1.1"
        assert set(await page.evaluate(CARRIERS)) == {"http/1.1"}
        assert page.problems == []
