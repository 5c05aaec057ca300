"""Rows about the request line, field lines and Host."""

from .http1_corpus import MAX_FIELDS, MAX_HEAD_BYTES, Case, Sight, accept, get, hosts, line, refuse

LINE = "RFC 9112, 3"
EMPTY_LINES = "RFC 9112, 2.2"
VERSION = "RFC 9112, 2.3"
METHOD = "RFC 9112, 3.1; RFC 9110, 9.1"
FIELD = "RFC 9112, 5.1"
FOLD = "RFC 9112, 5.2"
NAME = "RFC 9110, 5.1"
VALUE = "RFC 9110, 5.5"
SIZE = "RFC 6585, 5"
HOST = "RFC 9112, 3.2"

ONE_SPACE = "the parts of a request line are apart by one space; bearing more is how requests are smuggled"
NOT_A_VERSION = "a version is HTTP/ in capitals, a digit, a dot, a digit"
BARE_LF = (
    "Decided: a bare LF may be taken for a line end, and two who differ about it can be smuggled through"
)
BARE_CR = "a bare CR is replaced by a space or refused; refused it cannot be misread"
CONTROL = "CR, LF and NUL are refused; Decided: so are the other controls, which no field has a use for"

REQUEST_LINES = [
    accept("line-plain", line(b"GET / HTTP/1.1"), LINE, "the plainest request"),
    accept("line-after-empty-line", b"\r\n" + line(b"GET / HTTP/1.1"), EMPTY_LINES, "one is to be ignored"),
    accept(
        "line-after-empty-lines",
        b"\r\n\r\n\r\n" + line(b"GET / HTTP/1.1"),
        EMPTY_LINES,
        "at least one is to be ignored. Decided: all are",
    ),
    refuse("line-after-bare-lf", b"\n" + line(b"GET / HTTP/1.1"), 400, EMPTY_LINES, BARE_LF),
    refuse("line-after-bare-cr", b"\r" + line(b"GET / HTTP/1.1"), 400, EMPTY_LINES, BARE_CR),
    refuse("line-after-cr-cr-lf", b"\r\r\n" + line(b"GET / HTTP/1.1"), 400, EMPTY_LINES, BARE_CR),
    refuse("line-after-space", b" " + line(b"GET / HTTP/1.1"), 400, LINE, "a method is a token"),
    refuse("line-after-tab", b"\t" + line(b"GET / HTTP/1.1"), 400, LINE, "a method is a token"),
    refuse("line-after-nul", b"\x00" + line(b"GET / HTTP/1.1"), 400, LINE, "a method is a token"),
    refuse("line-after-bom", b"\xef\xbb\xbf" + line(b"GET / HTTP/1.1"), 400, LINE, "a method is a token"),
    refuse("line-two-spaces-before-target", line(b"GET  / HTTP/1.1"), 400, LINE, ONE_SPACE),
    refuse("line-two-spaces-before-version", line(b"GET /  HTTP/1.1"), 400, LINE, ONE_SPACE),
    refuse("line-tab-before-target", line(b"GET\t/ HTTP/1.1"), 400, LINE, ONE_SPACE),
    refuse("line-tab-before-version", line(b"GET /\tHTTP/1.1"), 400, LINE, ONE_SPACE),
    refuse("line-vertical-tab", line(b"GET\x0b/ HTTP/1.1"), 400, LINE, ONE_SPACE),
    refuse("line-form-feed", line(b"GET /\x0cHTTP/1.1"), 400, LINE, ONE_SPACE),
    refuse("line-bare-cr-as-space", line(b"GET\r/ HTTP/1.1"), 400, LINE, ONE_SPACE),
    refuse("line-no-break-space", line(b"GET\xa0/ HTTP/1.1"), 400, LINE, ONE_SPACE),
    refuse("line-space-at-the-end", line(b"GET / HTTP/1.1 "), 400, LINE, ONE_SPACE),
    refuse("line-tab-at-the-end", line(b"GET / HTTP/1.1\t"), 400, LINE, ONE_SPACE),
    refuse("line-bare-cr-at-the-end", line(b"GET / HTTP/1.1\r"), 400, EMPTY_LINES, BARE_CR),
    refuse("line-with-a-fourth-word", line(b"GET / HTTP/1.1 x"), 400, LINE, ONE_SPACE),
    refuse("line-space-in-target", line(b"GET /a b HTTP/1.1"), 400, LINE, "a target has no white space"),
    refuse("line-two-requests-by-cr", line(b"GET / HTTP/1.1\rGET /x HTTP/1.1"), 400, EMPTY_LINES, BARE_CR),
    refuse("line-without-target", line(b"GET HTTP/1.1"), 400, LINE, "a request line has three parts"),
    refuse("line-without-method", line(b"/ HTTP/1.1"), 400, LINE, "a request line has three parts"),
    refuse("line-method-alone", line(b"GET"), 400, LINE, "a request line has three parts"),
    refuse("line-of-http-0.9", b"GET /\r\n", 400, VERSION, "a request line without version is history"),
    refuse("line-of-http-0.9-with-fields", line(b"GET /"), 400, VERSION, "the same in modern dress"),
    refuse("line-that-is-a-response", line(b"HTTP/1.1 200 OK"), 400, LINE, "we are not the client"),
    refuse("line-of-letters", b"hello\r\n\r\n", 400, LINE, "a request line has three parts"),
    refuse(
        "line-of-tls", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, LINE, "TLS on a port without it"
    ),
    refuse(
        "line-of-http2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, VERSION, "HTTP/2 begins with a connection"
    ),
]

