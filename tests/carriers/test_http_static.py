"""`--static`: files of folders, on every carrier."""

import asyncio
import logging
import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alphorn.core.asgi import Message, Receive, Scope, Send
from alphorn.core.errors import ConfigError
from alphorn.core.static import SMALL_BYTES, StaticFiles, parse_mounts
from support.exchange import Client, Response
from support.serving import Connect, Serve
from support.steered_app import SteeredApp

SMALL = b"body { color: teal }\n"
LARGE = b"".join(number.to_bytes(4, "big") for number in range(50_000))
assert len(SMALL) < SMALL_BYTES < len(LARGE)

LONG_AGO = 784887151
LONG_AGO_DATE = b"Tue, 15 Nov 1994 08:12:31 GMT"


async def application(scope: Scope, _receive: Receive, send: Send) -> None:
    """Say that it was asked, and for what."""
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"application " + scope["raw_path"]})


def write(file: Path, content: bytes, seconds: float = LONG_AGO) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    os.utime(file, (seconds, seconds))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files, and a secret beside their folder."""
    public = tmp_path / "public"
    write(public / "small.css", SMALL)
    write(public / "large.bin", LARGE)
    write(public / "docs" / "index.html", b"<h1>docs</h1>")
    (public / "bare").mkdir()
    write(public / ".env", b"secret")
    write(public / ".git" / "config", b"secret")
    write(tmp_path / "secret", b"secret")
    (public / "leak").symlink_to(tmp_path / "secret")
    os.mkfifo(public / "fifo")
    return public


class Visitor:
    """Asks for files, one request after the other on one connection."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def __call__(self, target: str, method: str = "GET", **fields: bytes) -> Response:
        named = [(name.replace("_", "-").encode(), value) for name, value in fields.items()]
        exchange = await self._client.request(method, target, named)
        return await exchange.response()


@pytest.fixture
async def visit(serve: Serve, connect: Connect, folder: Path) -> Visitor:
    return Visitor(await connect(await serve(application, static=f"/assets={folder}")))


# --- Content


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("small.css", SMALL, b"text/css; charset=utf-8"),
        ("large.bin", LARGE, b"application/octet-stream"),
        ("docs/", b"<h1>docs</h1>", b"text/html; charset=utf-8"),
        ("docs/index.html", b"<h1>docs</h1>", b"text/html; charset=utf-8"),
        ("sm%61ll.css?version=1", SMALL, b"text/css; charset=utf-8"),
    ],
)
async def test_a_file_is_the_whole_answer(visit: Visitor, name: str, content: bytes, kind: bytes) -> None:
    response = await visit(f"/assets/{name}")
    assert (response.status, response.body, response.complete) == (200, content, True)
    assert response.field("content-length") == b"%d" % len(content)
    assert response.field("content-type") == kind
    assert response.field("x-content-type-options") == b"nosniff"
    assert response.field("accept-ranges") == b"bytes"
    assert response.field("last-modified") == LONG_AGO_DATE
    assert re.fullmatch(rb'"[0-9a-f]{24}"', response.field("etag") or b"")
    assert response.field("vary") is None


async def test_head_says_the_same_without_content(visit: Visitor) -> None:
    got = await visit("/assets/large.bin")
    head = await visit("/assets/large.bin", "HEAD", range=b"bytes=0-9")
    assert (head.status, head.body) == (200, b"")
    apart = [{name: value for name, value in each.fields if name != b"date"} for each in (got, head)]
    assert apart[0] == apart[1]


async def test_an_empty_file_is_an_empty_body(visit: Visitor, folder: Path) -> None:
    write(folder / "empty.txt", b"")
    response = await visit("/assets/empty.txt", range=b"bytes=0-")
    assert (response.status, response.body, response.field("content-length")) == (200, b"", b"0")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods_are_refused(visit: Visitor, method: str) -> None:
    response = await visit("/assets/small.css", method)
    assert (response.status, response.field("allow")) == (405, b"GET, HEAD")


