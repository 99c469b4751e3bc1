"""A server in threads. Tests control every byte that it sends, by TCP segment and TLS record."""

import json
import random
import select
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from typing import Any, Self
from urllib.parse import parse_qs

import trustme
from attrs import define, field


def http(body: bytes, *, start: str = "HTTP/1.1 200 OK", headers: str = "") -> bytes:
    """Return a complete response."""
    return f"{start}\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body


def chunked(body: bytes, *, start: str = "HTTP/1.1 200 OK", headers: str = "", end: bytes = b"0\r\n\r\n") -> bytes:
    """Return a complete response in two chunks."""
    head = f"{start}\r\n{headers}transfer-encoding: chunked\r\n\r\n".encode()
    parts = [part for part in (body[:7], body[7:]) if part]
    return head + b"".join(b"%x;note=x\r\n%b\r\n" % (len(part), part) for part in parts) + end


def success_reply(path: str, form: dict[str, str]) -> bytes:
    """Return the body of a successful reply. Its data contains a value from the request."""
    if path.endswith("product/show"):
        data: Any = {"category": []}
    elif path.endswith("pay/create"):
        tag = form["out_order_id"]
        qr_code = "data:image/png;base64,aGVsbG8="
        data = {"order_type": tag, "order_price": 1.5, "order_url": f"http://x/{tag}", "order_qrcode": qr_code}
    elif path.endswith("ka/show"):
        row = {"id": 1, "admin_id": 1, "pay_product_id": 8, "pay_order_id": 0, "content": f"KEY-{form['product_id']}"}
        rows = [{**row, "createtime": 1, "updatetime": 1, "status": "soldin"}]
        data = {"ka": {"total": 1, "per_page": 50, "current_page": 1, "last_page": 1, "data": rows}}
    else:
        data = f"成功录入:{len(form['content'].splitlines())}条卡密"
    return json.dumps({"code": 100, "msg": "ok", "time": "1555750250", "data": data}, ensure_ascii=False).encode()


@define(eq=False)
class Connection:
    """The server's end of one connection, with or without TLS."""

    raw: socket.socket
    number: int
    tls: ssl.SSLObject | None = None
    incoming: ssl.MemoryBIO = field(factory=ssl.MemoryBIO)
    outgoing: ssl.MemoryBIO = field(factory=ssl.MemoryBIO)
    lock: threading.Lock = field(factory=threading.Lock)
    is_idle: bool = False
    requests: int = 0

    def wrap(self, context: ssl.SSLContext) -> None:
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self._send_outgoing()
                self._receive_incoming()
            else:
                self._send_outgoing()
                return

    def encrypt(self, data: bytes) -> bytes:
        """Return the bytes to send for *data*: one TLS record, or *data* itself without TLS."""
        if self.tls is None:
            return data
        self.tls.write(data)
        return self.outgoing.read()

    def end(self) -> None:
        """Send TLS's close_notify. The caller closes TCP afterwards."""
        if self.tls is not None:
            with suppress(ssl.SSLWantReadError):
                self.tls.unwrap()
            self._send_outgoing()

    def receive(self) -> bytes:
        """Wait for data and read it. The lock keeps ``send_unasked`` from sending while this reads."""
        while True:
            if self.tls is not None:
                with suppress(ssl.SSLWantReadError):
                    return self.tls.read(65536)
            select.select([self.raw], [], [])
            with self.lock:
                self.is_idle = False
                if self.tls is None:
                    return self.raw.recv(65536)
                self._receive_incoming()

    def has_unread_request(self) -> bool:
        return bool(select.select([self.raw], [], [], 0)[0])

    def close(self) -> None:
        """Shut the connection down. This also wakes the thread that reads from it."""
        with suppress(OSError):
            self.raw.shutdown(socket.SHUT_RDWR)

    def _send_outgoing(self) -> None:
        if self.outgoing.pending:
            self.raw.sendall(self.outgoing.read())

    def _receive_incoming(self) -> None:
        data = self.raw.recv(65536)
        if not data:
            raise ConnectionAbortedError
        self.incoming.write(data)