VERSIONS = [
    Case("version-1.0", b"GET / HTTP/1.0\r\n\r\n", (200,), (Sight("GET", b"/"),), True, VERSION, "closes"),
    accept(
        "version-1.2", line(b"GET / HTTP/1.2"), "RFC 9110, 2.5", "a higher minor version is served as 1.1"
    ),
    accept(
        "version-1.9", line(b"GET / HTTP/1.9"), "RFC 9110, 2.5", "a higher minor version is served as 1.1"
    ),
    refuse("version-0.9", line(b"GET / HTTP/0.9"), 505, "RFC 9110, 15.6.6", "another major version"),
    refuse("version-2.0", line(b"GET / HTTP/2.0"), 505, "RFC 9110, 15.6.6", "another major version"),
    refuse("version-3.0", line(b"GET / HTTP/3.0"), 505, "RFC 9110, 15.6.6", "another major version"),
    refuse("version-9.9", line(b"GET / HTTP/9.9"), 505, "RFC 9110, 15.6.6", "another major version"),
    refuse("version-lower-case", line(b"GET / http/1.1"), 400, VERSION, NOT_A_VERSION),
    refuse("version-mixed-case", line(b"GET / Http/1.1"), 400, VERSION, NOT_A_VERSION),
    refuse("version-1.10", line(b"GET / HTTP/1.10"), 400, VERSION, NOT_A_VERSION),
    refuse("version-01.1", line(b"GET / HTTP/01.1"), 400, VERSION, NOT_A_VERSION),
    refuse("version-1.", line(b"GET / HTTP/1."), 400, VERSION, NOT_A_VERSION),
    refuse("version-1", line(b"GET / HTTP/1"), 400, VERSION, NOT_A_VERSION),
    refuse("version-11", line(b"GET / HTTP/11"), 400, VERSION, NOT_A_VERSION),
    refuse("version-1-1", line(b"GET / HTTP/1,1"), 400, VERSION, NOT_A_VERSION),
    refuse("version-signed", line(b"GET / HTTP/+1.1"), 400, VERSION, NOT_A_VERSION),
    refuse("version-with-a-space", line(b"GET / HTTP/ 1.1"), 400, VERSION, NOT_A_VERSION),
    refuse("version-with-a-tail", line(b"GET / HTTP/1.1x"), 400, VERSION, NOT_A_VERSION),
    refuse("version-https", line(b"GET / HTTPS/1.1"), 400, VERSION, NOT_A_VERSION),
    refuse("version-nul", line(b"GET / HTTP/1.1\x00"), 400, VERSION, NOT_A_VERSION),
    refuse("version-full-width", line(b"GET / HTTP/1.\xef\xbc\x91"), 400, VERSION, NOT_A_VERSION),
]

METHODS = [
    accept("method-unknown", line(b"PURGE / HTTP/1.1"), METHOD, "methods are the app's", method="PURGE"),
    accept("method-with-a-dash", line(b"M-SEARCH / HTTP/1.1"), METHOD, "a token", method="M-SEARCH"),
    accept(
        "method-of-specials", line(b"!#$%&'*+-.^_`|~ / HTTP/1.1"), METHOD, "a token", method="!#$%&'*+-.^_`|~"
    ),
    accept("method-trace", line(b"TRACE / HTTP/1.1"), METHOD, "methods are the app's", method="TRACE"),
    refuse(
        "method-lower-case", line(b"get / HTTP/1.1"), 501, METHOD, "`get` is not GET, and no method we know"
    ),
    refuse(
        "method-mixed-case", line(b"Get / HTTP/1.1"), 501, METHOD, "`Get` is not GET, and no method we know"
    ),
    refuse("method-with-parenthesis", line(b"GE(T / HTTP/1.1"), 400, METHOD, "a method is a token"),
    refuse("method-with-colon", line(b"GET: / HTTP/1.1"), 400, METHOD, "a method is a token"),
    refuse("method-with-quotes", line(b'"GET" / HTTP/1.1'), 400, METHOD, "a method is a token"),
    refuse("method-with-nul", line(b"G\x00ET / HTTP/1.1"), 400, METHOD, "a method is a token"),
    refuse("method-with-delete", line(b"GET\x7f / HTTP/1.1"), 400, METHOD, "a method is a token"),
    refuse("method-not-ascii", line(b"G\xc3\x8bT / HTTP/1.1"), 400, METHOD, "a method is a token"),
]

