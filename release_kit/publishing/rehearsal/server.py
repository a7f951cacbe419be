"""The rehearsal Hub: a loopback server that answers a publish as the Hugging Face Hub would.

It speaks to the unmodified client and refuses what the Hub refuses, with the status and the
headers from which the client makes its own exception. `release_kit.publishing.rehearsal.serve`
starts it; by hand it is

    python -m release_kit.publishing.rehearsal.server --root FOLDER --port 8080 --user NAME

and the tokens stand in FOLDER/private/accounts.json.
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from release_kit.files import json_bytes, write_atomic
from release_kit.publishing.rehearsal.http import LOG, refusal, with_log, with_raw_paths
from release_kit.publishing.rehearsal.requests import Hub
from release_kit.publishing.rehearsal.rules import name_problem
from release_kit.publishing.rehearsal.store import (
    SERVER_FILE,
    HubError,
    Secrets,
    Store,
    open_accounts,
)

_HOST = "127.0.0.1"
_SECONDS_TO_END = 5
# The client does not send a commit again when the server closed an idle connection under it.
_SECONDS_TO_KEEP_IDLE = 600


def make_app(store: Store, opened: Secrets) -> ASGIApp:
    """Return the server's application over one store."""

    async def unspoken(request: Request, _: Exception) -> Response:
        message = f"the rehearsal Hub does not speak {request.method} {request.url.path}"
        return refusal(HubError(404, message))

    async def failed(_request: Request, _: Exception) -> Response:
        return refusal(HubError(500, "the rehearsal Hub failed; its log says how"))

    app = Starlette(
        routes=Hub(store, opened).routes(),
        exception_handlers={HTTPException: unspoken, Exception: failed},
    )
    app.router.redirect_slashes = False
    return with_log(with_raw_paths(app))


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve a folder until the process is told to end."""
    parser = argparse.ArgumentParser(description="A Hugging Face Hub on loopback, for rehearsals.")
    parser.add_argument("--root", type=Path, required=True, help="where its state lies")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--user", action="append", default=[], help="an account to have")
    parser.add_argument(
        "--until-stdin-closes", action="store_true", help="end when whoever started it ends"
    )
    options = parser.parse_args(arguments)
    for user in options.user:
        if problem := name_problem(user):
            parser.error(f"--user {user}: {problem}")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)

    root: Path = options.root
    root.mkdir(parents=True, exist_ok=True)
    # The protocol is named because asyncio turns Nagle's delay off only for a socket that says TCP.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    with (root / "lock").open("w") as lock, listener:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            parser.error(f"another rehearsal Hub serves {root}")
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((_HOST, options.port))
        except OSError as error:
            parser.error(f"port {options.port} cannot be had: {error.strerror}")
        listener.listen()
        server = uvicorn.Server(
            uvicorn.Config(
                make_app(Store(root), open_accounts(root, options.user)),
                http="h11",
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=_SECONDS_TO_KEEP_IDLE,
                timeout_graceful_shutdown=_SECONDS_TO_END,
            )
        )
        if options.until_stdin_closes:
            threading.Thread(target=_end_with_stdin, args=(server,), daemon=True).start()
        url = f"http://{_HOST}:{listener.getsockname()[1]}"
        # Connections wait in the listener's queue, so the address is good from here on.
        write_atomic(root / SERVER_FILE, json_bytes({"url": url, "pid": os.getpid()}))
        LOG.info("rehearsal Hub at %s", url)
        server.run(sockets=[listener])
    return 0


def _end_with_stdin(server: uvicorn.Server) -> None:
    """End the server when the parent, which holds the other end of stdin, is gone."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    server.should_exit = True
    time.sleep(2 * _SECONDS_TO_END)
    # Nobody is left who could end a server that hangs.
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
