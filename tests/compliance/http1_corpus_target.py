"""Rows about the request target: its four forms, and what percent-encoding may hide."""

from .http1_corpus import Case, accept, hosts, line, refuse, target

FORMS = "RFC 9112, 3.2"
ORIGIN = "RFC 9112, 3.2.1"
ABSOLUTE = "RFC 9112, 3.2.2"
AUTHORITY = "RFC 9112, 3.2.3"
ASTERISK = "RFC 9112, 3.2.4"
PATH = "RFC 3986, 3.3; ASGI, HTTP connection scope"
ENCODING = "RFC 3986, 2.1; ASGI, HTTP connection scope"

ALONE = "what the path means is the application's to say: dot segments and slashes are left alone"
OTHERS = "Decided: not legal in a URI, but sent by browsers, and harmless in a request line"
VISIBLE = "a target consists of visible ASCII characters"


def path(name: str, raw: bytes, decoded: str, section: str, why: str) -> Case:
    """A path that reaches the application as it was sent, and decoded once."""
    return accept(name, target(raw), section, why, target=raw, path=decoded)


FORM_CASES = [
    accept("origin-with-query", target(b"/a?b=c&d"), ORIGIN, "path and query", target=b"/a?b=c&d", path="/a"),
    accept("origin-with-question-marks", target(b"/a?b?c"), ORIGIN, "the first one counts", target=b"/a?b?c"),
    accept("origin-with-two-slashes", target(b"//a/b"), ORIGIN, "a path, not an authority", target=b"//a/b", path="//a/b"),
    refuse("origin-without-slash", target(b"a"), 400, FORMS, "none of the four forms"),
    refuse("origin-query-alone", target(b"?a=b"), 400, FORMS, "none of the four forms"),
    refuse("origin-with-fragment", target(b"/a#b"), 400, FORMS, "a fragment is never sent"),
    refuse("origin-fragment-alone", target(b"#"), 400, FORMS, "a fragment is never sent"),
    refuse("origin-fragment-in-query", target(b"/?a#b"), 400, FORMS, "a fragment is never sent"),
    refuse("origin-dots", target(b"../a"), 400, FORMS, "none of the four forms"),
    refuse("origin-backslash", target(b"\\a"), 400, FORMS, "none of the four forms"),
    accept("absolute", target(b"http://a/b?c"), ABSOLUTE, "servers accept it", target=b"/b?c", fields=[(b"host", b"a")]),
    accept("absolute-replaces-host", target(b"http://b:80/"), ABSOLUTE, "Host is ignored", fields=[(b"host", b"b:80")]),
    accept("absolute-https", target(b"https://a/"), ABSOLUTE, "the scheme of the scope is the connection's"),
    accept("absolute-scheme-in-capitals", target(b"HTTP://a/"), "RFC 3986, 3.1", "schemes have no case"),
    accept("absolute-without-path", target(b"http://a"), "RFC 9110, 4.2.3", "an empty path is /"),
    accept("absolute-query-without-path", target(b"http://a?b"), "RFC 9110, 4.2.3", "an empty path is /", target=b"/?b"),
    accept("absolute-ipv6", target(b"http://[::1]:80/"), ABSOLUTE, "an IP literal", fields=[(b"host", b"[::1]:80")]),
    accept(
        "absolute-in-1.0-makes-host", b"GET http://b/ HTTP/1.0\r\n\r\n", ABSOLUTE,
        "the authority of the target is the host", fields=[(b"host", b"b")], closes=True,
    ),
    refuse("absolute-without-host-field", b"GET http://a/ HTTP/1.1\r\n\r\n", 400, FORMS, "every HTTP/1.1 request has a Host"),
    refuse("absolute-with-bad-host-field", b"GET http://a/ HTTP/1.1\r\nHost: a b\r\n\r\n", 400, FORMS, "even if it is ignored"),
    refuse("absolute-with-userinfo", target(b"http://u:p@a/"), 400, "RFC 9110, 4.2.4", "userinfo is an attempt to deceive"),
    refuse("absolute-without-authority", target(b"http:///a"), 400, "RFC 9110, 4.2.1", "an empty host is invalid"),
    refuse("absolute-with-empty-host", target(b"http://:80/"), 400, "RFC 9110, 4.2.1", "an empty host is invalid"),
    refuse("absolute-with-bad-port", target(b"http://a:b/"), 400, ABSOLUTE, "a port is digits"),
    refuse("absolute-with-one-slash", target(b"http:/a"), 400, ABSOLUTE, "not an http URI"),
    refuse("absolute-without-slash", target(b"http:a"), 400, ABSOLUTE, "not an http URI"),
    refuse("absolute-with-fragment", target(b"http://a/#b"), 400, ABSOLUTE, "a fragment is never sent"),
    refuse("absolute-with-backslash", target(b"http://a\\b/"), 400, ABSOLUTE, "not an authority"),
    refuse("absolute-ftp", target(b"ftp://a/"), 400, ABSOLUTE, "Decided: only what http and https name is here"),
    refuse("absolute-javascript", target(b"javascript:alert(1)"), 400, ABSOLUTE, "the same"),
    refuse("absolute-file", target(b"file:///etc/passwd"), 400, ABSOLUTE, "the same"),
    refuse("authority-with-get", target(b"a:80"), 400, AUTHORITY, "only CONNECT has this form"),
    refuse("authority-name-with-get", target(b"a.example"), 400, AUTHORITY, "only CONNECT has this form"),
    refuse("connect", line(b"CONNECT a:80 HTTP/1.1"), 501, "RFC 9110, 9.3.6", "an origin server has no tunnels"),
    refuse("connect-origin-form", line(b"CONNECT / HTTP/1.1"), 501, "RFC 9110, 9.3.6", "in whatever form"),
    refuse("connect-in-1.0", line(b"CONNECT a:80 HTTP/1.0"), 501, "RFC 9110, 9.3.6", "in whatever version"),
    refuse("connect-with-content", b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nGET ", 501, "RFC 9110, 9.3.6", "and nothing behind it counts"),
    accept("asterisk", line(b"OPTIONS * HTTP/1.1"), ASTERISK, "the server as a whole", method="OPTIONS", target=b"*"),
    refuse("asterisk-with-get", target(b"*"), 400, ASTERISK, "only OPTIONS has this form"),
    refuse("asterisk-with-a-tail", line(b"OPTIONS *a HTTP/1.1"), 400, ASTERISK, "none of the four forms"),
    refuse("asterisk-with-query", line(b"OPTIONS *?a HTTP/1.1"), 400, ASTERISK, "none of the four forms"),
    accept("asterisk-in-a-path", target(b"/*"), PATH, "an ordinary path", target=b"/*"),
]  # fmt: skip

PATHS = [
    path("path-dots", b"/a/../b", "/a/../b", PATH, ALONE),
    path("path-dots-at-the-top", b"/../../etc/passwd", "/../../etc/passwd", PATH, ALONE),
    path("path-dot", b"/./a/.", "/./a/.", PATH, ALONE),
    path("path-encoded-dots", b"/%2e%2e/a", "/../a", ENCODING, ALONE),
    path("path-encoded-slash", b"/a%2Fb", "/a/b", ENCODING, "raw_path tells them apart"),
    path("path-encoded-backslash", b"/a%5Cb", "/a\\b", ENCODING, ALONE),
    path("path-encoded-nul", b"/a%00b", "/a\x00b", ENCODING, "data like any other to those who decode"),
    path("path-encoded-crlf", b"/a%0d%0aX:%201", "/a\r\nX: 1", ENCODING, "data, as long as nobody prints it"),
    path("path-encoded-question-mark", b"/a%3Fb", "/a?b", ENCODING, "no query"),
    path("path-encoded-percent", b"/%252e", "/%2e", ENCODING, "decoded once, not twice"),
    path("path-encoded-utf-8", b"/%E2%82%AC", "/€", ENCODING, "a path is UTF-8"),
    path("path-invalid-utf-8", b"/%ff", "/\ufffd", ENCODING, "raw_path keeps what path cannot show"),
    path("path-overlong-utf-8", b"/%c0%af", "/\ufffd\ufffd", ENCODING, "an overlong slash is no slash"),
    path("path-surrogate", b"/%ed%a0%80", "/\ufffd\ufffd\ufffd", ENCODING, "half of a pair is no character"),
    path("path-percent-without-digits", b"/%zz", "/%zz", ENCODING, "not legal; left alone"),
    path("path-percent-at-the-end", b"/a%", "/a%", ENCODING, "not legal; left alone"),
    path("path-plus", b"/a+b", "/a+b", ENCODING, "a plus is a space in forms only"),
    path("path-parameters", b"/a;b=c/d", "/a;b=c/d", PATH, ALONE),
    path("path-slashes", b"/a//b///", "/a//b///", PATH, ALONE),
    path("path-colon-and-at", b"/a:b@c", "/a:b@c", PATH, "legal in a path"),
    path("path-backslash", b"/a\\..\\b", "/a\\..\\b", ENCODING, OTHERS),
    path("path-quotes", b'/"<>^`{|}', '/"<>^`{|}', ENCODING, OTHERS),
    path("path-brackets", b"/[a]", "/[a]", ENCODING, OTHERS),
    accept("query-encoded", target(b"/?a=%26%00"), ENCODING, "a query is left as it is", target=b"/?a=%26%00"),
    accept("query-with-a-uri", target(b"/?u=http://b/../c"), ENCODING, "likewise", target=b"/?u=http://b/../c"),
    refuse("target-with-nul", target(b"/a\x00b"), 400, FORMS, VISIBLE),
    refuse("target-with-delete", target(b"/a\x7fb"), 400, FORMS, VISIBLE),
    refuse("target-with-control", target(b"/a\x1bb"), 400, FORMS, VISIBLE),
    refuse("target-not-ascii", target("/ä".encode()), 400, FORMS, VISIBLE),
    refuse("target-with-bare-lf", target(b"/a\nb"), 400, FORMS, VISIBLE),
    refuse("target-with-bare-cr", target(b"/a\rb"), 400, FORMS, VISIBLE),
    refuse("target-with-no-break-space", hosts(b"Host: a").replace(b" / ", b" /\xa0 "), 400, FORMS, VISIBLE),
]  # fmt: skip

CASES = [*FORM_CASES, *PATHS]
