"""Serves the page with the network of colours, in its own process: ``python -m tests.app.served FOLDER PREFIX``."""

import os
import pathlib
import socket
import sys
from typing import Any

import uvicorn
from starlette.responses import JSONResponse

from dnr_jax.app import answers
from dnr_jax.app.page import create_app
from dnr_jax.serve.decoding import Limits
from tests.app.stub import ThreadReaders, colours_answers

LIMITS = Limits(megabytes=0.5, duration=20, seconds=20)


def without_prefix(app: Any, prefix: str) -> Any:
    """A proxy that shows an application under a prefix, of which the application sees nothing."""

    async def proxied(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            if not scope["path"].startswith(prefix):
                return await JSONResponse({"detail": "nothing is here"}, 404)(scope, receive, send)
            path = scope["path"].removeprefix(prefix) or "/"
            scope = scope | {"path": path, "raw_path": path.encode()}
        await app(scope, receive, send)

    return proxied


def main(folder: str, prefix: str) -> None:
    os.environ["GRADIO_TEMP_DIR"] = os.path.join(folder, "uploads")
    answers.Readers = ThreadReaders
    app = create_app(colours_answers(pathlib.Path(folder), LIMITS), LIMITS, prefix)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        print(listening.getsockname()[1], flush=True)
        server = uvicorn.Server(uvicorn.Config(without_prefix(app, prefix), timeout_graceful_shutdown=1))
        server.run(sockets=[listening])


if __name__ == "__main__":
    main(*sys.argv[1:])
