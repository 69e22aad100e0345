"""``dnr serve``: its arguments and what it does."""

import argparse
import contextlib
import ipaddress
from typing import TYPE_CHECKING, Any

from dnr_jax.arguments import add_checkpoint, path_from, whole
from dnr_jax.config import ConfigError
from dnr_jax.data.clips.cores import available_cores
from dnr_jax.progress import stage

if TYPE_CHECKING:  # commands start before what they need is imported
    from dnr_jax.serve.decoding import Limits

_ABOUT = """\
POST /predict takes a video as the body of the request or as the part 'file' of a form, and answers with labels:

  curl --data-binary @video.mp4 http://127.0.0.1:8000/predict?top=3
  curl --form file=@video.mp4 http://127.0.0.1:8000/predict

GET /health tells which network this is, GET /metrics counts and times for Prometheus, GET /docs describes all of it.
What cannot be labelled is answered with a status of 4xx and a sentence. Ctrl-C ends the service once the requests that
it works on are answered. There is no login and no encryption: beyond this machine, put a proxy that has them in front.
"""


def _above_0(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def add_serve(commands: Any) -> None:
    """Add ``dnr serve`` to the subparsers of a command line."""
    serve = commands.add_parser("serve", help="label videos that are sent over HTTP", epilog=_ABOUT)
    serve.add_argument("workdir", type=path_from, metavar="RUN", help="work directory of a training run")
    add_checkpoint(serve)
    add_service(serve, port=8000)
    add_limits(serve)
    serve.set_defaults(run=serve_run)


def add_service(command: argparse.ArgumentParser, port: int) -> None:
    """Add the flags that say where a service listens, and under which prefix it is shown."""
    command.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1, this machine)")
    command.add_argument("--port", type=whole(0, 65535), default=port, help=f"default: {port}; 0: any that is free")
    command.add_argument(
        "--root-path", default="", metavar="PREFIX", help="prefix under which a proxy shows the service"
    )


def add_limits(command: argparse.ArgumentParser) -> None:
    """Add the flags of :class:`~dnr_jax.serve.decoding.Limits`."""
    command.add_argument("--max-megabytes", type=_above_0, default=100.0, metavar="MB", help="of a file (default: 100)")
    command.add_argument(
        "--max-duration", type=_above_0, default=600.0, metavar="SECONDS", help="of a video (default: 600)"
    )
    command.add_argument(
        "--timeout",
        type=_above_0,
        default=30.0,
        metavar="SECONDS",
        help="for receiving a file, and for reading its frames (default: 30)",
    )
    command.add_argument(
        "--max-requests",
        type=whole(1, 10000),
        default=16,
        metavar="N",
        help="requests that are worked on at a time; those beyond are sent away with status 503 (default: 16)",
    )
    command.add_argument(
        "--readers",
        type=whole(1, 256),
        default=min(available_cores(), 4),
        metavar="N",
        help="processes that read videos (default: one a core, at most 4)",
    )


def limits_of(args: argparse.Namespace) -> "Limits":
    """Return the limits of a command line."""
    from dnr_jax.serve.decoding import Limits

    return Limits(args.max_megabytes, args.max_duration, args.timeout, args.max_requests, args.readers)


def serve_run(args: argparse.Namespace) -> int:
    """Run the service until it is ended; returns the exit status."""
    with stage("importing"):
        try:
            import uvicorn  # noqa: F401

            from dnr_jax.serve.service import create_app
        except ImportError as error:
            raise ConfigError(f"dnr serve needs FastAPI and uvicorn ({error}); pip install 'dnr-jax[serve]'") from error
        from dnr_jax.evaluation.predict import Predictor

    with stage("loading the network"):
        predictor = Predictor(args.workdir, checkpoint=args.checkpoint)
    app = create_app(predictor, limits_of(args), args.root_path)
    return listen("dnr serve", app, args.host, args.port, patience=int(2 * args.timeout) + 1)


def listen(command: str, app: Any, host: str, port: int, patience: int) -> int:
    """Run an ASGI application until it is ended; returns the exit status of the command.

    Args:
      command: who says that there is no login, where the address is one that others reach.
      app: the application.
      host: address to listen at.
      port: likewise; 0: any that is free.
      patience: seconds that requests in work have to end in, after Ctrl-C or SIGTERM.
    """
    import uvicorn

    if not _is_loopback(host):
        print(f"{command}: {host} can be reached from other machines, and there is no login", flush=True)
    settings: dict[str, Any] = {"log_level": "info", "access_log": False, "timeout_graceful_shutdown": patience}
    server = uvicorn.Server(uvicorn.Config(app, host=host, port=port, **settings))
    with contextlib.suppress(SystemExit):  # of a status of its own, where it has said that it cannot listen
        server.run()
    return 0 if server.started else 2


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