FIELDS = [
    accept("field-names-in-any-case", get(b"X-A: 1"), NAME, "names are told to the app in lower case", fields=[(b"x-a", b"1")]),
    accept("field-all-token-characters", get(b"!#$%&'*+-.^_`|~0aA: 1"), NAME, "a token", fields=[(b"!#$%&'*+-.^_`|~0aa", b"1")]),
    accept("field-twice", get(b"A: 1", b"A: 2"), "RFC 9110, 5.3", "order and number are kept", fields=[(b"a", b"1")]),
    refuse("field-space-before-colon", get(b"A : 1"), 400, FIELD, "response-splitting and smuggling came of it"),
    refuse("field-tab-before-colon", get(b"A\t: 1"), 400, FIELD, "the same with a tab"),
    refuse("field-without-colon", get(b"A"), 400, FIELD, "a field line has a colon"),
    refuse("field-without-name", get(b": 1"), 400, FIELD, "a name is a token"),
    refuse("field-colon-alone", get(b":"), 400, FIELD, "a name is a token"),
    refuse("field-space-in-name", get(b"A B: 1"), 400, FIELD, "a name is a token"),
    refuse("field-nul-in-name", get(b"A\x00: 1"), 400, FIELD, "a name is a token"),
    refuse("field-control-in-name", get(b"\x0bA: 1"), 400, FIELD, "a name is a token"),
    refuse("field-delete-in-name", get(b"A\x7f: 1"), 400, FIELD, "a name is a token"),
    refuse("field-parenthesis-in-name", get(b"A(B: 1"), 400, FIELD, "a name is a token"),
    refuse("field-slash-in-name", get(b"A/B: 1"), 400, FIELD, "a name is a token"),
    refuse("field-quotes-in-name", get(b'"A": 1'), 400, FIELD, "a name is a token"),
    refuse("field-name-not-ascii", get(b"\xc3\x84: 1"), 400, FIELD, "a name is a token"),
    refuse("field-name-after-no-break-space", get(b"\xa0A: 1"), 400, FIELD, "a name is a token"),
    refuse("field-cr-in-name", get(b"A\r: 1"), 400, FIELD, "a name is a token"),
    refuse("field-lf-in-name", get(b"A\n: 1"), 400, EMPTY_LINES, BARE_LF),
]  # fmt: skip

FOLDS = [
    refuse("fold-with-space", get(b"A: 1", b" 2"), 400, FOLD, "obs-fold is refused or unfolded; refused it cannot be misread"),
    refuse("fold-with-tab", get(b"A: 1", b"\t2"), 400, FOLD, "the same with a tab"),
    refuse("fold-of-white-space", get(b"A: 1", b" "), 400, FOLD, "a line of white space is no empty line"),
    refuse("fold-that-is-a-field", get(b"A: 1", b" Content-Length: 5"), 400, FOLD, "a field in hiding"),
    refuse("fold-of-the-first-line", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400, EMPTY_LINES, "no white space before the first field"),
    refuse("fold-of-an-empty-value", get(b"A:", b" 1"), 400, FOLD, "the same behind an empty value"),
    refuse("fold-of-host", hosts(b"Host:", b" a"), 400, FOLD, "the same in Host"),
]  # fmt: skip

