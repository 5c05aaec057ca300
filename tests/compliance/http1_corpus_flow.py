"""Rows about what follows what: pipelining, closing, expectations, upgrades."""

from .http1_corpus import Case, Sight, accept, chunked, get, line, post, refuse

PIPELINE = "RFC 9112, 9.3.2"
PERSIST = "RFC 9112, 9.3"
CLOSE = "RFC 9112, 9.6"
EXPECT = "RFC 9110, 10.1.1"
UPGRADE = "RFC 9110, 7.8"
WEBSOCKET = "RFC 6455, 4.2.1"
INCOMPLETE = "RFC 9112, 8"

AFTER_ERROR = "what is behind an error is not read: nobody knows where it begins"
UNKNOWN = "Decided: an expectation that is not ours may be ignored; odd ones have led proxies astray"
IGNORED = "a server may ignore an upgrade, and we do, all but to WebSocket"

PLAIN = line(b"GET / HTTP/1.1")
BAD = b"GET / HTTP/1.1\r\n\r\n"
SEEN = Sight("GET", b"/")
POST_SEEN = Sight("POST", b"/", b"hello")
HELLO = post(b"Content-Length: 5", content=b"hello")
HANDSHAKE = (
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)

PIPELINES = [
    Case("pipeline-of-three", PLAIN + HELLO + PLAIN, (200,) * 3, (SEEN, POST_SEEN, SEEN), False, PIPELINE, "answered in order"),
    Case("pipeline-behind-chunks", chunked(b"5\r\nhello\r\n0\r\n\r\n") + PLAIN, (200,) * 2, (POST_SEEN, SEEN), False, PIPELINE, "content ends exactly"),
    Case("pipeline-with-empty-line", HELLO + b"\r\n" + PLAIN, (200,) * 2, (POST_SEEN, SEEN), False, "RFC 9112, 2.2", "old clients send one behind a POST"),
    Case("pipeline-error-behind-a-request", PLAIN + BAD, (200, 400), (SEEN,), True, PIPELINE, "the good one is answered"),
    Case("pipeline-error-between-requests", PLAIN + BAD + PLAIN, (200, 400), (SEEN,), True, PIPELINE, AFTER_ERROR),
    Case("pipeline-garbage-behind-content", HELLO + b"garbage\r\n" + PLAIN, (200, 400), (POST_SEEN,), True, PIPELINE, AFTER_ERROR),
    Case("pipeline-bad-chunk-behind-a-request", PLAIN + chunked(b"x\r\n"), (200, 400), (SEEN,), True, PIPELINE, "the good one is answered"),
    refuse("pipeline-behind-an-error-with-content", b"POST / HTTP/1.1\r\nContent-Length: 26\r\n\r\n" + PLAIN, 400, PIPELINE, AFTER_ERROR),
    refuse("pipeline-behind-a-bad-chunk", chunked(b"x\r\n") + PLAIN, 400, PIPELINE, AFTER_ERROR),
    Case("pipeline-behind-connect", PLAIN + line(b"CONNECT a:1 HTTP/1.1") + PLAIN, (200, 501), (SEEN,), True, PIPELINE, AFTER_ERROR),
    Case("pipeline-and-the-end", PLAIN + HELLO, (200,) * 2, (SEEN, POST_SEEN), True, INCOMPLETE, "a half-closed client gets its answers", eof=True),
    Case("pipeline-cut-in-a-head", PLAIN + b"GET / HTTP/1.1\r\nHo", (200,), (SEEN,), True, INCOMPLETE, "half a request is none", eof=True),
    Case("pipeline-cut-in-content", PLAIN + HELLO[:-1], (200,), (SEEN,), True, INCOMPLETE, "half a request is none", eof=True),
    Case("nothing-but-empty-lines", b"\r\n\r\n", (), (), True, "RFC 9112, 2.2", "no request, no answer", eof=True),
    Case("nothing-but-half-a-line", b"GET /", (), (), True, INCOMPLETE, "half a request is none", eof=True),
]  # fmt: skip