# --- Which paths


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/asset",
        "/assetsx",
        "/assetsx/small.css",
        "/x/assets/small.css",
        "/Assets/small.css",
        "/x/../assets/",
    ],
)
async def test_what_is_not_below_a_prefix_is_the_applications(visit: Visitor, path: str) -> None:
    response = await visit(path)
    assert (response.status, response.body) == (200, b"application " + path.encode())


async def test_the_longest_prefix_counts(
    serve: Serve, connect: Connect, folder: Path, tmp_path: Path
) -> None:
    write(tmp_path / "other" / "file", b"other")
    write(folder / "file", b"first")
    mounts = (f"/a={folder}", f"/a/b={tmp_path / 'other'}", f"/a/bc={folder}")
    visit = Visitor(await connect(await serve(application, static=mounts)))
    assert (await visit("/a/file")).body == b"first"
    assert (await visit("/a/b/file")).body == b"other"
    assert (await visit("/a/bc/file")).body == b"first"
    assert (await visit("/a/b/docs/")).status == 404
    assert (await visit("/c/file")).body == b"application /c/file"


async def test_everything_may_be_files(serve: Serve, connect: Connect, folder: Path) -> None:
    write(folder / "index.html", b"home")
    visit = Visitor(await connect(await serve(application, static=f"/={folder}")))
    assert (await visit("/")).body == b"home"
    assert (await visit("/small.css")).body == SMALL
    assert (await visit("//small.css")).status == 404


async def test_websockets_are_the_applications(
    serve: Serve, connect: Connect, folder: Path, app: SteeredApp
) -> None:
    opening = asyncio.ensure_future(connect.websocket(await serve(app, static=f"/={folder}"), "/small.css"))
    call = await app.next_call()
    await call.accept()
    websocket = await opening
    assert call.scope["path"] == "/small.css"
    call.finish()
    await websocket.abandon()


async def test_a_prefix_that_the_proxy_took_away_is_none_of_the_files(
    serve: Serve, connect: Connect, folder: Path
) -> None:
    url = await serve(application, static=f"/assets={folder}", root_path="/shop")
    visit = Visitor(await connect(url))
    assert (await visit("/assets/small.css")).body == SMALL
    assert (await visit("/assets/docs")).field("location") == b"./docs/"


@pytest.mark.parametrize(
    ("path", "location"),
    [("/assets/docs", b"./docs/"), ("/assets/docs?a=b", b"./docs/?a=b"), ("/assets/d%6fcs", b"./d%6fcs/")],
)
async def test_a_folder_without_its_slash_is_a_redirect(visit: Visitor, path: str, location: bytes) -> None:
    response = await visit(path)
    assert (response.status, response.field("location")) == (308, location)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/missing",
        "/bare",
        "/bare/",
        "/small.css/",
        "/small.css/x",
        "//small.css",
        "/docs//index.html",
        "/./small.css",
        "/docs/../small.css",
        "/docs/%2e%2e/small.css",
        "/../secret",
        "/%2e%2e/secret",
        "/.%2E/secret",
        "/..%2fsecret",
        "/..%5csecret",
        "/docs%2findex.html",
        "/%2fetc/passwd",
        "//etc/passwd",
        "/%252e%252e/secret",
        "/small.css%00",
        "/small.css%00.html",
        "/C:/Windows/win.ini",
        "/%5c%5chost%5cshare",
        "/small.css::$DATA",
        "/.env",
        "/.git/config",
        "/%2eenv",
        "/leak",
        "/fifo",
        "/~root",
        "/" + "x" * 300,
        "/" + "x/" * 2000,
        "/%ff%fe",
        "/%c0%ae%c0%ae/secret",
    ],
)
async def test_nothing_else_is_there(visit: Visitor, path: str) -> None:
    response = await visit(f"/assets{path}")
    assert (response.status, response.body) == (404, b"Not Found")
    assert response.field("etag") is None


