"""Chromium without a window, driven over the DevTools protocol; no more of it than tests here need."""

import asyncio
import base64
import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.asyncio.client import ClientConnection, connect

from .waiting import within

PATIENCE_SECONDS = 30.0
"""How long the browser may take to start, or a page to become as a test wants it."""

WAIT_UNTIL = """
new Promise((resolve) => {
  const look = () => { const value = (%s); value ? resolve(value) : setTimeout(look, 20); };
  look();
})
"""


class Page:
    """One tab.

    Attributes:
        problems: What the page has complained about so far: exceptions, failed requests, console errors.
    """

    def __init__(self, browser: "Browser", session: str) -> None:
        self.problems: list[str] = []
        self._browser = browser
        self._session = session

    async def evaluate(self, expression: str) -> Any:
        """Evaluate JavaScript in the page, await it if it is a promise, and return its value."""
        answer = await self._browser.command(
            "Runtime.evaluate",
            self._session,
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def wait_until(self, expression: str) -> Any:
        """Wait until a JavaScript expression is truthy and return its value."""
        async with within(f"the page to say {expression}", PATIENCE_SECONDS):
            return await self.evaluate(WAIT_UNTIL % expression)

    def note(self, method: str, event: dict[str, Any]) -> None:
        """Take an event of this tab."""
        if method == "Runtime.exceptionThrown":
            self.problems.append(event["exceptionDetails"]["text"])
        elif method == "Log.entryAdded" and event["entry"]["level"] == "error":
            self.problems.append(event["entry"]["text"])


class Browser:
    """A running browser."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self._pages: dict[str, Page] = {}

    async def open(self, url: str) -> Page:
        """Open a tab, load `url` in it and wait until that is done."""
        target = await self.command("Target.createTarget", url="about:blank")
        attached = await self.command("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        session = attached["sessionId"]
        page = self._pages[session] = Page(self, session)
        for domain in ("Runtime", "Log", "Page"):
            await self.command(f"{domain}.enable", session)
        answer = await self.command("Page.navigate", session, url=url)
        assert "errorText" not in answer, answer["errorText"]
        await page.wait_until('document.readyState === "complete"')
        return page

    async def command(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Give a command and return its result; events that come before it go to their pages."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        await self._connection.send(json.dumps(message))
        while True:
            answer = json.loads(await self._connection.recv())
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            page = self._pages.get(answer.get("sessionId", ""))
            if page is not None:
                page.note(answer["method"], answer["params"])


@contextlib.asynccontextmanager
async def run_browser(program: str, profile: Path, certificate: Path | None = None) -> AsyncIterator[Browser]:
    """Start a browser for the time of the block.

    Args:
        program: Chromium.
        profile: An empty folder.
        certificate: The one it shall trust besides those it knows, a PEM file.
    """
    arguments = [
        "--headless=new",
        "--disable-gpu",
        "--no-first-run",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
    ]
    if certificate is not None:
        arguments.append(f"--ignore-certificate-errors-spki-list={_key_digest(certificate)}")
    if os.geteuid() == 0:  # its sandbox refuses to work for root, as in many containers
        arguments.append("--no-sandbox")
    process = await asyncio.create_subprocess_exec(
        program, *arguments, "about:blank", stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    told = ""
    try:
        async with within("the browser to start", PATIENCE_SECONDS):
            async for line in process.stderr:
                told += line.decode()
                if line.startswith(b"DevTools listening on "):
                    break
            else:
                raise AssertionError(f"the browser did not start:\n{told}")
        drain = asyncio.ensure_future(process.stderr.read())
        url = line.decode().rpartition(" ")[2].strip()
        async with connect(url, proxy=None, max_size=None, ping_interval=None) as connection:
            browser = Browser(connection)
            yield browser
            await browser.command("Browser.close")
        await drain
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _key_digest(certificate: Path) -> str:
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(encoded).digest()).decode()