ENDINGS = [
    accept("close", get(b"Connection: close"), CLOSE, "the client's last request", closes=True),
    accept("close-in-capitals", get(b"Connection: CLOSE"), CLOSE, "options have no case", closes=True),
    accept("close-in-a-list", get(b"Connection: keep-alive, close"), CLOSE, "any member counts", closes=True),
    accept("close-in-a-second-line", get(b"Connection: x", b"Connection: close"), CLOSE, "any line counts", closes=True),
    accept("close-is-a-word", get(b"Connection: closed, close-x"), CLOSE, "other options"),
    accept("close-empty-members", get(b"Connection: ,,"), "RFC 9110, 5.6.1.2", "empty members are ignored"),
    accept("keep-alive", get(b"Connection: keep-alive"), PERSIST, "the rule in HTTP/1.1 anyway"),
    accept("keep-alive-in-1.0", b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", PERSIST, "Decided: never with HTTP/1.0, whose proxies may not know it", closes=True),
    accept("connection-names-host", get(b"Connection: Host, Content-Length"), "RFC 9110, 7.6.1", "we forward nothing", fields=[(b"host", b"a")]),
    accept("proxy-connection", get(b"Proxy-Connection: close"), "RFC 9112, C.2.2", "not a field of ours"),
    Case("head-has-no-content", line(b"HEAD / HTTP/1.1") + PLAIN, (200,) * 2, (Sight("HEAD", b"/"), SEEN), False, "RFC 9110, 9.3.2", "or the next answer is content"),
]  # fmt: skip

EXPECTATIONS = [
    accept("expect-continue", post(b"Expect: 100-continue", b"Content-Length: 5", content=b"hello"), EXPECT, "the content may come anyway", method="POST", body=b"hello"),
    accept("expect-continue-in-capitals", post(b"Expect: 100-CONTINUE", b"Content-Length: 5", content=b"hello"), EXPECT, "expectations have no case", method="POST", body=b"hello"),
    accept("expect-continue-chunked", post(b"Expect: 100-continue", b"Transfer-Encoding: chunked", content=b"5\r\nhello\r\n0\r\n\r\n"), EXPECT, "likewise", method="POST", body=b"hello"),
    accept("expect-continue-without-content", get(b"Expect: 100-continue"), EXPECT, "nothing to continue with"),
    accept("expect-nothing", get(b"Expect:"), EXPECT, "an empty list"),
    accept("expect-in-1.0", b"GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n", EXPECT, "ignored there", closes=True),
    accept("expect-unknown-in-1.0", b"GET / HTTP/1.0\r\nExpect: x\r\n\r\n", EXPECT, "ignored there", closes=True),
    refuse("expect-unknown", get(b"Expect: x"), 417, EXPECT, UNKNOWN),
    refuse("expect-continue-and-more", get(b"Expect: 100-continue, x"), 417, EXPECT, UNKNOWN),
    refuse("expect-two-lines", get(b"Expect: 100-continue", b"Expect: x"), 417, EXPECT, UNKNOWN),
    refuse("expect-behind-a-word", post(b"Expect: y 100-continue", b"Content-Length: 5", content=b"hello"), 417, EXPECT, UNKNOWN),
    refuse("expect-with-a-tail", post(b"Expect: 100-continuex", b"Content-Length: 5", content=b"hello"), 417, EXPECT, UNKNOWN),
    refuse("expect-with-parameter", post(b"Expect: 100-continue;a=b", b"Content-Length: 5", content=b"hello"), 417, EXPECT, UNKNOWN),
    refuse("expect-quoted", post(b'Expect: "100-continue"', b"Content-Length: 5", content=b"hello"), 417, EXPECT, UNKNOWN),
    refuse("expect-spaced", post(b"Expect: 100 -continue", b"Content-Length: 5", content=b"hello"), 417, EXPECT, UNKNOWN),
]  # fmt: skip

UPGRADES = [
    accept("upgrade-h2c", get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"), "RFC 9113, 3.1", IGNORED),
    accept("upgrade-tls", get(b"Connection: Upgrade", b"Upgrade: TLS/1.0"), UPGRADE, IGNORED),
    accept("upgrade-h2c-with-content", post(b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: 5", content=b"hello"), UPGRADE, IGNORED, method="POST", body=b"hello"),
    accept("upgrade-websocket-without-connection", get(*HANDSHAKE[1:]), UPGRADE, "without the option it is not for us"),
    accept("upgrade-websocket-with-post", post(*HANDSHAKE), WEBSOCKET, "a handshake is a GET", method="POST"),
    accept("upgrade-websocket-in-1.0", b"GET / HTTP/1.0\r\n" + b"\r\n".join(HANDSHAKE) + b"\r\n\r\n", UPGRADE, "ignored there", closes=True),
    accept("upgrade-websocket-with-content", get(*HANDSHAKE, b"Content-Length: 5") + b"hello", WEBSOCKET, "Decided: with content it is an ordinary GET, and what follows is never a tunnel", body=b"hello"),
    accept("upgrade-websocket-with-chunks", get(*HANDSHAKE, b"Transfer-Encoding: chunked") + b"0\r\n\r\n", WEBSOCKET, "Decided: the same"),
    accept("upgrade-connection-alone", get(b"Connection: Upgrade"), UPGRADE, "to nothing"),
    refuse("upgrade-websocket-without-key", get(*HANDSHAKE[:3]), 400, WEBSOCKET, "a handshake has a key"),
    refuse("upgrade-websocket-bad-key", get(*HANDSHAKE[:3], b"Sec-WebSocket-Key: x"), 400, WEBSOCKET, "a key is 16 bytes"),
    refuse("upgrade-websocket-two-keys", get(*HANDSHAKE, HANDSHAKE[3]), 400, WEBSOCKET, "a handshake has one key"),
    refuse("upgrade-websocket-without-version", get(*HANDSHAKE[:2], HANDSHAKE[3]), 426, "RFC 6455, 4.4", "the version is 13"),
    refuse("upgrade-websocket-version-8", get(*HANDSHAKE[:2], b"Sec-WebSocket-Version: 8", HANDSHAKE[3]), 426, "RFC 6455, 4.4", "the version is 13"),
    refuse("upgrade-websocket-two-hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n" + b"\r\n".join(HANDSHAKE) + b"\r\n\r\n", 400, "RFC 9112, 3.2", "one parser for HTTP and WebSocket"),
    refuse("upgrade-websocket-bare-lf", b"GET / HTTP/1.1\r\nHost: a\n" + b"\r\n".join(HANDSHAKE) + b"\r\n\r\n", 400, "RFC 9112, 2.2", "one parser for HTTP and WebSocket"),
]  # fmt: skip

CASES = [*PIPELINES, *ENDINGS, *EXPECTATIONS, *UPGRADES]