async def test_dotfiles_are_served_to_those_who_say_so(serve: Serve, connect: Connect, folder: Path) -> None:
    url = await serve(application, static=f"/assets={folder}", static_dotfiles=True)
    visit = Visitor(await connect(url))
    assert (await visit("/assets/.env")).body == b"secret"
    assert (await visit("/assets/../secret")).status == 404


async def test_a_hidden_folder_may_be_named_as_a_prefix(serve: Serve, connect: Connect, folder: Path) -> None:
    write(folder / "security.txt", b"Contact: ...")
    visit = Visitor(await connect(await serve(application, static=f"/.well-known={folder}")))
    assert (await visit("/.well-known/security.txt")).status == 200


PATHS = st.lists(
    st.one_of(
        st.sampled_from(
            ["..", ".", "%2e%2e", "%2f", "%5c", "/", "//", "small.css", "docs", ".git", "leak", "secret"]
        ),
        st.sampled_from(["%00", "%25", "..%2f", "....", "%c0%af", "fifo", "bare", "~", "%ff", ";", "*"]),
    ),
    max_size=8,
).map("/".join)


@given(paths=st.lists(PATHS, min_size=1, max_size=10))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_path_leads_to_a_secret(folder: Path, paths: list[str]) -> None:
    files = StaticFiles(parse_mounts([f"/assets={folder}"]), application, lambda: 2e9)
    for path in paths:
        status, body = asyncio.run(_ask(files, f"/assets/{path}".encode()))
        assert status in (200, 308, 404)
        assert b"secret" not in body.removeprefix(b"application")


async def _ask(files: StaticFiles, raw_path: bytes) -> tuple[int, bytes]:
    from alphorn.core.scope import ConnectionFacts, RequestHead, http_scope

    scope = http_scope(ConnectionFacts(), RequestHead("GET", raw_path, b"", [], "1.1"), {})
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("nothing has to be received")

    await files(scope, receive, send)
    status = sent[0]["status"]
    assert isinstance(status, int)
    return status, b"".join(body for message in sent if isinstance(body := message.get("body"), bytes))


# --- Conditions


async def test_who_has_the_file_gets_304(visit: Visitor) -> None:
    first = await visit("/assets/small.css")
    tag = first.field("etag")
    assert tag is not None
    for name, value in (
        ("if_none_match", tag),
        ("if_none_match", b"*"),
        ("if_modified_since", LONG_AGO_DATE),
    ):
        response = await visit("/assets/small.css", "GET", **{name: value})
        assert (response.status, response.body, response.complete) == (304, b"", True)
        assert response.field("etag") == tag
        assert response.field("content-type") is None


async def test_a_changed_file_is_another(visit: Visitor, folder: Path) -> None:
    tag = (await visit("/assets/small.css")).field("etag")
    assert tag is not None
    write(folder / "new", bytes(reversed(SMALL)))  # as large and as old
    (folder / "new").rename(folder / "small.css")
    response = await visit("/assets/small.css", if_none_match=tag)
    assert (response.status, response.body) == (200, bytes(reversed(SMALL)))


async def test_who_insists_on_what_has_gone_gets_412(visit: Visitor) -> None:
    for name, value in (
        ("if_match", b'"old"'),
        ("if_unmodified_since", b"Tue, 15 Nov 1994 08:12:30 GMT"),
    ):
        assert (await visit("/assets/small.css", "GET", **{name: value})).status == 412
        assert (await visit("/assets/missing", "GET", **{name: value})).status == 404
    assert (await visit("/assets/small.css", if_match=b"*")).status == 200


