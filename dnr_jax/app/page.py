"""The page itself, by gradio, as an application that a server runs."""

import asyncio
import contextlib
import os
import pathlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from dnr_jax.app.answers import Answer, Answers, Refusal
from dnr_jax.serve.decoding import Limits

_KEPT = 3600
"""Seconds after which an upload is deleted, at the latest ten minutes later."""
_CSS = pathlib.Path(__file__).parent / "templates/app.css"


class UploadDeadline:
    """Ends uploads that take too long, with status 408."""

    def __init__(self, app: ASGIApp, seconds: float):
        """Stand in front of an application."""
        self._app, self._seconds = app, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on."""
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].endswith("/upload"):
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._seconds):
                await self._app(scope, receive, send)
        except TimeoutError:
            sentence = f"the video did not arrive within {self._seconds:g} seconds"
            await JSONResponse({"detail": sentence}, 408)(scope, receive, send)


def create_app(answers: Answers, limits: Limits, root_path: str = "") -> FastAPI:
    """Return the page as an ASGI application, which ends the processes of ``answers`` when it ends itself.

    Args:
      answers: what it says.
      limits: of an upload.
      root_path: the prefix under which a proxy shows the page; empty for none.

    Raises:
      ImportError: where gradio is not installed.
    """
    # It tells its makers of each start otherwise, and asks them for newer versions.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            answers.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(UploadDeadline, seconds=limits.seconds)
    return gradio.mount_gradio_app(
        app,
        create_page(answers, limits),
        path="/",
        root_path=root_path,
        max_file_size=limits.bytes,
        footer_links=["api", "gradio"],
        run_history=False,
        ssr_mode=False,
        show_error=True,
        theme=gradio.themes.Default(primary_hue="blue"),
        css=_CSS.read_text(encoding="utf-8"),
    )


def create_page(answers: Answers, limits: Limits) -> Any:
    """Return the page as ``gradio.Blocks``, without a server."""
    import gradio

    name = answers.run.workdir.resolve().name

    def label(video: str | None) -> tuple[dict[str, float], str]:
        try:
            answer: Answer = answers.of(video)
        except Refusal as refusal:
            raise gradio.Error(str(refusal), title="Not labelled", print_exception=False) from refusal
        return answer.labels, answer.html

    with gradio.Blocks(title=f"{name}: labels for videos", analytics_enabled=False, delete_cache=(600, _KEPT)) as page:
        gradio.Markdown(_about(answers, limits))
        with gradio.Row():
            with gradio.Column(scale=2, min_width=320):
                video = gradio.Video(
                    label="Video",
                    sources=["upload", "webcam"],
                    webcam_options=gradio.WebcamOptions(mirror=False),
                    elem_id="video",
                )
                button = gradio.Button("Label", variant="primary")
                labels = gradio.Label(label="Labels", num_top_classes=len(answers.run.classes), elem_id="labels")
            with gradio.Column(scale=3, min_width=420):
                rest = gradio.HTML("<p>What the network sees is shown here.</p>", elem_id="answer", padding=True)
        gradio.on(
            [video.upload, video.stop_recording, button.click],
            label,
            inputs=video,
            outputs=[labels, rest],
            api_name="label",
            concurrency_limit=limits.readers,
        )
    return page.queue(max_size=limits.waiting)


def _about(answers: Answers, limits: Limits) -> str:
    run = answers.run
    network, count = type(run.config.model).__name__, len(run.classes)
    return (
        f"# Labels for videos\n\nA {network} with {count} classes looks at a video: drop one, or record one with the "
        f"camera. At most {limits.megabytes:g} MB and {limits.duration:g} seconds."
    )
