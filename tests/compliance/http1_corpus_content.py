"""Rows about where the content ends: Content-Length, Transfer-Encoding, chunks and trailers."""

from .http1_corpus import MAX_FIELDS, Case, Sight, accept, chunked, get, line, post, refuse

LENGTH = "RFC 9112, 6.2; RFC 9110, 8.6"
CODING = "RFC 9112, 6.1"
FRAMING = "RFC 9112, 6.3"
CHUNK = "RFC 9112, 7.1"
EXTENSION = "RFC 9112, 7.1.1"
TRAILER = "RFC 9112, 7.1.2; RFC 9110, 6.5"
INCOMPLETE = "RFC 9112, 8"
NAME = "RFC 9112, 5.1"

DIGITS = "a length is digits, and nothing else"
ONE = "Decided: equal lengths may be taken for one; those on the way may have taken another"
BOTH = "may be a smuggling attempt. Decided: refused, rather than taken for chunked"
LAST = "if chunked is not the last coding, nobody knows where the content ends"
HIDDEN = "a coding that some take for chunked and some do not"
HEX = "a chunk size is hexadecimal digits, and nothing else"
OVERFLOW = "a number that overflows in others is not let pass"
EXTENSION_GRAMMAR = "unknown extensions are ignored, but what is not one is refused"
FORBIDDEN = "trailers for framing and routing are never sent. Decided: refused, rather than dropped"
BARE_LF = "a bare LF does not end a line of chunked coding"

LAST_CHUNK = b"0\r\n\r\n"
HELLO = b"5\r\nhello\r\n" + LAST_CHUNK


def measured(name: str, *lines: bytes, section: str = LENGTH, why: str = DIGITS) -> Case:
    """A POST whose length is in doubt; refused."""
    return refuse(name, post(*lines, content=b"hello"), 400, section, why)


def coded(name: str, *lines: bytes, status: int = 400, section: str = CODING, why: str = HIDDEN) -> Case:
    """A POST whose coding is in doubt; refused."""
    return refuse(name, post(*lines, content=HELLO), status, section, why)


def bad_chunk(name: str, content: bytes, section: str = CHUNK, why: str = HEX) -> Case:
    """A POST whose chunks are malformed; refused."""
    return refuse(name, chunked(content), 400, section, why)


def good_chunks(name: str, content: bytes, body: bytes, section: str, why: str) -> Case:
    """A POST whose chunks are well-formed, odd as they may be."""
    return accept(name, chunked(content), section, why, method="POST", body=body)


def bad_trailer(name: str, *lines: bytes, section: str = TRAILER, why: str, status: int = 400) -> Case:
    """A POST with chunked content and a trailer section that is refused."""
    section_bytes = b"".join(b"%b\r\n" % each for each in lines)
    return refuse(name, chunked(b"0\r\n" + section_bytes + b"\r\n"), status, section, why)


