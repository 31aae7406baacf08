"""A file server on the loopback that behaves, or misbehaves in the way a test asks for.

Every path holds a :class:`Shelf`: the file, how it is normally served, and a queue of faults that the next
requests meet instead.
"""

from __future__ import annotations

import gzip
import re
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CERTIFICATE = Path(__file__).with_name("loopback.pem")
"""A self-signed certificate for 127.0.0.1 and localhost with its key: worthless outside these tests."""

_BLOCK = 1 << 16


@dataclass
class Shelf:
    """One file and how it is served."""

    data: bytes
    etag: str | None = '"v1"'
    last_modified: str | None = None
    ranges: bool = True
    bytes_per_second: float | None = None
    faults: deque[Fault] = field(default_factory=deque)
    sent: int = 0


@dataclass
class Request:
    """What a client asked."""

    path: str
    headers: dict[str, str]


class LoopbackServer(ThreadingHTTPServer):
    """The server; runs in a thread of its own while the ``with`` block lasts."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, *, tls: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scheme = "http"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATE)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
            self.scheme = "https"
        self.shelves: dict[str, Shelf] = {}
        self.requests: list[Request] = []
        self.stopping = threading.Event()

    def __enter__(self) -> LoopbackServer:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent: clients that hang up are what these tests are about."""

    def url(self, path: str) -> str:
        """Return the address of a path."""
        return f"{self.scheme}://127.0.0.1:{self.server_port}/{path}"

    def put(self, path: str, data: bytes, *faults: Fault, **how: object) -> str:
        """Put a file on the server, the next requests for it meeting ``faults``; return its address."""
        shelf = Shelf(data, **how)  # type: ignore[arg-type]  # keyword arguments of the dataclass
        shelf.faults.extend(faults)
        self.shelves[path] = shelf
        return self.url(path)

    def ranges(self, path: str) -> list[str | None]:
        """Return the ``Range`` header of every request for a path so far."""
        return [request.headers.get("range") for request in self.requests if request.path == path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LoopbackServer

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
        """Stay silent."""

    def do_GET(self) -> None:
        path = self.path.split("://", 1)[-1].split("/", 1)[-1]  # a proxy is asked with the whole address
        self.server.requests.append(Request(path, {name.lower(): value for name, value in self.headers.items()}))
        shelf = self.server.shelves.get(path)
        if shelf is None:
            self.send_error(404)
            return
        answer = shelf.faults.popleft() if shelf.faults else serve
        answer(Exchange(self, shelf))


class Exchange:
    """One request on its way to being answered: what a fault has to work with."""

    def __init__(self, handler: _Handler, shelf: Shelf) -> None:
        self.handler = handler
        self.shelf = shelf
        self.asked = handler.headers.get("Range")
        self.if_range = handler.headers.get("If-Range")

    @property
    def offset(self) -> int:
        """The first byte asked for."""
        match = re.fullmatch(r"bytes=(\d+)-", self.asked or "")
        return int(match[1]) if match else 0

    def head(self, status: int, **headers: object) -> None:
        """Send the status and headers; underscores in names stand for hyphens, ``None`` leaves one out."""
        self.handler.send_response(status)
        given = {"ETag": self.shelf.etag, "Last-Modified": self.shelf.last_modified, **headers}
        for name, value in given.items():
            if value is not None:
                self.handler.send_header(name.replace("_", "-"), str(value))
        if "Content_Length" not in headers and "Transfer_Encoding" not in headers:
            self.handler.send_header("Connection", "close")
            self.handler.close_connection = True
        self.handler.end_headers()

    def send(self, data: bytes) -> None:
        """Send bytes of the body, at the shelf's pace."""
        view = memoryview(data)
        for start in range(0, len(view), _BLOCK):
            self.handler.wfile.write(view[start : start + _BLOCK])
            self.shelf.sent += len(view[start : start + _BLOCK])
            if self.shelf.bytes_per_second is not None:
                self.pause(min(_BLOCK, len(view) - start) / self.shelf.bytes_per_second)

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond the end of the server."""
        self.handler.server.stopping.wait(seconds)

    def hang_up(self) -> None:
        """Close the connection without a goodbye."""
        self.handler.close_connection = True
        self.handler.wfile.flush()
        try:
            self.handler.connection.shutdown(socket.SHUT_RDWR)
        except OSError:  # the client was faster
            return


Fault = Callable[[Exchange], None]


def serve(exchange: Exchange) -> None:
    """Answer as a good server does: ranges, If-Range, 416."""
    shelf, data = exchange.shelf, exchange.shelf.data
    same = exchange.if_range in (None, shelf.etag, shelf.last_modified)
    if not (shelf.ranges and exchange.asked and same):
        exchange.head(200, Content_Length=len(data))
        exchange.send(data)
    elif exchange.offset >= len(data):
        exchange.head(416, Content_Range=f"bytes */{len(data)}", Content_Length=0)
    else:
        serve_range(exchange, exchange.offset, len(data))


def serve_range(exchange: Exchange, start: int, total: int | str) -> None:
    """Answer 206 with everything from ``start`` on, claiming the file to have ``total`` bytes."""
    rest = exchange.shelf.data[start:]
    last = start + len(rest) - 1
    exchange.head(206, Content_Range=f"bytes {start}-{last}/{total}", Content_Length=len(rest))
    exchange.send(rest)


def status(code: int, *, retry_after: str | None = None) -> Fault:
    """Answer with a status and a short page."""

    def fault(exchange: Exchange) -> None:
        exchange.head(code, Content_Length=4, Retry_After=retry_after, ETag=None)
        exchange.send(b"oops")

    return fault


def redirect(target: str, code: int = 302) -> Fault:
    """Send the client elsewhere."""

    def fault(exchange: Exchange) -> None:
        exchange.head(code, Location=target, Content_Length=0)

    return fault


def cut_after(count: int) -> Fault:
    """Promise all (or all of the range), send ``count`` bytes, hang up."""

    def fault(exchange: Exchange) -> None:
        rest = _promise_rest(exchange)
        exchange.send(rest[:count])
        exchange.hang_up()

    return fault


def whole_file(exchange: Exchange) -> None:
    """Answer 200 with the whole file, whatever was asked."""
    exchange.head(200, Content_Length=len(exchange.shelf.data))
    exchange.send(exchange.shelf.data)


def wrong_range(exchange: Exchange) -> None:
    """Answer a range request with the beginning of the file, called 206."""
    serve_range(exchange, 0, len(exchange.shelf.data))


def shifted_range(exchange: Exchange) -> None:
    """Claim the right range, but of a file of another length."""
    serve_range(exchange, exchange.offset, len(exchange.shelf.data) + 7)


def unreadable_range(exchange: Exchange) -> None:
    """Answer 206 with a Content-Range that says nothing."""
    rest = exchange.shelf.data[exchange.offset :]
    exchange.head(206, Content_Range="bytes oops", Content_Length=len(rest))
    exchange.send(rest)


def careless_range(exchange: Exchange) -> None:
    """Answer 206 whatever If-Range says, with the tag the file has now."""
    serve_range(exchange, exchange.offset, len(exchange.shelf.data))


def half_range(exchange: Exchange) -> None:
    """Answer a range request with the first half of what was asked for."""
    data, start = exchange.shelf.data, exchange.offset
    part = data[start : start + (len(data) - start) // 2]
    content_range = f"bytes {start}-{start + len(part) - 1}/{len(data)}"
    exchange.head(206, Content_Range=content_range, Content_Length=len(part))
    exchange.send(part)


def not_satisfiable(total: int) -> Fault:
    """Answer 416 for a file that is said to have ``total`` bytes."""

    def fault(exchange: Exchange) -> None:
        exchange.head(416, Content_Range=f"bytes */{total}", Content_Length=0)

    return fault


def gzipped(exchange: Exchange) -> None:
    """Compress the whole file on the way."""
    body = gzip.compress(exchange.shelf.data, 1)
    exchange.head(200, Content_Encoding="gzip", Content_Length=len(body))
    exchange.send(body)


def chunked(exchange: Exchange) -> None:
    """Send the file without saying how long it is, in chunks."""
    exchange.head(200, Transfer_Encoding="chunked")
    send_chunks(exchange, exchange.shelf.data)
    exchange.handler.wfile.write(b"0\r\n\r\n")


def chunked_cut(exchange: Exchange) -> None:
    """Send half of the file in chunks, then hang up."""
    exchange.head(200, Transfer_Encoding="chunked")
    send_chunks(exchange, exchange.shelf.data[: len(exchange.shelf.data) // 2])
    exchange.hang_up()


def chunked_garbage(exchange: Exchange) -> None:
    """Break the chunked framing in the middle."""
    exchange.head(200, Transfer_Encoding="chunked")
    send_chunks(exchange, exchange.shelf.data[: len(exchange.shelf.data) // 2])
    exchange.handler.wfile.write(b"zzzz\r\n")
    exchange.hang_up()


def send_chunks(exchange: Exchange, data: bytes) -> None:
    """Send bytes in chunked framing."""
    for start in range(0, len(data), _BLOCK):
        block = data[start : start + _BLOCK]
        exchange.handler.wfile.write(b"%x\r\n%b\r\n" % (len(block), block))


def no_length(exchange: Exchange) -> None:
    """Send the file without saying how long it is: the end of the connection is the end of the file."""
    exchange.head(200)
    exchange.send(exchange.shelf.data)


def endless(exchange: Exchange) -> None:
    """Never stop sending."""
    exchange.head(200, Transfer_Encoding="chunked")
    while not exchange.handler.server.stopping.is_set():
        send_chunks(exchange, bytes(_BLOCK))


def claims_length(length: int) -> Fault:
    """Announce a length that has nothing to do with the file."""

    def fault(exchange: Exchange) -> None:
        exchange.head(200, Content_Length=length)
        exchange.send(exchange.shelf.data)
        exchange.hang_up()

    return fault


def stall_after(count: int) -> Fault:
    """Send ``count`` bytes, then nothing, with the connection open."""

    def fault(exchange: Exchange) -> None:
        rest = _promise_rest(exchange)
        exchange.send(rest[:count])
        exchange.handler.wfile.flush()
        exchange.pause(60)

    return fault


def trickle(exchange: Exchange) -> None:
    """Send a byte now and then: never silent, never done."""
    exchange.head(200, Content_Length=len(exchange.shelf.data))
    for at in range(600):
        exchange.send(exchange.shelf.data[at : at + 1])
        exchange.handler.wfile.flush()
        exchange.pause(0.1)
        if exchange.handler.server.stopping.is_set():
            return


def raw(*pieces: bytes, then: bytes, every: float = 0.05) -> Fault:
    """Send bytes as they are, then go on for ever with one piece, with a pause before each."""

    def fault(exchange: Exchange) -> None:
        exchange.handler.close_connection = True
        exchange.handler.wfile.write(b"".join(pieces))
        while not exchange.handler.server.stopping.is_set():
            exchange.pause(every)
            exchange.handler.wfile.write(then)

    return fault


CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

dripping_status_line = raw(b"HTTP/1.1 200 O", then=b"K")
dripping_header = raw(b"HTTP/1.1 200 OK\r\nX: ", then=b"x")
dripping_headers = raw(b"HTTP/1.1 200 OK\r\n", then=b"X: x\r\n")
dripping_chunk_size = raw(CHUNKED_HEAD, then=b"0")
dripping_chunk_extension = raw(CHUNKED_HEAD, b"5;", then=b"x")
dripping_trailer = raw(CHUNKED_HEAD, b"0\r\n", then=b"X: x\r\n")
flood_of_trailers = raw(CHUNKED_HEAD, b"0\r\n", then=b"X: x\r\n" * 1000, every=0)
dripping_continue = raw(then=b"HTTP/1.1 100 Continue\r\n\r\n")
flood_of_continue = raw(then=b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, every=0)
dripping_processing = raw(then=b"HTTP/1.1 102 Processing\r\n\r\n")
flood_of_processing = raw(then=b"HTTP/1.1 102 Processing\r\n\r\n" * 1000, every=0)


def interim_answers(exchange: Exchange) -> None:
    """Say that the answer will come, in each of the ways there are, and then give it."""
    exchange.handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n")
    exchange.handler.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
    serve(exchange)


def redirect_with_endless_body(exchange: Exchange) -> None:
    """Send the client elsewhere, with a body that does not end."""
    exchange.head(302, Location="/real", Transfer_Encoding="chunked")
    while not exchange.handler.server.stopping.is_set():
        send_chunks(exchange, bytes(_BLOCK))


def silent(exchange: Exchange) -> None:
    """Take the request and say nothing."""
    exchange.pause(60)
    exchange.hang_up()


def reset(exchange: Exchange) -> None:
    """Drop the connection before a word is said."""
    exchange.hang_up()


def garbage(exchange: Exchange) -> None:
    """Answer in no protocol at all."""
    exchange.handler.wfile.write(b"\x00\x01\x02 hello\r\n\r\n")
    exchange.hang_up()


def web_page(exchange: Exchange) -> None:
    """Answer 200 with an error page, as captive portals and dead links do."""
    page = b"<!DOCTYPE html><html><body>Please log in</body></html>"
    exchange.head(200, Content_Type="text/html", Content_Length=len(page), ETag=None)
    exchange.send(page)


def slowly(seconds: float) -> Fault:
    """Answer well, but late."""

    def fault(exchange: Exchange) -> None:
        exchange.pause(seconds)
        serve(exchange)

    return fault


def held_half_way(let_go: threading.Event) -> Fault:
    """Answer well, but send the second half only when the test says so."""

    def fault(exchange: Exchange) -> None:
        rest = _promise_rest(exchange)
        exchange.send(rest[: len(rest) // 2])
        exchange.handler.wfile.flush()
        let_go.wait(60)
        exchange.send(rest[len(rest) // 2 :])

    return fault


def interrupted_by(event: Callable[[], object]) -> Fault:
    """Answer well, but let something happen when the client has the first half."""

    def fault(exchange: Exchange) -> None:
        rest = _promise_rest(exchange)
        exchange.send(rest[: len(rest) // 2])
        exchange.handler.wfile.flush()
        event()
        exchange.send(rest[len(rest) // 2 :])

    return fault


def together(others: threading.Barrier) -> Fault:
    """Answer only when as many requests are in flight as the barrier counts."""

    def fault(exchange: Exchange) -> None:
        others.wait(30)
        serve(exchange)

    return fault


def _promise_rest(exchange: Exchange) -> bytes:
    """Send the headers of a good answer; return the bytes that should follow."""
    data = exchange.shelf.data
    if not (exchange.asked and exchange.shelf.ranges):
        exchange.head(200, Content_Length=len(data))
        return data
    rest = data[exchange.offset :]
    content_range = f"bytes {exchange.offset}-{len(data) - 1}/{len(data)}"
    exchange.head(206, Content_Range=content_range, Content_Length=len(rest))
    return rest


def free_port() -> int:
    """Return a port of the loopback on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something holds.

    Raises:
        TimeoutError: it does not.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("what the test waits for did not happen")
        time.sleep(0.005)