@pytest.mark.parametrize("ahead", [0, 3600])
async def test_a_file_that_may_be_changing_is_told_from_later_ones(
    visit: Visitor, folder: Path, clock_now: float, ahead: float
) -> None:
    write(folder / "small.css", SMALL, clock_now + ahead)
    first = await visit("/assets/small.css")
    tag = first.field("etag")
    assert tag is not None
    assert tag.startswith(b'W/"')
    assert first.field("last-modified") is None
    assert (await visit("/assets/small.css", if_none_match=tag)).status == 304
    assert (await visit("/assets/small.css", if_range=tag, range=b"bytes=0-0")).status == 200
    write(folder / "small.css", SMALL, clock_now - 10)
    assert (await visit("/assets/small.css", if_none_match=tag)).status == 200


@pytest.fixture
def clock_now(tmp_path: Path) -> float:
    """What the file system thinks of as now."""
    (tmp_path / "now").touch()
    return (tmp_path / "now").stat().st_mtime


# --- Ranges


@pytest.mark.parametrize(
    ("asked", "offset", "length"),
    [(b"bytes=0-9", 0, 10), (b"bytes=-5", len(LARGE) - 5, 5), (b"bytes=100-", 100, len(LARGE) - 100)],
)
async def test_a_part_of_a_file(visit: Visitor, asked: bytes, offset: int, length: int) -> None:
    response = await visit("/assets/large.bin", range=asked)
    assert (response.status, response.complete) == (206, True)
    assert response.body == LARGE[offset : offset + length]
    assert response.field("content-length") == b"%d" % length
    assert response.field("content-range") == b"bytes %d-%d/%d" % (offset, offset + length - 1, len(LARGE))
    assert response.field("etag") == (await visit("/assets/large.bin")).field("etag")


@pytest.mark.parametrize("size", [10, 50_000])
async def test_several_parts_of_a_file(visit: Visitor, size: int) -> None:
    last = len(LARGE) - size
    response = await visit("/assets/large.bin", range=b"bytes=%d-%d, -%d" % (5, 4 + size, size))
    assert (response.status, response.complete) == (206, True)
    assert response.field("content-length") == b"%d" % len(response.body)
    assert response.field("content-range") is None
    kind, _, boundary = (response.field("content-type") or b"").partition(b"; boundary=")
    assert kind == b"multipart/byteranges"
    before, *parts, after = response.body.split(b"\r\n--" + boundary)
    assert (before, after) == (b"", b"--\r\n")
    for part, offset in zip(parts, (5, last), strict=True):
        head, _, content = part.partition(b"\r\n\r\n")
        assert head.splitlines()[1:] == [
            b"content-type: application/octet-stream",
            b"content-range: bytes %d-%d/%d" % (offset, offset + size - 1, len(LARGE)),
        ]
        assert content == LARGE[offset : offset + size]


async def test_a_part_beyond_the_end_is_416(visit: Visitor) -> None:
    response = await visit("/assets/small.css", range=b"bytes=%d-" % len(SMALL))
    assert (response.status, response.field("content-range")) == (416, b"bytes */%d" % len(SMALL))


async def test_what_is_no_range_is_the_whole(visit: Visitor) -> None:
    for asked in (b"lines=1-2", b"bytes=5-1", b"bytes=0-5,3-9"):
        assert (await visit("/assets/small.css", range=asked)).status == 200


async def test_a_part_of_what_has_changed_is_the_whole(visit: Visitor) -> None:
    tag = (await visit("/assets/small.css")).field("etag")
    assert tag is not None
    for value, status in ((tag, 206), (LONG_AGO_DATE, 206), (b'"old"', 200), (b"W/" + tag, 200)):
        response = await visit("/assets/small.css", range=b"bytes=1-3", if_range=value)
        assert response.status == status


async def test_preconditions_come_before_ranges(visit: Visitor) -> None:
    assert (await visit("/assets/small.css", range=b"bytes=0-0", if_none_match=b"*")).status == 304
    assert (await visit("/assets/small.css", range=b"bytes=999-", if_match=b'"old"')).status == 412


# --- Precompressed


