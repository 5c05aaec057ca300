"""httpx: HTTP/1.1 and HTTP/2, clear and TLS, one request after the other and many at once."""

import asyncio
import hashlib
import ssl

import httpx
import pytest

from support.certificates import authority
from support.process import ServerProcess


def client(server: ServerProcess, http_version: str) -> httpx.AsyncClient:
    """Make a client that speaks one version only."""
    tls: ssl.SSLContext | bool = authority().client_context() if server.cafile else False
    return httpx.AsyncClient(
        base_url=server.url,
        http1=http_version == "HTTP/1.1",
        http2=http_version == "HTTP/2",
        verify=tls,
        trust_env=False,
        timeout=20,
    )


@pytest.fixture(params=["clear", "secure"])
def server(request: pytest.FixtureRequest) -> ServerProcess:
    chosen: ServerProcess = request.getfixturevalue(request.param)
    return chosen


@pytest.mark.parametrize("http_version", ["HTTP/1.1", "HTTP/2"])
async def test_requests_one_after_the_other_and_many_at_once(
    server: ServerProcess, http_version: str
) -> None:
    # Much waits for windows, and is sent alone. Of several that wait, one reads the updates of all; httpcore lets
    # each of the others read once more before it looks at its window. Seen in a trace: 19 streams answered, on
    # the last one the client reads, though its window is open again, while the server waits for its content.
    much, little = b"alphorn" * 100_000, b"alphorn" * 4_000
    expected = [f"{len(content)} {hashlib.sha256(content).hexdigest()}\n" for content in (much, little)]
    async with client(server, http_version) as visitor:
        for _ in range(3):
            response = await visitor.get("/")
            assert (response.status_code, response.http_version) == (200, http_version)
            assert response.text.endswith(f"with {http_version}\n")
        assert (await visitor.post("/digest", content=much)).text == expected[0]
        uploads = await asyncio.gather(*(visitor.post("/digest", content=little) for _ in range(20)))
        assert [upload.text for upload in uploads] == [expected[1]] * 20
        assert (await visitor.get("/nowhere")).status_code == 404


@pytest.mark.parametrize("http_version", ["HTTP/1.1", "HTTP/2"])
async def test_a_stream_that_is_left_early_spoils_nothing(server: ServerProcess, http_version: str) -> None:
    async with client(server, http_version) as visitor:
        async with visitor.stream("GET", "/download?bytes=1000000000") as response:
            async for _ in response.aiter_raw():
                break
        assert (await visitor.get("/")).status_code == 200


async def test_an_answer_that_comes_before_the_upload_has_ended_is_seen(server: ServerProcess) -> None:
    async with client(server, "HTTP/2") as visitor:
        for _ in range(3):
            # As much as is drained; a client that sends on after that, as httpx does, loses the answer.
            assert (await visitor.post("/nowhere", content=bytes(250_000))).status_code == 404
