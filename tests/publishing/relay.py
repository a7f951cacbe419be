"""A relay before a rehearsal Hub: real connections, and bad weather for the requests one names."""

from __future__ import annotations

import http.client
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast
from urllib.parse import urlsplit

HOLD = "hold"
"""No answer, for as long as the relay runs."""
DROP = "drop"
"""The connection ends without an answer."""
CUT = "cut"
"""The Hub's answer, but only the first half of its body."""

_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}
_SECONDS = 60.0


@dataclass(frozen=True)
class Answer:
    """An answer in the place of the Hub's. `{authorization}` in a header becomes the request's."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class Relay:
    """A running relay; `url` is an endpoint like the Hub's own."""

    url: str
    hub: str
    request: re.Pattern[str]
    effect: str | Answer
    lands: bool
    reached: threading.Event = field(default_factory=threading.Event)
    """Set when the weather strikes; a request that lands has landed by then."""
    struck: list[Mapping[str, str]] = field(default_factory=list, repr=False)
    """Headers of the requests that were struck, their names in lower case."""
    over: threading.Event = field(default_factory=threading.Event)


@contextmanager
def relay(hub: str, request: str, effect: str | Answer, *, lands: bool = False) -> Iterator[Relay]:
    """Run a relay before `hub` that passes on all but the requests `METHOD /path` that match.

    `lands` says that the Hub gets a struck request nevertheless, and only its answer is lost.
    """
    server = _Server(("127.0.0.1", 0), _Handler)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    server.relay = Relay(url, hub, re.compile(request), effect, lands or effect == CUT)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.relay
    finally:
        server.relay.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    relay: Relay

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed, or did not wait, is what the weather is for."""


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _pass_on(self) -> None:
        weather = cast(_Server, self.server).relay
        body = self._body()
        strikes = weather.request.fullmatch(f"{self.command} {self.path.partition('?')[0]}")
        answer = self._ask(weather.hub, body) if not strikes or weather.lands else Answer(0)
        if not strikes:
            self._answer(answer)
            return
        weather.struck.append({key.lower(): value for key, value in self.headers.items()})
        weather.reached.set()
        if isinstance(weather.effect, Answer):
            self._answer(weather.effect)
        elif weather.effect == CUT:
            self._answer(answer, len(answer.body) // 2)
        elif weather.effect == HOLD:
            weather.over.wait(_SECONDS)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _pass_on  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while length := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(length))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _ask(self, hub: str, body: bytes) -> Answer:
        # Host goes along, so that the links of an answer lead through here again.
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
        connection = http.client.HTTPConnection(urlsplit(hub).netloc, timeout=_SECONDS)
        try:
            connection.request(self.command, self.path, body, headers)
            response = connection.getresponse()
            kept = {k: v for k, v in response.getheaders() if k.lower() not in _HOP}
            return Answer(response.status, kept, response.read())
        finally:
            connection.close()

    def _answer(self, answer: Answer, most: int | None = None) -> None:
        self.send_response(answer.status)
        for key, value in answer.headers.items():
            repeated = self.headers.get("Authorization", "")
            self.send_header(key, value.replace("{authorization}", repeated))
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body[:most])