@define
class Request:
    """A request that the server has received."""

    path: str
    form: dict[str, str]
    body: bytes
    number: int  # on its connection, from 1


Answer = Callable[[Connection, Request], None]


class OddServer:
    """
    A server on loopback; a context manager.

    Args:
        answer: Replies to a request over the connection. It raises ``ConnectionAbortedError`` to close the connection.
        tls: Whether to use TLS.
        greeting: Bytes to send on the first connection before any request.
        early_reply: Bytes to send on the first connection after the head of a request, before its body is read.
    """

    def __init__(self, answer: Answer, *, tls: bool, greeting: bytes = b"", early_reply: bytes = b"") -> None:
        self._answer = answer
        self._greeting = greeting
        self._early_reply = early_reply
        contexts: tuple[ssl.SSLContext | None, ssl.SSLContext | None] = tls_contexts() if tls else (None, None)
        self._server_tls, self.client_tls = contexts
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.base_url = f"http{'s' if tls else ''}://localhost:{self._listener.getsockname()[1]}/api/"
        self.connections: list[Connection] = []
        self._threads: list[threading.Thread] = []
        self.greeted = threading.Event()

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        # close() doesn't wake a thread that waits in accept().
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        accepting = self._threads[0]
        accepting.join()  # so that it adds no connection after the loop below
        for connection in self.connections:
            connection.close()
        for thread in self._threads:
            thread.join()

    def send_unasked(self, data: bytes, rng: random.Random) -> bool:
        """Send *data* over an idle connection. Return whether there was one without a new request."""
        idle = [connection for connection in self.connections if connection.is_idle]
        if not idle:
            return False
        connection = rng.choice(idle)
        with connection.lock, suppress(OSError):
            if connection.is_idle and not connection.has_unread_request():
                connection.raw.sendall(connection.encrypt(data))
                return True
        return False

    def wait_for_greeting(self, *_: object) -> None:
        """Wait until the greeting was sent on the first connection. A test calls this in place of another function."""
        self.greeted.wait()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                raw, _ = self._listener.accept()
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections.append(Connection(raw, len(self.connections) + 1))
                self._start(self._serve, self.connections[-1])

    def _serve(self, connection: Connection) -> None:
        with ExitStack() as stack:
            stack.callback(connection.raw.close)
            stack.callback(setattr, connection, "is_idle", False)
            stack.enter_context(suppress(OSError, ValueError))
            if self._server_tls is not None:
                connection.wrap(self._server_tls)
            is_first = connection.number == 1
            if is_first and self._greeting:
                connection.raw.sendall(connection.encrypt(self._greeting))
            self.greeted.set()
            while True:
                request = _read_request(connection, self._early_reply if is_first else b"")
                if request is None:
                    return
                self._answer(connection, request)
                connection.is_idle = True


def _read_request(connection: Connection, early_reply: bytes) -> Request | None:
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.receive()
        if not part:
            return None
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    if early_reply:
        connection.raw.sendall(connection.encrypt(early_reply))
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        part = connection.receive()
        if not part:
            return None
        body += part
    connection.requests += 1
    form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
    return Request(head.split()[1].decode(), form, body, connection.requests)


def tls_contexts(made: list[tuple[ssl.SSLContext, ssl.SSLContext]] = []) -> tuple[ssl.SSLContext, ssl.SSLContext]:  # noqa: B006 -- created once, because creating a key is slow
    """Return the TLS contexts of the server and of its client."""
    if not made:
        authority: Any = trustme.CA()  # its types need pyOpenSSL, which is not installed
        server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.issue_cert("localhost").configure_cert(server)
        authority.configure_trust(client)
        made.append((server, client))
    return made[0]


def event_loops() -> Sequence[tuple[str, dict[str, Any]]]:
    """Return the event loops that are installed, as arguments of ``anyio.run``."""
    loops: list[tuple[str, dict[str, Any]]] = [("asyncio", {}), ("trio", {})]
    if find_spec("uvloop") is not None:  # not on Windows
        loops.append(("asyncio", {"use_uvloop": True}))
    return loops