LENGTHS = [
    accept("length", post(b"Content-Length: 5", content=b"hello"), LENGTH, "five bytes", method="POST", body=b"hello"),
    accept("length-zero", post(b"Content-Length: 0"), LENGTH, "no content", method="POST"),
    accept("length-absent", post(), FRAMING, "no content", method="POST"),
    accept("length-leading-zeros", post(b"Content-Length: 005", content=b"hello"), LENGTH, "still digits", method="POST", body=b"hello"),
    accept("length-with-white-space", post(b"Content-Length: \t5 \t", content=b"hello"), NAME, "not part of the value", method="POST", body=b"hello"),
    accept("length-of-get", get(b"Content-Length: 5") + b"hello", "RFC 9110, 9.3.1", "content of a GET is content", body=b"hello"),
    accept("length-of-a-request", get(b"Content-Length: 16") + b"GET /x HTTP/1.1\r", FRAMING, "content is no request", body=b"GET /x HTTP/1.1\r"),
    accept("length-in-1.0", b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello", LENGTH, "in every version", method="POST", body=b"hello", closes=True),
    accept("length-underscored", get(b"Content_Length: 5"), NAME, "another name"),
    accept("length-in-another-name", get(b"X-Content-Length: 5"), NAME, "another name"),
    measured("length-plus", b"Content-Length: +5"),
    measured("length-minus", b"Content-Length: -5"),
    measured("length-minus-zero", b"Content-Length: -0"),
    measured("length-hexadecimal", b"Content-Length: 0x5"),
    measured("length-octal", b"Content-Length: 0o5"),
    measured("length-underscores", b"Content-Length: 0_5"),
    measured("length-decimal", b"Content-Length: 5.0"),
    measured("length-exponent", b"Content-Length: 5e0"),
    measured("length-letters", b"Content-Length: five"),
    measured("length-empty", b"Content-Length:"),
    measured("length-of-white-space", b"Content-Length: \t"),
    measured("length-space-inside", b"Content-Length: 0 5"),
    measured("length-semicolon", b"Content-Length: 5;"),
    measured("length-comma", b"Content-Length: 5,"),
    measured("length-quoted", b'Content-Length: "5"'),
    measured("length-arabic-digit", b"Content-Length: \xd9\xa5"),
    measured("length-full-width-digit", b"Content-Length: \xef\xbc\x95"),
    measured("length-superscript", b"Content-Length: \xb2"),
    measured("length-nul", b"Content-Length: 5\x00"),
    measured("length-vertical-tab", b"Content-Length: \x0b5"),
    measured("length-no-break-space", b"Content-Length: \xa05"),
    measured("length-bare-cr", b"Content-Length: 5\r"),
    measured("length-list-equal", b"Content-Length: 5, 5", why=ONE),
    measured("length-list-differing", b"Content-Length: 5, 6", section=FRAMING, why="which of them?"),
    measured("length-list-without-space", b"Content-Length: 5,5", why=ONE),
    measured("length-twice-equal", b"Content-Length: 5", b"Content-Length: 5", why=ONE),
    measured("length-twice-differing", b"Content-Length: 5", b"Content-Length: 6", section=FRAMING, why="which of them?"),
    measured("length-twice-zero-and-five", b"Content-Length: 0", b"Content-Length: 5", section=FRAMING, why="which of them?"),
    measured("length-twice-in-other-case", b"Content-Length: 5", b"cONTENT-lENGTH: 6", section=FRAMING, why="names have no case"),
    measured("length-twice-one-empty", b"Content-Length: 5", b"Content-Length:"),
    measured("length-19-digits", b"Content-Length: 9223372036854775807", why=OVERFLOW),
    measured("length-beyond-32-bits-and-more", b"Content-Length: 18446744073709551621", why=OVERFLOW),
    measured("length-of-a-hundred-digits", b"Content-Length: " + b"9" * 100, why=OVERFLOW),
    measured("length-of-many-zeros", b"Content-Length: " + b"0" * 100 + b"5", why="Decided: eighteen digits are enough"),
    measured("length-space-before-colon", b"Content-Length : 5", section=NAME, why="no white space before the colon"),
    measured("length-tab-before-colon", b"Content-Length\t: 5", section=NAME, why="no white space before the colon"),
    measured("length-nul-in-name", b"Content-Length\x00: 5", section=NAME, why="a name is a token"),
    measured("length-control-before-name", b"\x0bContent-Length: 5", section=NAME, why="a name is a token"),
    measured("length-folded", b"Content-Length:", b" 5", section="RFC 9112, 5.2", why="no folded lines"),
    measured("length-behind-a-fold", b"A: 1", b" Content-Length: 5", section="RFC 9112, 5.2", why="no folded lines"),
    measured("length-behind-a-bare-lf", b"A: 1\nContent-Length: 5", section="RFC 9112, 2.2", why="no bare line ends"),
    measured("length-behind-a-bare-cr", b"A: 1\rContent-Length: 5", section="RFC 9112, 2.2", why="no bare line ends"),
    Case(
        "length-too-short", post(b"Content-Length: 4", content=b"hello"), (200, 501), (Sight("POST", b"/", b"hell"),),
        True, FRAMING, "what is behind the content is the next request: of a method called oGET",
    ),
    Case(
        "length-too-long", post(b"Content-Length: 6", content=b"hello"), (), (), True, INCOMPLETE,
        "incomplete content is never given out for complete", eof=True,
    ),
    Case(
        "length-and-nothing", post(b"Content-Length: 5"), (), (), True, INCOMPLETE,
        "incomplete content is never given out for complete", eof=True,
    ),
]  # fmt: skip

CODINGS = [
    accept("coding-chunked", chunked(HELLO), CODING, "the one we know", method="POST", body=b"hello"),
    accept("coding-in-capitals", post(b"Transfer-Encoding: CHUNKED", content=HELLO), "RFC 9112, 7", "codings have no case", method="POST", body=b"hello"),
    accept("coding-after-tab", post(b"Transfer-Encoding:\tchunked \t", content=HELLO), NAME, "white space is no part of a value", method="POST", body=b"hello"),
    accept("coding-of-get", get(b"Transfer-Encoding: chunked") + HELLO, "RFC 9110, 9.3.1", "content of a GET is content", body=b"hello"),
    accept("coding-of-content", get(b"Content-Encoding: chunked"), "RFC 9110, 8.4", "another field, for the app"),
    accept("coding-te", get(b"TE: chunked"), "RFC 9110, 10.1.4", "what the client accepts", fields=[(b"te", b"chunked")]),
    coded("coding-and-length", b"Content-Length: 6", b"Transfer-Encoding: chunked", section=FRAMING, why=BOTH),
    coded("coding-before-length", b"Transfer-Encoding: chunked", b"Content-Length: 6", section=FRAMING, why=BOTH),
    coded("coding-and-length-zero", b"Transfer-Encoding: chunked", b"Content-Length: 0", section=FRAMING, why=BOTH),
    coded("coding-unknown-and-length", b"Transfer-Encoding: x", b"Content-Length: 5", section=FRAMING, why=BOTH),
    coded("coding-identity-and-length", b"Transfer-Encoding: identity", b"Content-Length: 5", section=FRAMING, why=BOTH),
    refuse(
        "coding-in-1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + HELLO, 400, CODING,
        "HTTP/1.0 has no codings; whoever sent it on has missed it",
    ),
    coded("coding-identity", b"Transfer-Encoding: identity", section=FRAMING, why=LAST),
    coded("coding-gzip", b"Transfer-Encoding: gzip", section=FRAMING, why=LAST),
    coded("coding-chunked-gzip", b"Transfer-Encoding: chunked, gzip", section=FRAMING, why=LAST),
    coded("coding-chunked-identity", b"Transfer-Encoding: chunked, identity", section=FRAMING, why=LAST),
    coded("coding-chunked-then-identity-line", b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", section=FRAMING, why=LAST),
    coded("coding-twice-chunked", b"Transfer-Encoding: chunked, chunked", why="chunked is applied once"),
    coded("coding-twice-chunked-lines", b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", why="chunked is applied once"),
    coded("coding-gzip-chunked", b"Transfer-Encoding: gzip, chunked", status=501, why="a coding we do not have"),
    coded("coding-gzip-chunked-lines", b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked", status=501, why="a coding we do not have"),
    coded("coding-identity-chunked", b"Transfer-Encoding: identity, chunked", status=501, why="no longer a coding (RFC 7230, A.2)"),
    coded("coding-unknown-chunked", b"Transfer-Encoding: x, chunked", status=501, why="a coding we do not have"),
    coded("coding-empty", b"Transfer-Encoding:"),
    coded("coding-comma", b"Transfer-Encoding: ,"),
    coded("coding-comma-behind", b"Transfer-Encoding: chunked,"),
    coded("coding-comma-before", b"Transfer-Encoding: ,chunked"),
    coded("coding-empty-and-chunked", b"Transfer-Encoding:", b"Transfer-Encoding: chunked"),
    coded("coding-prefixed", b"Transfer-Encoding: xchunked"),
    coded("coding-suffixed", b"Transfer-Encoding: chunkedx"),
    coded("coding-dashed", b"Transfer-Encoding: x-chunked"),
    coded("coding-with-parameter", b"Transfer-Encoding: chunked;q=1", why="chunked has no parameters"),
    coded("coding-with-semicolon", b"Transfer-Encoding: chunked;", why="chunked has no parameters"),
    coded("coding-quoted", b'Transfer-Encoding: "chunked"'),
    coded("coding-single-quoted", b"Transfer-Encoding: 'chunked'"),
    coded("coding-in-brackets", b"Transfer-Encoding: [chunked]"),
    coded("coding-with-a-colon", b"Transfer-Encoding: : chunked"),
    coded("coding-with-space-inside", b"Transfer-Encoding: chun ked"),
    coded("coding-behind-a-word", b"Transfer-Encoding: cow chunked"),
    coded("coding-with-vertical-tab", b"Transfer-Encoding: \x0bchunked"),
    coded("coding-with-form-feed", b"Transfer-Encoding: chunked\x0c"),
    coded("coding-with-nul", b"Transfer-Encoding: chunked\x00"),
    coded("coding-with-no-break-space", b"Transfer-Encoding: chunked\xa0"),
    coded("coding-with-kelvin-sign", "Transfer-Encoding: chun\u212aed".encode()),
    coded("coding-with-bare-cr", b"Transfer-Encoding: chunked\r"),
    coded("coding-folded", b"Transfer-Encoding:", b" chunked", section="RFC 9112, 5.2", why="no folded lines"),
    coded("coding-space-before-colon", b"Transfer-Encoding : chunked", section=NAME, why="no white space before the colon"),
    coded("coding-space-in-name", b"Transfer Encoding: chunked", section=NAME, why="a name is a token"),
    coded("coding-no-break-space-in-name", b"Transfer-Encoding\xa0: chunked", section=NAME, why="a name is a token"),
    coded("coding-behind-a-bare-lf", b"A: 1\nTransfer-Encoding: chunked", section="RFC 9112, 2.2", why="no bare line ends"),
    coded("coding-behind-a-bare-cr", b"A: 1\rTransfer-Encoding: chunked", section="RFC 9112, 2.2", why="no bare line ends"),
    Case(
        "coding-underscored", post(b"Transfer_Encoding: chunked", content=HELLO), (200, 400), (Sight("POST", b"/"),),
        True, NAME, "another name: there is no content, and chunks are no request",
    ),
]  # fmt: skip

CHUNKS = [
    good_chunks("chunks-several", b"5\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n" + LAST_CHUNK, b"hello world", CHUNK, "pieces"),
    good_chunks("chunks-none", LAST_CHUNK, b"", CHUNK, "empty content"),
    good_chunks("chunks-hexadecimal", b"A\r\n0123456789\r\na\r\n0123456789\r\n" + LAST_CHUNK, b"0123456789" * 2, CHUNK, "digits in any case"),
    good_chunks("chunks-leading-zeros", b"0000000000000005\r\nhello\r\n" + LAST_CHUNK, b"hello", CHUNK, "still digits"),
    good_chunks("chunks-last-of-zeros", b"5\r\nhello\r\n0000\r\n\r\n", b"hello", CHUNK, "the last chunk is zeros"),
    good_chunks("chunks-of-line-ends", b"4\r\n\r\n\r\n\r\n" + LAST_CHUNK, b"\r\n\r\n", CHUNK, "data is data"),
    good_chunks("chunks-of-chunks", b"5\r\n0\r\n\r\n\r\n" + LAST_CHUNK, LAST_CHUNK, CHUNK, "data is data"),
    good_chunks("chunks-of-a-request", b"11\r\nGET /x HTTP/1.1\r\n\r\n" + LAST_CHUNK, b"GET /x HTTP/1.1\r\n", CHUNK, "content is no request"),
    bad_chunk("chunk-size-0x", b"0x5\r\nhello\r\n" + LAST_CHUNK),
    bad_chunk("chunk-size-0x0", b"0x0\r\n\r\n"),
    bad_chunk("chunk-size-plus", b"+5\r\nhello\r\n" + LAST_CHUNK),
    bad_chunk("chunk-size-minus", b"-5\r\nhello\r\n" + LAST_CHUNK),
    bad_chunk("chunk-size-minus-zero", b"-0\r\n\r\n"),
    bad_chunk("chunk-size-underscore", b"0_5\r\nhello\r\n" + LAST_CHUNK),
    bad_chunk("chunk-size-letter", b"5h\r\nhello\r\n" + LAST_CHUNK),
    bad_chunk("chunk-size-h", b"g\r\nhello\r\n" + LAST_CHUNK),
    bad_chunk("chunk-size-decimal", b"5.0\r\nhello\r\n" + LAST_CHUNK),
    bad_chunk("chunk-size-empty", b"\r\nhello\r\n" + LAST_CHUNK),
    bad_chunk("chunk-size-space-before", b" 5\r\nhello\r\n" + LAST_CHUNK),
    bad_chunk("chunk-size-tab-before", b"\t5\r\nhello\r\n" + LAST_CHUNK),
    bad_chunk("chunk-size-space-behind", b"5 \r\nhello\r\n" + LAST_CHUNK, why="some pad their sizes; the grammar does not"),
    bad_chunk("chunk-size-tab-behind", b"5\t\r\nhello\r\n" + LAST_CHUNK, why="some pad their sizes; the grammar does not"),
    bad_chunk("chunk-size-space-inside", b"0 5\r\nhello\r\n" + LAST_CHUNK),
    bad_chunk("chunk-size-nul", b"5\x00\r\nhello\r\n" + LAST_CHUNK),
    bad_chunk("chunk-size-vertical-tab", b"5\x0b\r\nhello\r\n" + LAST_CHUNK),
    bad_chunk("chunk-size-full-width", b"\xef\xbc\x95\r\nhello\r\n" + LAST_CHUNK),
    bad_chunk("chunk-size-comma", b"5,5\r\nhello\r\n" + LAST_CHUNK),
    bad_chunk("chunk-size-17-digits", b"00000000000000005\r\nhello\r\n" + LAST_CHUNK, why=OVERFLOW),
    bad_chunk("chunk-size-beyond-64-bits", b"10000000000000005\r\nhello\r\n" + LAST_CHUNK, why=OVERFLOW),
    bad_chunk("chunk-size-64-bits", b"ffffffffffffffff\r\nhello\r\n" + LAST_CHUNK, why=OVERFLOW),
    bad_chunk("chunk-size-63-bits-and-one", b"8000000000000000\r\nhello\r\n" + LAST_CHUNK, why=OVERFLOW),
    bad_chunk("chunk-size-of-many-zeros", b"0" * 100 + b"\r\n\r\n", why=OVERFLOW),
    bad_chunk("chunk-size-bare-lf", b"5\nhello\r\n" + LAST_CHUNK, why=BARE_LF),
    bad_chunk("chunk-size-bare-cr", b"5\rhello\r\n" + LAST_CHUNK, why="nor does a bare CR"),
    bad_chunk("chunk-size-cr-cr-lf", b"5\r\r\nhello\r\n" + LAST_CHUNK, why="nor does a bare CR"),
    bad_chunk("chunk-all-bare-lf", b"5\nhello\n0\n\n", why=BARE_LF),
    bad_chunk("chunk-data-too-long", b"4\r\nhello\r\n" + LAST_CHUNK, why="data ends where its size says"),
    bad_chunk("chunk-data-too-short", b"6\r\nhello\r\n" + LAST_CHUNK, why="data ends where its size says"),
    bad_chunk("chunk-data-without-end", b"5\r\nhello" + LAST_CHUNK, why="data is followed by CR LF"),
    bad_chunk("chunk-data-ends-in-lf", b"5\r\nhello\n" + LAST_CHUNK, why=BARE_LF),
    bad_chunk("chunk-data-ends-in-cr", b"5\r\nhello\r" + LAST_CHUNK, why="data is followed by CR LF"),
    bad_chunk("chunk-data-ends-in-two-bytes", b"5\r\nhelloXX" + LAST_CHUNK, why="some skip any two bytes there"),
    bad_chunk("chunk-data-ends-twice", b"5\r\nhello\r\n\r\n" + LAST_CHUNK, why="an empty size is no size"),
    bad_chunk("chunk-last-ends-in-lf", b"0\n\n", why=BARE_LF),
    bad_chunk("chunk-last-then-lf", b"0\r\n\n", why=BARE_LF),
    bad_chunk("chunk-line-too-long", b"5;" + b"a" * 9000 + b"\r\nhello\r\n" + LAST_CHUNK, section=EXTENSION, why="extensions have a limit"),
    Case("chunk-none-and-the-end", chunked(b""), (), (), True, INCOMPLETE, "without the last chunk it is incomplete", eof=True),
    Case("chunk-last-missing", chunked(b"5\r\nhello\r\n"), (), (), True, INCOMPLETE, "without the last chunk it is incomplete", eof=True),
    Case("chunk-last-unfinished", chunked(b"5\r\nhello\r\n0\r\n"), (), (), True, INCOMPLETE, "without its empty line the last chunk is too", eof=True),
]  # fmt: skip

EXTENSIONS = [
    good_chunks("extension-name", b"5;a\r\nhello\r\n" + LAST_CHUNK, b"hello", EXTENSION, "ignored"),
    good_chunks("extension-value", b"5;a=b\r\nhello\r\n" + LAST_CHUNK, b"hello", EXTENSION, "ignored"),
    good_chunks("extension-several", b"5;a=b;c;d=e\r\nhello\r\n" + LAST_CHUNK, b"hello", EXTENSION, "ignored"),
    good_chunks("extension-quoted", b'5;a="b;c\\"\t\xff"\r\nhello\r\n' + LAST_CHUNK, b"hello", EXTENSION, "ignored"),
    good_chunks("extension-bad-white-space", b"5 ; a\t= b\r\nhello\r\n" + LAST_CHUNK, b"hello", EXTENSION, "recipients bear it"),
    good_chunks("extension-of-the-last", b"5\r\nhello\r\n0;a=b\r\n\r\n", b"hello", EXTENSION, "ignored"),
    bad_chunk("extension-empty", b"5;\r\nhello\r\n" + LAST_CHUNK, EXTENSION, EXTENSION_GRAMMAR),
    bad_chunk("extension-empty-value", b"5;a=\r\nhello\r\n" + LAST_CHUNK, EXTENSION, EXTENSION_GRAMMAR),
    bad_chunk("extension-without-name", b"5;=a\r\nhello\r\n" + LAST_CHUNK, EXTENSION, EXTENSION_GRAMMAR),
    bad_chunk("extension-two-values", b"5;a=b=c\r\nhello\r\n" + LAST_CHUNK, EXTENSION, EXTENSION_GRAMMAR),
    bad_chunk("extension-white-space-behind", b"5;a \r\nhello\r\n" + LAST_CHUNK, EXTENSION, EXTENSION_GRAMMAR),
    bad_chunk("extension-open-quotes", b'5;a="b\r\nhello\r\n' + LAST_CHUNK, EXTENSION, EXTENSION_GRAMMAR),
    bad_chunk("extension-with-nul", b"5;a\x00\r\nhello\r\n" + LAST_CHUNK, EXTENSION, EXTENSION_GRAMMAR),
    bad_chunk("extension-with-bare-cr", b"5;a\rb\r\nhello\r\n" + LAST_CHUNK, EXTENSION, EXTENSION_GRAMMAR),
    bad_chunk("extension-with-bare-lf", b"5;a\nb\r\nhello\r\n" + LAST_CHUNK, EXTENSION, BARE_LF),
    bad_chunk("extension-that-ends-in-lf", b"5;a\nhello\r\n" + LAST_CHUNK, EXTENSION, BARE_LF),
    bad_chunk("extension-quoted-lf", b'5;a="\n"\r\nhello\r\n' + LAST_CHUNK, EXTENSION, BARE_LF),
    bad_chunk("extension-by-comma", b"5,a\r\nhello\r\n" + LAST_CHUNK, EXTENSION, EXTENSION_GRAMMAR),
    bad_chunk("extension-by-colon", b"5:a\r\nhello\r\n" + LAST_CHUNK, EXTENSION, EXTENSION_GRAMMAR),
    bad_chunk("extension-without-size", b";a\r\nhello\r\n" + LAST_CHUNK, EXTENSION, EXTENSION_GRAMMAR),
    bad_chunk("extensions-too-many", (b"1;" + b"a" * 500 + b"\r\nx\r\n") * 40 + LAST_CHUNK, EXTENSION, "extensions have a limit"),
]  # fmt: skip

TRAILERS = [
    good_chunks("trailer", b"5\r\nhello\r\n0\r\nA: 1\r\n\r\n", b"hello", TRAILER, "read and dropped"),
    good_chunks("trailers", b"0\r\nA: 1\r\nB:\r\nC: \xff\r\n\r\n", b"", TRAILER, "read and dropped"),
    accept(
        "trailer-never-a-field", post(b"Transfer-Encoding: chunked", b"A: 1", content=b"0\r\nA: 2\r\n\r\n"), TRAILER,
        "trailers are not merged into the head", method="POST", fields=[(b"a", b"1")],
    ),
    bad_trailer("trailer-content-length", b"Content-Length: 5", why=FORBIDDEN),
    bad_trailer("trailer-transfer-encoding", b"Transfer-Encoding: chunked", why=FORBIDDEN),
    bad_trailer("trailer-host", b"Host: b", why=FORBIDDEN),
    bad_trailer("trailer-connection", b"Connection: close", why=FORBIDDEN),
    bad_trailer("trailer-upgrade", b"Upgrade: websocket", why=FORBIDDEN),
    bad_trailer("trailer-expect", b"Expect: 100-continue", why=FORBIDDEN),
    bad_trailer("trailer-te", b"TE: trailers", why=FORBIDDEN),
    bad_trailer("trailer-trailer", b"Trailer: A", why=FORBIDDEN),
    bad_trailer("trailer-in-other-case", b"cONTENT-lENGTH: 5", why=FORBIDDEN),
    bad_trailer("trailer-space-before-colon", b"A : 1", section=NAME, why="no white space before the colon"),
    bad_trailer("trailer-without-colon", b"A", section=NAME, why="a field line has a colon"),
    bad_trailer("trailer-without-name", b": 1", section=NAME, why="a name is a token"),
    bad_trailer("trailer-that-is-a-request", b"GET /x HTTP/1.1", section=NAME, why="a name is a token"),
    bad_trailer("trailer-folded", b"A: 1", b" 2", section="RFC 9112, 5.2", why="no folded lines"),
    bad_trailer("trailer-of-white-space", b" ", section="RFC 9112, 5.2", why="no folded lines"),
    bad_trailer("trailer-nul", b"A: \x00", section="RFC 9110, 5.5", why="no control characters"),
    bad_trailer("trailer-bare-cr", b"A: 1\r2", section="RFC 9110, 5.5", why="no bare line ends"),
    bad_trailer("trailer-bare-lf", b"A: 1\nB: 2", section="RFC 9112, 2.2", why="no bare line ends"),
    bad_trailer("trailer-ends-in-lf", b"A: 1\n", section="RFC 9112, 2.2", why="no bare line ends"),
    bad_trailer("trailer-too-long", b"A: " + b"1" * 9000, section="RFC 9112, 7.1.2", why="trailers have a limit"),
    bad_trailer("trailers-too-many", *[b"A: 1"] * (MAX_FIELDS * 5), section="RFC 6585, 5", why="trailers have a limit", status=431),
    refuse("trailer-empty-line-is-lf", chunked(b"0\r\nA: 1\r\n\n"), 400, "RFC 9112, 2.2", "no bare line ends"),
    Case("trailer-unfinished", chunked(b"0\r\nA: 1\r\n"), (), (), True, INCOMPLETE, "the empty line is the end", eof=True),
    refuse("trailer-of-no-chunks", line(b"GET / HTTP/1.1")[:-2] + b"A: 1\r\n\n\r\n", 400, "RFC 9112, 2.2", "no bare line ends"),
]  # fmt: skip

CASES = [*LENGTHS, *CODINGS, *CHUNKS, *EXTENSIONS, *TRAILERS]