async def test_a_sibling_is_sent_to_who_can_read_it(visit: Visitor, folder: Path) -> None:
    for suffix in (".br", ".gz", ".zst"):
        write(folder / f"small.css{suffix}", suffix.encode())
    seen = set()
    for accepted, coding, content in (
        (b"gzip, br", b"br", b".br"),
        (b"gzip;q=1, br;q=0.5", b"gzip", b".gz"),
        (b"zstd", b"zstd", b".zst"),
        (b"deflate", None, SMALL),
    ):
        response = await visit("/assets/small.css", accept_encoding=accepted)
        assert (response.status, response.body) == (200, content)
        assert response.field("content-encoding") == coding
        assert response.field("content-type") == b"text/css; charset=utf-8"
        assert response.field("vary") == b"accept-encoding"
        seen.add(response.field("etag"))
    assert len(seen) == 4
    assert (await visit("/assets/small.css", accept_encoding=b"br", if_none_match=b"*")).field("vary")
    assert (await visit("/assets/small.css", accept_encoding=b"br", range=b"bytes=1-2")).body == b"br"


async def test_a_sibling_by_its_own_name_is_a_file_like_any(visit: Visitor, folder: Path) -> None:
    write(folder / "small.css.gz", b"gz")
    response = await visit("/assets/small.css.gz", accept_encoding=b"gzip")
    assert (response.field("content-type"), response.field("content-encoding")) == (b"application/gzip", None)


# --- When things go wrong


async def test_a_file_that_is_replaced_while_it_is_sent_is_sent_as_it_was(
    serve: Serve, connect: Connect, folder: Path
) -> None:
    before, after = b"a" * 5_000_000, b"b" * 5_000_000
    write(folder / "huge", before)
    client = await connect(await serve(application, static=f"/assets={folder}"), receive_window=65535)
    exchange = await client.request("GET", "/assets/huge")
    await exchange.head()
    write(folder / "next", after)
    (folder / "next").rename(folder / "huge")
    assert await exchange.read() == before


async def test_no_descriptor_outlives_its_answer(
    serve: Serve, connect: Connect, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(folder / "huge", bytes(5_000_000))
    url = await serve(application, static=f"/assets={folder}")
    client = await connect(url, receive_window=65535)
    exchange = await client.request("GET", "/assets/huge")
    await exchange.head()
    assert "huge" in _open_files(folder)
    await exchange.abandon()
    client.close()
    await serve.close()
    assert _open_files(folder) == set()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def _open_files(folder: Path) -> set[str]:
    links = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))  # noqa: PTH208
    targets = [Path(os.readlink(link)) for link in links if os.path.lexists(link)]  # noqa: PTH115
    return {target.name for target in targets if target.parent == folder}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_what_may_not_be_read_is_403(visit: Visitor, folder: Path) -> None:
    (folder / "small.css").chmod(0)
    assert (await visit("/assets/small.css")).status == 403


# --- What the operator may say


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        (["public"], "no prefix and folder"),
        (["/assets"], "no prefix and folder"),
        (["/assets="], "no prefix and folder"),
        (["assets=."], "no prefix and folder"),
        (["//assets=."], "no plain path"),
        (["/a/../b=."], "no plain path"),
        (["/a%20b=."], "no plain path"),
        (["/a?=."], "no plain path"),
        (["/a=/nosuch/folder"], "no folder /nosuch/folder"),
        (["/a=/etc/passwd"], "no folder /etc/passwd"),
        (["/a=.", "/a/=."], "/a has a folder already"),
    ],
)
def test_mistakes_of_the_operator_are_one_line(texts: list[str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as raised:
        parse_mounts(texts)
    assert "\n" not in str(raised.value)
    assert texts[-1] in str(raised.value)


def test_a_folder_may_be_named_in_any_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a=b").mkdir()
    mounts = parse_mounts(["/=.", "/a/=~", "/b=a=b/.."])
    assert [mount.prefix for mount in mounts] == ["", "/a", "/b"]
    assert {Path(mount.folder).resolve() for mount in mounts} == {tmp_path.resolve()}
