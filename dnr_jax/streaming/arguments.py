"""The flags of ``dnr predict`` for long videos and live sources. Nothing heavy is imported here."""

import argparse
import re

from dnr_jax.arguments import path_from, whole


def duration(text: str) -> float:
    """Return the seconds of a text such as 2, 2.5, 1.5s, 90s, 10m or 2h.

    Raises:
      argparse.ArgumentTypeError: for another text, or 0.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)([smh]?)", text)
    if not match or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 2.5, 90s, 10m or 2h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def _seconds(text: str) -> float:
    """Return the seconds of a text as :func:`duration` does, or 0."""
    return 0.0 if text == "0" else duration(text)


def _share(text: str) -> float:
    if not re.fullmatch(r"0?\.\d+|[01](\.0*)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no probability from 0 to 1")
    return float(text)


def add_stream_arguments(command: argparse.ArgumentParser) -> None:
    """Add the flags to the parser of ``dnr predict``."""
    stream = command.add_argument_group("long videos and live sources")
    stream.add_argument("--stream", action="store_true", help="slide a window along each video, and write a timeline")
    stream.add_argument(
        "--webcam", metavar="CAMERA", help="label what a camera of this machine sees: 0, 1, ... or its name"
    )
    stream.add_argument("--live", action="store_true", help="drop frames rather than come behind the source")
    stream.add_argument(
        "--window", type=duration, metavar="TIME", help="of a window, such as 2.5 (seconds); default: as in the run"
    )
    stream.add_argument("--stride", type=duration, metavar="TIME", help="from one window to the next")
    stream.add_argument(
        "--no-carry", action="store_true", help="start each window anew, without the state of cross-temporal relays"
    )
    stream.add_argument("--batch-size", type=whole(1), metavar="N", help="windows that are scored at once")
    stream.add_argument("--enter", type=_share, default=0.5, help="probability that starts a segment (default: 0.5)")
    stream.add_argument("--leave", type=_share, default=0.3, help="probability below which it ends (default: 0.3)")
    stream.add_argument(
        "--min-length",
        type=_seconds,
        metavar="TIME",
        help="of a segment, and of what interrupts one; default: a window, or a shorter video",
    )
    stream.add_argument(
        "--timeout",
        type=duration,
        metavar="TIME",
        help="without a frame, after which a source is given up (default: 10)",
    )
    stream.add_argument(
        "--out",
        action="append",
        type=path_from,
        default=[],
        metavar="FILE",
        help="timeline to write: .json, .csv, .srt, .vtt or .png; may be given several times",
    )
    stream.add_argument("--burn", type=path_from, metavar="FILE.mp4", help="video to write with the labels burnt in")


def why_not_streamed(args: argparse.Namespace) -> str:
    """Return what contradicts itself among the flags of ``dnr predict``; empty where nothing does."""
    if args.webcam and args.videos:
        return f"--webcam is the source, and so is {args.videos[0]!r}; leave out one of them"
    if args.stream or args.webcam:
        return ""
    defaults = argparse.ArgumentParser()
    add_stream_arguments(defaults)
    for name, default in vars(defaults.parse_args([])).items():
        if getattr(args, name) != default:
            return f"--{name.replace('_', '-')} needs --stream, which slides a window along each video"
    return ""
