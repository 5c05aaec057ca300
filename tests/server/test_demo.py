"""The demonstration: driven directly as an ASGI application, then through the server on every carrier."""

import asyncio
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from alphorn import demo_chat
from alphorn.core.asgi import Message, Scope
from alphorn.demo import FILES, PART_BYTES, Demo
from support.serving import Connect, Serve
from support.waiting import turns, within
from support.websocket_client import WebSocketClient, open_websocket

TLS = {"tls": {"tls_version": 0x0304, "cipher_suite": 0x1302}}


class Visit:
    """One scope of the application with the test as its server and client.

    Attributes:
        sent: What the application has sent so far.
    """

    def __init__(self, demo: Demo, scope: Scope, *incoming: Message) -> None:
        self.sent: list[Message] = []
        self._incoming: asyncio.Queue[Message] = asyncio.Queue()
        for message in incoming:
            self._incoming.put_nowait(message)
        self._outgoing: asyncio.Queue[Message] = asyncio.Queue()
        self._reading = asyncio.Event()
        self._reading.set()
        self._gone = False
        self._task = asyncio.ensure_future(demo(scope, self._incoming.get, self._send))

    async def _send(self, message: Message) -> None:
        await self._reading.wait()
        if self._gone:
            raise BrokenPipeError
        self.sent.append(message)
        self._outgoing.put_nowait(message)

    def give(self, message: Message) -> None:
        """Hand the application a message."""
        self._incoming.put_nowait(message)

    async def next(self) -> Message:
        """Wait for what the application sends next."""
        async with within("a message of the application"):
            return await self._outgoing.get()

    @property
    def unread(self) -> int:
        """How many messages the application has not received yet."""
        return self._incoming.qsize()

    def stop_reading(self) -> None:
        """Make `send` wait from now on."""
        self._reading.clear()

    def read_again(self) -> None:
        """Let `send` go on."""
        self._reading.set()

    def leave(self, message: Message) -> None:
        """Go away: the application learns it from `receive` or, if it sends before, from `send`."""
        self._gone = True
        self._reading.set()
        self.give(message)

    async def cancel(self) -> None:
        """Stop the application, as a server does that cannot wait any longer."""
        self._task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self._task

    async def end(self) -> None:
        """Wait until the application has returned."""
        async with within("the application to end"):
            await self._task


class ChatVisit(Visit):
    """A tab in the chat."""

    def __init__(self, demo: Demo, name: str = "", *, path: str = "/chat", origin: str | None = None) -> None:
        scope = request_scope("GET", path, query=f"name={name}", origin=origin)
        super().__init__(demo, {**scope, "type": "websocket", "scheme": "wss"}, {"type": "websocket.connect"})

    def say(self, text: str) -> None:
        """Send a line."""
        self.give({"type": "websocket.receive", "text": text})

    async def line(self, kind: str) -> dict[str, Any]:
        """Wait for the next line of a kind, past those of other kinds."""
        while True:
            message = await self.next()
            if message["type"] == "websocket.send":
                line: dict[str, Any] = json.loads(message["text"])
                if line["kind"] == kind:
                    return line

    async def bye(self) -> None:
        """Close the tab."""
        self.leave({"type": "websocket.disconnect", "code": 1001, "reason": ""})
        await self.end()


def request_scope(
    method: str, path: str, *, query: str = "", origin: str | None = None, **more: Any
) -> Scope:
    headers = [(b"host", b"alp.example")]
    if origin is not None:
        headers.append((b"origin", origin.encode()))
    return {
        "type": "http",
        "http_version": "2",
        "method": method,
        "scheme": "https",
        "path": path,
        "query_string": query.encode(),
        "root_path": "",
        "headers": headers,
        "client": ("192.0.2.7", 50000),
        "server": ("192.0.2.1", 443),
        "extensions": TLS,
        **more,
    }


async def fetch(
    method: str, path: str, *parts: bytes, demo: Demo | None = None, **scope: Any
) -> tuple[int, dict[str, str], bytes]:
    """Make one whole request and return the status, the fields and the body of its response."""
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    visit = Visit(demo or Demo(), request_scope(method, path, **scope), *messages, {"type": "http.request"})
    await visit.end()
    final = [message for message in visit.sent if message["type"] != "http.response.early_hint"]
    start, *bodies = final
    assert not bodies[-1].get("more_body", False)
    fields = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], fields, b"".join(message.get("body", b"") for message in bodies)


@pytest.fixture
def room() -> Demo:
    """A demonstration with a chat in which nobody is slowed down."""
    return Demo(pace_seconds=0)