VALUES = [
    accept("value-trimmed", get(b"A: \t 1 \t "), FIELD, "white space around a value is not part of it", fields=[(b"a", b"1")]),
    accept("value-without-space", get(b"A:1"), FIELD, "white space is optional", fields=[(b"a", b"1")]),
    accept("value-empty", get(b"A:"), VALUE, "a value may be empty", fields=[(b"a", b"")]),
    accept("value-of-white-space", get(b"A: \t "), VALUE, "which makes an empty one", fields=[(b"a", b"")]),
    accept("value-with-tab", get(b"A: 1\t2"), VALUE, "a tab is white space", fields=[(b"a", b"1\t2")]),
    accept("value-with-colons", get(b"A: b: c"), VALUE, "only the first colon counts", fields=[(b"a", b"b: c")]),
    accept("value-of-old-bytes", get(b"A: \xe9\xff\x80"), VALUE, "obs-text is opaque data", fields=[(b"a", b"\xe9\xff\x80")]),
    refuse("value-with-nul", get(b"A: 1\x002"), 400, VALUE, CONTROL),
    refuse("value-with-bare-cr", get(b"A: 1\r2"), 400, VALUE, BARE_CR),
    refuse("value-with-field-behind-cr", get(b"A: 1\rContent-Length: 5"), 400, VALUE, BARE_CR),
    refuse("value-with-bare-lf", get(b"A: 1\n2"), 400, EMPTY_LINES, BARE_LF),
    refuse("value-with-field-behind-lf", get(b"A: 1\nContent-Length: 5"), 400, EMPTY_LINES, BARE_LF),
    refuse("value-with-cr-at-the-end", get(b"A: 1\r"), 400, VALUE, BARE_CR),
    refuse("value-with-bell", get(b"A: \x07"), 400, VALUE, CONTROL),
    refuse("value-with-backspace", get(b"A: \x08"), 400, VALUE, CONTROL),
    refuse("value-with-vertical-tab", get(b"A: \x0b1"), 400, VALUE, CONTROL),
    refuse("value-with-form-feed", get(b"A: 1\x0c"), 400, VALUE, CONTROL),
    refuse("value-with-escape", get(b"A: \x1b[2J"), 400, VALUE, CONTROL),
    refuse("value-with-delete", get(b"A: \x7f"), 400, VALUE, CONTROL),
    refuse("value-with-smuggled-request", get(b"A: 1\n\nGET /x HTTP/1.1\nHost: a\n"), 400, EMPTY_LINES, BARE_LF),
]  # fmt: skip

