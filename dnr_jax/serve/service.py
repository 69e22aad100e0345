"""The service: POST /predict, GET /health, GET /metrics."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import prometheus_client
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse

import dnr_jax
from dnr_jax.evaluation.predict import Predictor
from dnr_jax.serve.decoding import UNREADABLE, Limits, Readers
from dnr_jax.serve.uploads import received


class Measures:
    """What GET /metrics tells, in a registry of its own."""

    def __init__(self) -> None:
        """Start at zero."""
        self.registry = all_of = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=all_of)
        self.requests = prometheus_client.Counter(
            "dnr_predictions", "Answers to POST /predict", ["status"], registry=all_of
        )
        self.active = prometheus_client.Gauge("dnr_predictions_active", "Requests that are worked on", registry=all_of)
        self.stages = prometheus_client.Histogram("dnr_stage_seconds", "Seconds of a stage", ["stage"], registry=all_of)

    @contextlib.contextmanager
    def stage(self, name: str, seconds: dict[str, float]) -> Iterator[None]:
        """Measure a stage of a request, and note its seconds for the answer."""
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds[name] = round(time.perf_counter() - start, 4)
            self.stages.labels(name).observe(seconds[name])

    def text(self) -> bytes:
        """Return the values in Prometheus' text format."""
        return prometheus_client.generate_latest(self.registry)


class Service:
    """What the routes do.

    Attributes:
      measures: what was done so far.
    """

    def __init__(self, predictor: Predictor, limits: Limits):
        """Start the processes that read videos, and compile the network.

        Args:
          predictor: the network.
          limits: of an upload.
        """
        self.measures = Measures()
        self._predictor = predictor
        self._limits = limits
        self._active = 0
        self._readers = Readers(predictor.run.config.data, predictor.evaluation, limits)
        predictor.warm_up()
        self._readers.wait()

    def close(self) -> None:
        """End the processes that read videos."""
        self._readers.close()

    def health(self) -> dict[str, Any]:
        """Return which network this is, for whoever asks whether the service works."""
        run = self._predictor.run
        network = {"network": type(run.config.model).__name__, "classes": len(run.classes), "step": run.step}
        return {"status": "ok", "version": dnr_jax.__version__, "active": self._active} | network

    async def predict(self, request: Request, top: int) -> dict[str, Any]:
        """Label the video of a request.

        Raises:
          HTTPException: with a sentence, where it is refused.
        """
        if self._active >= self._limits.waiting:
            detail = f"{self._active} requests are worked on already, which is the limit here; try again later"
            raise HTTPException(503, detail, {"Retry-After": "1"})
        self._active += 1
        try:
            with self.measures.active.track_inprogress():
                return await self._predict(request, top)
        finally:
            self._active -= 1

    async def _predict(self, request: Request, top: int) -> dict[str, Any]:
        seconds: dict[str, float] = {}
        with contextlib.ExitStack() as stages:
            stages.enter_context(self.measures.stage("receive", seconds))
            async with received(request, self._limits) as path:
                stages.close()
                try:
                    with self.measures.stage("read", seconds):
                        views = await asyncio.wrap_future(self._readers.read(path))
                except UNREADABLE as error:
                    raise HTTPException(422, self._readers.why(error)) from error
        with self.measures.stage("score", seconds):
            (scores,) = await asyncio.to_thread(self._predictor.score, views[None])
        best = sorted(range(len(scores)), key=lambda i: -scores[i])[:top]
        labels = [{"label": self._predictor.classes[i], "score": float(scores[i])} for i in best]
        return {"labels": labels, "seconds": seconds}


def create_app(predictor: Predictor, limits: Limits | None = None, root_path: str = "") -> FastAPI:
    """Return the service as an ASGI application.

    Args:
      predictor: the network.
      limits: of an upload; default: those of :class:`Limits`.
      root_path: the prefix under which a proxy shows the service; empty for none.
    """
    service: Service

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        nonlocal service
        service = Service(predictor, limits or Limits())
        try:
            yield
        finally:
            service.close()

    app = FastAPI(title="dnr serve", version=dnr_jax.__version__, lifespan=lifespan, root_path=root_path)

    @app.exception_handler(RequestValidationError)
    async def say_what_is_wrong(request: Request, error: RequestValidationError) -> JSONResponse:
        service.measures.requests.labels("422").inc()
        first = error.errors()[0]
        return JSONResponse({"detail": f"{first['loc'][-1]}: {first['msg']}; got {first['input']!r}"}, 422)

    @app.post("/predict", summary="Label a video: the body of the request, or the part 'file' of a form")
    async def predict(request: Request, top: Annotated[int, Query(ge=1)] = predictor.top) -> dict[str, Any]:
        status = 500
        try:
            answer = await service.predict(request, top)
            status = 200
            return answer
        except HTTPException as error:
            status = error.status_code
            raise
        finally:
            service.measures.requests.labels(str(status)).inc()

    @app.get("/health", summary="Whether the service works, and with which network")
    async def health() -> dict[str, Any]:
        return service.health()

    @app.get("/metrics", summary="Counts and times in Prometheus' text format", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(service.measures.text(), media_type=prometheus_client.CONTENT_TYPE_LATEST)

    return app