# --- The page


async def test_the_page_shows_what_was_negotiated_for_its_request() -> None:
    status, fields, body = await fetch("GET", "/")
    page = body.decode()
    assert (status, fields["content-type"]) == (200, "text/html; charset=utf-8")
    for fact in ("HTTP/2", "TLS 1.3", "TLS_AES_256_GCM_SHA384", "192.0.2.7:50000", "192.0.2.1:443"):
        assert fact in page
    assert "curl --http2 https://alp.example/negotiated" in page


async def test_the_page_says_that_clear_text_is_clear() -> None:
    _, _, body = await fetch("GET", "/", scheme="http", extensions={})
    assert b"no TLS" in body
    assert b"curl --http2-prior-knowledge http://alp.example/negotiated" in body


async def test_without_lifespan_state_the_application_keeps_its_own() -> None:
    demo = Demo()
    lifespan = Visit(demo, {"type": "lifespan"}, {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    await lifespan.end()
    assert (await fetch("GET", "/", demo=demo))[0] == 200


async def test_what_a_client_wrote_is_not_markup_in_the_page() -> None:
    host = (b"host", b'"><script>alert(1)</script>')
    _, _, body = await fetch("GET", "/", headers=[host])
    assert b"<script>alert" not in body
    assert b"&lt;script&gt;alert" in body


async def test_the_page_needs_nothing_its_policy_forbids() -> None:
    _, fields, body = await fetch("GET", "/")
    assert fields["content-security-policy"].startswith("default-src 'none';")
    found = Elements(body.decode())
    assert found.inline_code == []
    assert {f"/{url}" for url in found.resources} == set(FILES)


async def test_every_field_of_the_page_has_a_label() -> None:
    _, _, body = await fetch("GET", "/")
    found = Elements(body.decode())
    assert found.fields
    assert found.fields <= found.labelled


class Elements(HTMLParser):
    """What the page consists of, as far as the tests ask."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.resources: set[str] = set()
        self.inline_code: list[str] = []
        self.fields: set[str] = set()
        self.labelled: set[str] = set()
        self._in_label = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag in {"script", "link"}:
            self.resources.add(values.get("src") or values.get("href") or "inline")
        self.inline_code += [name for name in values if name == "style" or name.startswith("on")]
        if tag in {"input", "select", "progress"}:
            self.fields.add(values["id"])
            if self._in_label or "aria-label" in values:
                self.labelled.add(values["id"])
        if tag == "label":
            self._in_label = True
            self.labelled.add(values.get("for", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "label":
            self._in_label = False


@pytest.mark.parametrize("path", FILES)
async def test_a_file_of_the_page_may_be_kept_for_a_while(path: str) -> None:
    status, fields, body = await fetch("GET", path)
    assert (status, fields["cache-control"]) == (200, "max-age=60")
    assert fields["content-length"] == str(len(body))


async def test_early_hints_name_files_that_exist() -> None:
    scope = request_scope("GET", "/", extensions={"http.response.early_hint": {}})
    visit = Visit(Demo(), scope, {"type": "http.request"})
    await visit.end()
    hint = visit.sent[0]
    assert hint["type"] == "http.response.early_hint"
    named = re.findall(rb"<(.*?)>; rel=preload", b" ".join(hint["links"]))
    assert {f"/{name.decode()}" for name in named} < set(FILES)


async def test_a_mounted_page_routes_below_its_mount_point() -> None:
    status, _, body = await fetch("GET", "/alp/", root_path="/alp")
    assert status == 200
    assert b"https://alp.example/alp/echo" in body


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ({"extensions": TLS}, ("TLS 1.3", "TLS_AES_256_GCM_SHA384")),
        ({"extensions": {"tls": {"tls_version": 0x0305, "cipher_suite": 0xABCD}}}, ("0x0305", "0xABCD")),
        ({"extensions": {"tls": {"tls_version": None, "cipher_suite": None}}}, ("unknown", "unknown")),
        ({"extensions": None}, ("TLS", "unknown")),
        ({"extensions": {}, "scheme": "http"}, (None, None)),
    ],
    ids=["known", "future", "withheld", "no extension", "clear text"],
)
async def test_tls_is_named_as_far_as_the_server_tells(
    scope: dict[str, Any], expected: tuple[str | None, str | None]
) -> None:
    _, fields, body = await fetch("GET", "/negotiated", **scope)
    facts = json.loads(body)
    assert fields["content-type"] == "application/json"
    assert (facts["tls"], facts["cipher"]) == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (("192.0.2.7", 80), "192.0.2.7:80"),
        (("2001:db8::7", 80), "[2001:db8::7]:80"),
        (("/run/alp.sock", None), "/run/alp.sock"),
        (None, "unix socket"),
    ],
    ids=["IPv4", "IPv6", "unix server", "unix client"],
)
async def test_addresses_are_written_as_in_a_url(address: Any, expected: str) -> None:
    _, _, body = await fetch("GET", "/negotiated", client=address)
    assert json.loads(body)["client"] == expected


@pytest.mark.parametrize("path", ["/", "/demo.js", "/negotiated", "/events", "/download"])
async def test_head_has_the_fields_and_no_body(path: str) -> None:
    status, fields, body = await fetch("HEAD", path, query="mebibytes=1024")
    assert (status, body) == (200, b"")
    assert fields["x-content-type-options"] == "nosniff"


async def test_an_unknown_path_is_404() -> None:
    assert (await fetch("GET", "/edelweiss"))[0] == 404


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/"), ("POST", "/events"), ("GET", "/digest")])
async def test_a_method_that_a_path_does_not_know_is_405_and_says_which_it_knows(
    method: str, path: str
) -> None:
    status, fields, _ = await fetch(method, path)
    assert status == 405
    assert fields["allow"] == ("POST, PUT" if path == "/digest" else "GET, HEAD")


async def test_lifespan_puts_the_shared_state_into_the_scope() -> None:
    state: dict[str, Any] = {}
    lifespan = Visit(
        Demo(),
        {"type": "lifespan", "state": state},
        {"type": "lifespan.startup"},
        {"type": "lifespan.shutdown"},
    )
    await lifespan.end()
    assert [message["type"] for message in lifespan.sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    await fetch("GET", "/", state=state)
    assert state["shared"].served == 1


# --- Events


async def test_events_tell_the_counters_until_the_client_leaves() -> None:
    demo = Demo(tick_seconds=0.01)
    visit = Visit(demo, request_scope("GET", "/events"), {"type": "http.request"})
    start = await visit.next()
    assert (b"content-type", b"text/event-stream") in start["headers"]
    for _ in range(3):
        event = (await visit.next())["body"]
        assert event.startswith(b"data: {")
        assert event.endswith(b"}\n\n")
    facts = json.loads(event.removeprefix(b"data: "))
    assert (facts["protocol"], facts["open"], facts["served"]) == ("HTTP/2", 1, 1)
    visit.leave({"type": "http.disconnect"})
    await visit.end()


async def test_events_end_properly_when_the_server_says_goodbye_to_a_client_that_reads() -> None:
    visit = Visit(Demo(tick_seconds=3600), request_scope("GET", "/events"), {"type": "http.request"})
    await visit.next()
    await visit.next()
    visit.give({"type": "http.disconnect"})
    assert not (await visit.next()).get("more_body", False)
    await visit.end()


async def test_events_for_a_client_that_does_not_read_do_not_pile_up() -> None:
    visit = Visit(Demo(tick_seconds=0), request_scope("GET", "/events"), {"type": "http.request"})
    await visit.next()
    visit.stop_reading()
    before = len(visit.sent)
    await turns(100)
    assert len(visit.sent) == before
    visit.leave({"type": "http.disconnect"})
    await visit.end()


# --- Transfers


async def test_an_upload_is_counted_and_hashed() -> None:
    parts = [b"alp", b"", bytes(100_000)]
    status, _, body = await fetch("POST", "/digest", *parts)
    facts = json.loads(body)
    assert (status, facts["bytes"], facts["protocol"]) == (200, 100_003, "HTTP/2")
    assert facts["sha256"] == hashlib.sha256(b"".join(parts)).hexdigest()
    assert facts["seconds"] >= 0


async def test_an_upload_that_breaks_off_gets_no_answer() -> None:
    visit = Visit(
        Demo(),
        request_scope("POST", "/digest"),
        {"type": "http.request", "body": b"half", "more_body": True},
        {"type": "http.disconnect"},
    )
    await visit.end()
    assert visit.sent == []


async def test_an_echo_begins_before_the_upload_has_ended() -> None:
    visit = Visit(Demo(), request_scope("PUT", "/echo"))
    for word in (b"hol", b"lo"):
        visit.give({"type": "http.request", "body": word, "more_body": True})
        while (answer := await visit.next())["type"] == "http.response.start":
            pass
        assert answer["body"] == word
    visit.give({"type": "http.request", "body": b"!"})
    await visit.end()
    assert [message["body"] for message in visit.sent[1:]] == [b"hol", b"lo", b"!", b""]


async def test_an_echo_reads_no_faster_than_its_client() -> None:
    visit = Visit(Demo(), request_scope("POST", "/echo"))
    await visit.next()
    visit.stop_reading()
    for _ in range(3):
        visit.give({"type": "http.request", "body": b"ho", "more_body": True})
    await turns(10)
    assert visit.unread == 2
    visit.leave({"type": "http.disconnect"})
    await visit.end()


async def test_a_download_has_the_size_asked_for_in_small_parts() -> None:
    visit = Visit(Demo(), request_scope("GET", "/download", query="mebibytes=1"), {"type": "http.request"})
    await visit.end()
    start, *parts = visit.sent
    assert (b"content-length", b"1048576") in start["headers"]
    assert sum(len(part.get("body", b"")) for part in parts) == 1048576
    assert max(len(part.get("body", b"")) for part in parts) == PART_BYTES


@pytest.mark.parametrize(
    "query", ["", "mebibytes=", "mebibytes=2048", "mebibytes=-1", "mebibytes=%FF", "\xff"]
)
async def test_a_download_of_another_size_is_400(query: str) -> None:
    status, _, body = await fetch("GET", "/download", query=query)
    assert status == 400
    assert b"one of 1, 16, 64, 256, 1024" in body


# --- Chat


async def test_two_tabs_see_each_other_come_talk_and_leave(room: Demo) -> None:
    heidi, peter = ChatVisit(room, "Heidi"), ChatVisit(room, "Peter")
    welcome = await peter.line("welcome")
    assert (welcome["name"], welcome["carrier"], welcome["people"]) == ("Peter", "HTTP/2", ["Heidi", "Peter"])
    assert (await heidi.line("join"))["name"] == "Peter"
    peter.say("  good\nmorning ")
    for tab in (heidi, peter):
        said = await tab.line("say")
        assert (said["name"], said["text"]) == ("Peter", "good morning")
    await peter.bye()
    left = await heidi.line("leave")
    assert (left["name"], left["people"]) == ("Peter", ["Heidi"])
    await heidi.bye()


async def test_who_comes_later_gets_the_last_lines(room: Demo) -> None:
    heidi = ChatVisit(room, "Heidi")
    for number in range(demo_chat.HISTORY_LINES + 5):
        heidi.say(str(number))
        await heidi.line("say")
    peter = ChatVisit(room, "Peter")
    history = (await peter.line("welcome"))["history"]
    assert [line["text"] for line in history] == [str(number) for number in range(5, 55)]
    await heidi.bye()
    await peter.bye()


@pytest.mark.parametrize(
    ("wanted", "got"),
    [
        ("Heidi", "Heidi 2"),
        ("heidi", "heidi 2"),
        ("%20Alm%20%0A%20%C3%96hi%00%20", "Alm Öhi"),
        ("x" * 100, "x" * demo_chat.MAX_NAME_CHARACTERS),
    ],
    ids=["taken", "taken but for its case", "with odd characters", "too long"],
)
async def test_a_name_is_tidied_and_unique(room: Demo, wanted: str, got: str) -> None:
    heidi, other = ChatVisit(room, "Heidi"), ChatVisit(room, wanted)
    assert (await other.line("welcome"))["name"] == got
    await heidi.bye()
    await other.bye()


async def test_a_tab_without_a_name_is_called_after_a_mountain(room: Demo) -> None:
    tab = ChatVisit(room)
    assert (await tab.line("welcome"))["name"] in demo_chat.PEAKS
    await tab.bye()


async def test_a_tab_may_change_its_name(room: Demo) -> None:
    tab = ChatVisit(room, "Adelheid")
    tab.say("/name Adelheid")
    tab.say("/name Heidi")
    renamed = await tab.line("rename")
    assert (renamed["before"], renamed["name"], renamed["people"]) == ("Adelheid", "Heidi", ["Heidi"])
    tab.say("/name")
    assert (await tab.line("rename"))["name"] in demo_chat.PEAKS
    await tab.bye()


async def test_blank_lines_are_not_said(room: Demo) -> None:
    tab = ChatVisit(room)
    tab.say(" \n ")
    tab.say("hollo")
    assert (await tab.line("say"))["text"] == "hollo"
    await tab.bye()


async def test_a_tab_that_does_not_read_loses_lines_and_delays_nobody(room: Demo) -> None:
    slow, quick = ChatVisit(room, "Slow"), ChatVisit(room, "Quick")
    await slow.line("join")
    slow.stop_reading()
    for number in range(1, 2 * demo_chat.WAITING_LINES + 1):
        quick.say(str(number))
        assert (await quick.line("say"))["text"] == str(number)
    slow.read_again()
    # One line was already on its way when the tab stopped reading, and as many as may wait are kept.
    assert (await slow.line("say"))["text"] == "1"
    assert (await slow.line("missed"))["count"] == demo_chat.WAITING_LINES - 1
    assert (await slow.line("say"))["text"] == str(demo_chat.WAITING_LINES + 1)
    await slow.bye()
    await quick.bye()


async def test_a_tab_that_floods_is_not_read_between_its_lines() -> None:
    tab = ChatVisit(Demo(pace_seconds=3600), "Flood")
    await tab.line("welcome")
    for _ in range(3):
        tab.say("hollo")
    await tab.line("say")
    assert tab.unread == 2
    await tab.cancel()


async def test_a_tab_that_vanishes_while_it_does_not_read_leaves_the_room(room: Demo) -> None:
    gone, other = ChatVisit(room, "Gone"), ChatVisit(room, "Other")
    await gone.line("join")
    gone.stop_reading()
    other.say("are you there?")
    await other.line("say")
    await gone.bye()
    assert (await other.line("leave"))["name"] == "Gone"
    await other.bye()


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"bytes": b"\x00"}, 1003),
        ({"text": "x" * (demo_chat.MAX_LINE_CHARACTERS + 1)}, 1009),
    ],
    ids=["bytes", "too long"],
)
async def test_what_the_chat_does_not_take_closes_the_tab_with_its_code(
    room: Demo, message: dict[str, Any], code: int
) -> None:
    tab, other = ChatVisit(room, "Odd"), ChatVisit(room, "Other")
    tab.give({"type": "websocket.receive", **message})
    await tab.end()
    assert tab.sent[-1]["type"] == "websocket.close"
    assert tab.sent[-1]["code"] == code
    assert (await other.line("leave"))["name"] == "Odd"
    await other.bye()


@pytest.mark.parametrize(
    ("path", "origin", "answer"),
    [
        ("/chat", "https://alp.example", "websocket.accept"),
        ("/chat", None, "websocket.accept"),
        ("/chat", "https://evil.example", "websocket.close"),
        ("/chat", "null", "websocket.close"),
        ("/events", None, "websocket.close"),
    ],
    ids=["own page", "no browser", "foreign page", "opaque page", "other path"],
)
async def test_the_chat_opens_to_its_own_page_only(
    room: Demo, path: str, origin: str | None, answer: str
) -> None:
    tab = ChatVisit(room, path=path, origin=origin)
    assert (await tab.next())["type"] == answer
    await tab.bye()


# --- Through the server


async def test_the_server_carries_the_page_the_events_and_an_upload(serve: Serve, connect: Connect) -> None:
    client = await connect(await serve(Demo(tick_seconds=0.01)))
    page = await (await client.request("GET", "/")).response()
    assert page.status == 200
    assert f"HTTP/{connect.carrier.http_version}".encode() in page.body
    negotiated = await (await client.request("GET", "/negotiated")).response()
    tls = json.loads(negotiated.body)["tls"]
    assert (tls is not None and tls.startswith("TLS 1.")) == connect.carrier.secure
    content = bytes(range(256)) * 4096
    upload = await (await client.request("POST", "/digest", content=content)).response()
    assert json.loads(upload.body)["sha256"] == hashlib.sha256(content).hexdigest()
    events = await client.request("GET", "/events")
    assert (await events.read_chunk()).startswith(b"data: ")
    await events.abandon()


async def test_the_server_carries_the_chat(serve: Serve, connect: Connect) -> None:
    url = await serve(Demo())
    heidi = await open_websocket(await connect(url), "/chat?name=Heidi")
    peter = await open_websocket(await connect(url), "/chat?name=Peter")
    carrier = f"HTTP/{connect.carrier.http_version}"
    assert (await line_of(heidi, "welcome"))["carrier"] == carrier
    await peter.send("hollo")
    assert (await line_of(heidi, "say"))["text"] == "hollo"
    await peter.close(1001)
    assert (await line_of(heidi, "leave"))["name"] == "Peter"
    await heidi.close()


async def line_of(tab: WebSocketClient, kind: str) -> dict[str, Any]:
    """Wait for the next line of a kind, past those of other kinds."""
    while True:
        text = await tab.receive()
        assert isinstance(text, str)
        line: dict[str, Any] = json.loads(text)
        if line["kind"] == kind:
            return line
