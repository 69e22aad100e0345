"""``dnr serve``: its arguments and what it does."""

import argparse
import ipaddress
from typing import Any

from dnr_jax.arguments import add_checkpoint, path_from, whole
from dnr_jax.config import ConfigError
from dnr_jax.data.clips.cores import available_cores
from dnr_jax.progress import stage

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
    serve.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1, this machine)")
    serve.add_argument("--port", type=whole(0, 65535), default=8000, help="default: 8000; 0: any that is free")
    serve.add_argument("--root-path", default="", metavar="PREFIX", help="prefix under which a proxy shows the service")
    serve.add_argument("--max-megabytes", type=_above_0, default=100.0, metavar="MB", help="of a file (default: 100)")
    serve.add_argument(
        "--max-duration", type=_above_0, default=600.0, metavar="SECONDS", help="of a video (default: 600)"
    )
    serve.add_argument(
        "--timeout",
        type=_above_0,
        default=30.0,
        metavar="SECONDS",
        help="for receiving a file, and for reading its frames (default: 30)",
    )
    serve.add_argument(
        "--max-requests",
        type=whole(1, 10000),
        default=16,
        metavar="N",
        help="requests that are worked on at a time; those beyond are sent away with status 503 (default: 16)",
    )
    serve.add_argument(
        "--readers",
        type=whole(1, 256),
        default=min(available_cores(), 4),
        metavar="N",
        help="processes that read videos (default: one a core, at most 4)",
    )
    serve.set_defaults(run=serve_run)


def serve_run(args: argparse.Namespace) -> int:
    """Run the service until it is ended; returns the exit status."""
    with stage("importing"):
        try:
            import uvicorn

            from dnr_jax.serve.service import create_app
        except ImportError as error:
            raise ConfigError(f"dnr serve needs FastAPI and uvicorn ({error}); pip install 'dnr-jax[serve]'") from error
        from dnr_jax.evaluation.predict import Predictor
        from dnr_jax.serve.decoding import Limits

    with stage("loading the network"):
        predictor = Predictor(args.workdir, checkpoint=args.checkpoint)
    limits = Limits(args.max_megabytes, args.max_duration, args.timeout, args.max_requests, args.readers)
    if not _is_loopback(args.host):
        print(f"dnr serve: {args.host} can be reached from other machines, and there is no login", flush=True)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(predictor, limits, args.root_path),
            host=args.host,
            port=args.port,
            log_level="info",
            access_log=False,
            timeout_graceful_shutdown=int(2 * args.timeout) + 1,
        )
    )
    server.run()
    return 0 if server.started else 2


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
