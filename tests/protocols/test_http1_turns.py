"""Content in very many chunks is read in turns with others, and none of it is lost."""

from alphorn.core.asgi import Receive, Scope, Send
from compliance.http1_corpus import chunked
from support.http1_peer import Http1Peer
from support.waiting import turns

CHUNKS = 5000


class Upload:
    """An application that reads, and knows how much it was."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        more = True
        while more:
            message = await receive()
            self.pieces.append(message["body"])
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})


async def test_others_get_their_turn_before_all_chunks_of_one_read_are_read() -> None:
    app = Upload()
    peer = Http1Peer(app)
    peer.sends(chunked(b"1\r\nx\r\n" * CHUNKS + b"0\r\n\r\n"))
    await peer.settle()
    await peer.settle()
    assert b"".join(app.pieces) == b"x" * CHUNKS
    assert max(map(len, app.pieces)) < 500
    assert peer.received.startswith(b"HTTP/1.1 204 ")


async def test_the_end_of_the_connection_waits_for_its_turn() -> None:
    app = Upload()
    peer = Http1Peer(app)
    peer.sends(chunked(b"1\r\nx\r\n" * CHUNKS + b"0\r\n\r\n"))
    peer.half_closes()
    await peer.settle()
    await peer.settle()
    assert b"".join(app.pieces) == b"x" * CHUNKS
    assert peer.received.startswith(b"HTTP/1.1 204 ")


async def test_pipelined_requests_of_several_reads_share_one_turn() -> None:
    answered = []

    async def note(scope: Scope, _: Receive, send: Send) -> None:
        answered.append(scope["path"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    peer = Http1Peer(note)
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    for _ in range(10):
        peer.sends(request * 100)
    before, most = len(answered), 0
    while len(answered) < 1000:
        await turns(1)
        most, before = max(most, len(answered) - before), len(answered)
    assert most < 100
