"""How the rehearsal Hub reads requests and words its answers; nothing here knows a repo."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlencode

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from release_kit.bundle import LARGEST_REGULAR_FILE
from release_kit.publishing.rehearsal.store import HubError

LOG = logging.getLogger("release_kit.rehearsal")

Handler = Callable[[Request], Awaitable[Response]]

_MAX_BODY_BYTES = 16 * 1024 * 1024
# A regular file travels as base64 in one line, beside its path.
_MAX_LINE_BYTES = LARGEST_REGULAR_FILE * 4 // 3 + 64 * 1024
_LONGEST_ERROR_HEADER = 1000


def spoken(handler: Handler) -> Handler:
    """Let `handler` raise HubError, which becomes the answer that the client understands."""

    async def endpoint(request: Request) -> Response:
        try:
            return await handler(request)
        except HubError as error:
            # An answer ahead of the body's end would reach the client as a broken connection.
            with suppress(RuntimeError, ClientDisconnect):
                async for _ in request.stream():
                    pass
            return refusal(error)
        except ClientDisconnect:
            return refusal(HubError(400, "the request ended before its body did"))

    return endpoint


def refusal(error: HubError) -> JSONResponse:
    """Return the answer that makes the client raise the exception that `error` stands for."""
    # A header is one line of ASCII.
    message = error.message.encode("unicode_escape").decode()[:_LONGEST_ERROR_HEADER]
    headers = {"X-Error-Message": message, **error.headers}
    if error.code:
        headers["X-Error-Code"] = error.code
    return JSONResponse({"error": error.message, **error.body}, error.status, headers)


def part(request: Request, name: str) -> str:
    """Return a decoded part of the path; empty when the route has no such part."""
    try:
        return unquote(request.path_params.get(name, ""), errors="strict")
    except UnicodeDecodeError:
        raise HubError(400, "the path is not UTF-8") from None


def flag(request: Request, name: str) -> bool:
    """Whether a query parameter says yes."""
    return request.query_params.get(name, "").lower() in {"1", "true"}


def base(request: Request) -> str:
    """Return the address under which the caller reached this server."""
    return str(request.base_url).rstrip("/")


async def body(request: Request) -> bytes:
    """Return the whole body of a request that is small by nature."""
    found = bytearray()
    async for chunk in request.stream():
        found += chunk
        if len(found) > _MAX_BODY_BYTES:
            raise HubError(413, "the request is too large")
    return bytes(found)


async def json_object(request: Request) -> dict[str, Any]:
    """Return the body as a JSON object."""
    return parsed(await body(request))


def parsed(raw: bytes) -> dict[str, Any]:
    """Return `raw` as a JSON object."""
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError):
        raise HubError(400, "this is not JSON") from None
    if not isinstance(data, dict):
        raise HubError(400, "this is not a JSON object")
    return data


async def lines(request: Request) -> AsyncIterator[bytes]:
    """Yield the lines of a body of any length, of which no line is longer than a commit needs."""
    pieces: list[bytes] = []
    length = 0
    async for chunk in request.stream():
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            yield b"".join([*pieces, end])
            pieces, length = [], 0
        pieces.append(rest)
        length += len(rest)
        if length > _MAX_LINE_BYTES:
            raise HubError(400, "a regular file is over 10 MiB; upload it through LFS")
    if last := b"".join(pieces):
        yield last


def text(data: Mapping[str, Any], key: str) -> str:
    """Return a value that must be text."""
    value = data.get(key)
    if not isinstance(value, str):
        raise HubError(400, f'"{key}" must be a string')
    return value


def objects(data: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """Return a value that must be a list of JSON objects."""
    value = data.get(key)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise HubError(400, f'"{key}" must be an array of objects')
    return value


def size(data: Mapping[str, Any]) -> int:
    """Return the value of "size", a whole number of bytes."""
    value = data.get("size")
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise HubError(400, '"size" must be a whole number of bytes')
    return value


def paged(request: Request, rows: Sequence[Any], path: str, most: int) -> JSONResponse:
    """Return one page of `rows`, with the link to the next that the client follows.

    `path` names a commit rather than a branch, so that all pages tell of the same one.
    """
    query = dict(request.query_params)
    start, limit = _whole(query.get("cursor"), 0), _whole(query.get("limit"), most)
    end = start + min(max(limit, 1), most)
    headers = {}
    if end < len(rows):
        following = urlencode({**query, "cursor": str(end)})
        headers["Link"] = f'<{base(request)}{path}?{following}>; rel="next"'
    return JSONResponse(rows[start:end], headers=headers)


def _whole(word: str | None, default: int) -> int:
    if word is None:
        return default
    try:
        return max(int(word), 0)
    except ValueError:
        raise HubError(400, "a cursor and a limit are whole numbers") from None


def with_raw_paths(app: ASGIApp) -> ASGIApp:
    """Route by the path as it was sent: `%2F` in the name of a branch is no separator."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "path": scope["raw_path"].decode("latin-1")}
        await app(scope, receive, send)

    return wrapped


def with_log(app: ASGIApp) -> ASGIApp:
    """Log method, path and status. Headers and queries, where secrets travel, stay out."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def logged(message: Message) -> None:
            if message["type"] == "http.response.start":
                path = scope["raw_path"].decode("latin-1")
                LOG.info("%s %s %d", scope["method"], path, message["status"])
            await send(message)

        await app(scope, receive, logged if scope["type"] == "http" else send)

    return wrapped
