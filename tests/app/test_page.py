"""The page by gradio: what it serves, and a browser that drops a video on it."""

import asyncio
import contextlib
import importlib.util
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")

from fastapi.testclient import TestClient

from dnr_jax.app.page import UploadDeadline
from dnr_jax.data.clips.decode import encode_video
from tests.app.stub import coloured
from tests.browser import browser, needs_chromium
from tests.paths import REPOSITORY

needs_gradio = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="the extra 'app' is not installed")


@contextlib.contextmanager
def served(folder: pathlib.Path, prefix: str = "") -> Iterator[str]:
    """Serve the page, and lend its address."""
    command = [sys.executable, "-m", "tests.app.served", str(folder), prefix]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}{prefix}/"
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


@needs_gradio
@needs_chromium
@pytest.mark.slow
def test_a_video_that_is_dropped_is_labelled_behind_a_prefix(tmp_path):
    prefix = "/labels"
    video = tmp_path / "dropped.mp4"
    encode_video(str(video), coloured(1, 120), fps=10, options={"preset": "ultrafast"})
    with served(tmp_path, prefix) as address, browser(tmp_path / "profile") as tab:
        tab.open(address)
        assert tab.becomes("document.querySelector('#video input[type=file]')", 60)
        root = tab.send("DOM.getDocument")["root"]["nodeId"]
        field = tab.send("DOM.querySelector", nodeId=root, selector="#video input[type=file]")["nodeId"]
        tab.send("DOM.setFileInputFiles", files=[str(video)], nodeId=field)
        assert tab.becomes("document.querySelector('.dnr')", 60)
        assert tab.becomes("document.querySelector('#labels').textContent.includes('green')")
        assert "green" in tab.evaluate("document.querySelector('.dnr tbody').textContent")
        assert tab.evaluate("document.querySelector('.dnr .film').clientWidth") == 176  # the style sheet is there
        foreign = "performance.getEntriesByType('resource').filter(e => !e.name.startsWith(location.origin)).length"
        assert tab.evaluate(foreign) == 0  # nothing is fetched from anybody else
        # Chromium's own, and the manifest of installed applications, which gradio asks for without the prefix.
        known = ("Method not implemented", "Manifest fetch", "Failed to load resource")
        assert not [text for text in tab.problems if not any(one in text for one in known)]
        size = "const form = new FormData(); form.append('files', new Blob([new Uint8Array(600000)]), 'a.mp4');"
        upload = f"fetch('{prefix}/gradio_api/upload', {{method: 'POST', body: form}}).then(answer => answer.status)"
        assert tab.evaluate(f"(() => {{ {size} return {upload}; }})()") == 413


def test_an_upload_that_takes_too_long_is_ended():
    async def never(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(60)

    client = TestClient(UploadDeadline(never, 0.05))  # not entered: there is no lifespan
    answer = client.post("/gradio_api/upload")
    assert answer.status_code == 408 and "did not arrive within 0.05 seconds" in answer.text
