"""Videos received: the body of a request, or a part of a form, written to a temporary file as they come."""

import asyncio
import contextlib
import logging
import pathlib
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator

from fastapi import HTTPException, Request
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from dnr_jax.serve.decoding import Limits

logging.getLogger("python_multipart").setLevel(logging.ERROR)  # what it warns of is the answer to the request
_CHUNK = 2**20
_OVERHEAD = 2**16
"""Bytes of a form around its file."""


@contextlib.asynccontextmanager
async def received(request: Request, limits: Limits) -> AsyncIterator[pathlib.Path]:
    """Lend the video of a request as a file, which is removed afterwards.

    Raises:
      HTTPException: with a sentence, for what is too large (413), too slow (408), or no video at all (400).
    """
    with tempfile.TemporaryDirectory(prefix="dnr_serve_") as folder:
        path = pathlib.Path(folder) / "upload"
        try:
            async with asyncio.timeout(limits.seconds):
                await _receive(request, path, limits)
        except TimeoutError:
            raise HTTPException(408, f"the video did not arrive within {limits.seconds:g} seconds") from None
        except ClientDisconnect:
            raise HTTPException(400, "the connection ended before the video had arrived") from None
        if not path.stat().st_size:
            raise HTTPException(400, "the video is empty; send it as the body, or as the part 'file' of a form")
        yield path


async def _receive(request: Request, path: pathlib.Path, limits: Limits) -> None:
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        await _receive_form(request, path, limits)
        return
    with path.open("wb") as file:
        async for chunk in _bounded(request, limits.bytes, limits):
            file.write(chunk)


async def _receive_form(request: Request, path: pathlib.Path, limits: Limits) -> None:
    body = _bounded(request, limits.bytes + _OVERHEAD, limits)
    parser = MultiPartParser(request.headers, body, max_files=1, max_fields=8)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, f"the form cannot be read: {error.message}") from error
    except (HTTPException, ClientDisconnect, asyncio.CancelledError):
        raise
    except Exception as error:  # the parser's own, of headers that are none
        raise HTTPException(400, f"the form cannot be read: {type(error).__name__}") from error
    try:
        files = [value for value in form.values() if not isinstance(value, str)]
        if not files:
            raise HTTPException(400, "the form has no file; send the video as its part 'file'")
        with path.open("wb") as file:
            while chunk := await files[0].read(_CHUNK):
                file.write(chunk)
    finally:
        await form.close()


async def _bounded(request: Request, size: int, limits: Limits) -> AsyncGenerator[bytes, None]:
    """Yield the body of a request as it comes, up to a size.

    Raises:
      HTTPException: where it is larger, by its own words before it comes.
    """
    refusal = HTTPException(413, f"the video is larger than {limits.megabytes:g} MB, which is the limit here")
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told) > size:
        raise refusal
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > size:
            raise refusal
        yield chunk