LINE_ENDS = [
    refuse("ends-all-bare-lf", b"GET / HTTP/1.1\nHost: a\n\n", 400, EMPTY_LINES, BARE_LF),
    refuse("ends-lf-after-request-line", b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400, EMPTY_LINES, BARE_LF),
    refuse("ends-lf-after-a-field", b"GET / HTTP/1.1\r\nHost: a\nA: 1\r\n\r\n", 400, EMPTY_LINES, BARE_LF),
    refuse("ends-empty-line-is-lf", b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400, EMPTY_LINES, BARE_LF),
    refuse("ends-lf-then-crlf", b"GET / HTTP/1.1\r\nHost: a\n\r\n", 400, EMPTY_LINES, BARE_LF),
    refuse("ends-all-bare-cr", b"GET / HTTP/1.1\rHost: a\r\r\r\n\r\n", 400, EMPTY_LINES, BARE_CR),
    refuse("ends-cr-cr-lf", b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", 400, EMPTY_LINES, BARE_CR),
    refuse("ends-lf-cr", b"GET / HTTP/1.1\n\rHost: a\n\r\n\r", 400, EMPTY_LINES, BARE_LF),
    refuse("ends-empty-line-is-cr-cr-lf", b"GET / HTTP/1.1\r\nHost: a\r\n\r\r\n\r\n", 400, EMPTY_LINES, BARE_CR),
]  # fmt: skip

SIZES = [
    accept("size-most-fields", get(*[b"A: 1"] * (MAX_FIELDS - 1)), SIZE, "as many as are allowed"),
    refuse("size-too-many-fields", get(*[b"A: 1"] * MAX_FIELDS), 431, SIZE, "one more than are allowed"),
    refuse("size-field-too-large", get(b"A: " + b"1" * MAX_HEAD_BYTES), 431, SIZE, "a head has a limit"),
    refuse("size-fields-too-large", get(*[b"A: " + b"1" * 300] * 20), 431, SIZE, "a head has a limit"),
    refuse("size-line-too-long", line(b"GET /%b HTTP/1.1" % (b"a" * MAX_HEAD_BYTES)), 414, "RFC 9112, 3", "a target longer than we parse"),
    refuse("size-method-too-long", line(b"A" * MAX_HEAD_BYTES + b" / HTTP/1.1"), 414, "RFC 9112, 3", "Decided: 414, for which part is too long is not known; 501 is the other choice"),
]  # fmt: skip

HOSTS = [
    accept("host-name", hosts(b"Host: a.example"), HOST, "a name", fields=[(b"host", b"a.example")]),
    accept("host-and-port", hosts(b"Host: a:8000"), HOST, "a name and a port", fields=[(b"host", b"a:8000")]),
    accept("host-empty-port", hosts(b"Host: a:"), "RFC 3986, 3.2.3", "a port may be empty", fields=[(b"host", b"a:")]),
    accept("host-ipv6", hosts(b"Host: [::1]:80"), HOST, "an IP literal", fields=[(b"host", b"[::1]:80")]),
    accept("host-underscore", hosts(b"Host: a_b"), "RFC 3986, 3.2.2", "not DNS, but a name", fields=[(b"host", b"a_b")]),
    accept("host-trailing-dot", hosts(b"Host: a."), "RFC 3986, 3.2.2", "rooted", fields=[(b"host", b"a.")]),
    accept("host-percent-encoded", hosts(b"Host: a%20b"), "RFC 3986, 3.2.2", "left alone", fields=[(b"host", b"a%20b")]),
    accept("host-not-the-first-field", hosts(b"A: 1", b"Host: a"), HOST, "order is of no matter", fields=[(b"host", b"a")]),
    accept("host-absent-in-1.0", hosts(version=b"1.0"), HOST, "HTTP/1.0 knew none", closes=True),
    refuse("host-absent", hosts(), 400, HOST, "every HTTP/1.1 request has one"),
    refuse("host-twice", hosts(b"Host: a", b"Host: b"), 400, HOST, "and no request has two"),
    refuse("host-twice-the-same", hosts(b"Host: a", b"Host: a"), 400, HOST, "not even equal ones"),
    refuse("host-twice-in-1.0", hosts(b"Host: a", b"Host: b", version=b"1.0"), 400, HOST, "in no version"),
    refuse("host-twice-in-other-case", hosts(b"Host: a", b"hOST: b"), 400, HOST, "names have no case"),
    refuse("host-empty", hosts(b"Host:"), 400, "RFC 9110, 4.2.1", "Decided: an http URI without host is invalid"),
    refuse("host-port-alone", hosts(b"Host: :80"), 400, "RFC 9110, 4.2.1", "Decided: an http URI without host is invalid"),
    refuse("host-space-inside", hosts(b"Host: a b"), 400, HOST, "not an authority"),
    refuse("host-list", hosts(b"Host: a, b"), 400, HOST, "not an authority"),
    refuse("host-with-path", hosts(b"Host: a/b"), 400, HOST, "not an authority"),
    refuse("host-with-userinfo", hosts(b"Host: u@a"), 400, HOST, "Host has no userinfo"),
    refuse("host-with-query", hosts(b"Host: a?b"), 400, HOST, "not an authority"),
    refuse("host-with-fragment", hosts(b"Host: a#b"), 400, HOST, "not an authority"),
    refuse("host-with-backslash", hosts(b"Host: a\\b"), 400, HOST, "not an authority"),
    refuse("host-with-scheme", hosts(b"Host: http://a"), 400, HOST, "not an authority"),
    refuse("host-not-ascii", hosts(b"Host: \xc3\xa4"), 400, HOST, "not an authority"),
    refuse("host-bad-percent", hosts(b"Host: a%2"), 400, HOST, "not an authority"),
    refuse("host-port-of-letters", hosts(b"Host: a:b"), 400, HOST, "a port is digits"),
    refuse("host-port-signed", hosts(b"Host: a:-1"), 400, HOST, "a port is digits"),
    refuse("host-port-too-long", hosts(b"Host: a:100000"), 400, HOST, "Decided: a port has five digits at most"),
    refuse("host-two-ports", hosts(b"Host: a:80:80"), 400, HOST, "not an authority"),
    refuse("host-ipv6-open", hosts(b"Host: [::1"), 400, HOST, "an IP literal has two brackets"),
    refuse("host-ipv6-bare", hosts(b"Host: ::1"), 400, HOST, "an IP literal has two brackets"),
    refuse("host-ipv6-with-a-tail", hosts(b"Host: [::1]a"), 400, HOST, "not an authority"),
    refuse("host-ipv6-empty", hosts(b"Host: []"), 400, HOST, "not an authority"),
    refuse("host-space-before-colon", hosts(b"Host : a"), 400, FIELD, "the most wanted of the field tricks"),
    refuse("host-and-another-with-space", hosts(b"Host: a", b"Host : b"), 400, FIELD, "likewise"),
    refuse("host-underscored-is-no-host", hosts(b"Host_: a"), 400, HOST, "another name"),
]  # fmt: skip

CASES = [*REQUEST_LINES, *VERSIONS, *METHODS, *FIELDS, *FOLDS, *VALUES, *LINE_ENDS, *SIZES, *HOSTS]
