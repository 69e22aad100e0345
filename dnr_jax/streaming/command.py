"""``dnr predict --stream``: what is read, what is printed meanwhile, which files are written."""

import argparse
import contextlib
import json
import os
import pathlib
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import av

from dnr_jax.config import ConfigError
from dnr_jax.data.catalogue.records import why_not_writable
from dnr_jax.data.clips.container import DecodeError
from dnr_jax.evaluation.inputs import STANDARD_INPUT, find_videos
from dnr_jax.evaluation.predict import Predictor
from dnr_jax.progress import Progress, stage
from dnr_jax.streaming import outputs
from dnr_jax.streaming.burn import burn
from dnr_jax.streaming.segments import Segment, seconds_as_clock
from dnr_jax.streaming.sources import Reader, Source, is_live, source_of, webcam
from dnr_jax.streaming.stream import Labelled, Stream, StreamSettings

_SAVED = 60.0
"""Seconds after which the files are written anew while a video goes on."""


def run(args: argparse.Namespace) -> int:
    """Label videos of any length and live sources, one after the other; return the exit status.

    Args:
      args: the flags of :func:`dnr_jax.streaming.arguments.add_stream_arguments`, and ``workdir``, ``videos``, ``top``,
        ``views``, ``checkpoint`` and ``json``.

    Raises:
      ConfigError: for flags that contradict one another, and for files that cannot be written.
      KeyboardInterrupt: after Ctrl-C or SIGTERM, when what is known has been written.
    """
    videos = [] if args.webcam else find_videos(args.videos)
    _check(args, videos)
    try:
        settings = StreamSettings(
            args.window, args.stride, not args.no_carry, args.batch_size, args.enter, args.leave, args.min_length
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error
    with stage("loading the network"):
        predictor = Predictor(args.workdir, top=args.top, views=args.views, checkpoint=args.checkpoint)
    with _terminable():
        return max([_label(args, predictor, settings, video) for video in videos or [""]])


def _check(args: argparse.Namespace, videos: Sequence[str]) -> None:
    """Refuse, before the network is loaded, what would fail at the end."""
    if args.views and args.views[0] != 1:
        raise ConfigError(f"--views {args.views[0]}x{args.views[1]}: a window is one clip; expected 1x{args.views[1]}")
    if (args.out or args.burn) and len(videos) > 1:
        raise ConfigError(f"--out and --burn are files of one video, and there are {len(videos)}")
    for path in args.out:
        if os.path.splitext(path)[1].lower() not in outputs.WRITERS:
            raise ConfigError(
                f"--out: {path!r} ends in none of {', '.join(outputs.WRITERS)}, which say what is written"
            )
    if args.burn:
        _check_burn(args.burn, args.live or bool(args.webcam), *videos)
    for path in (*args.out, *([args.burn] if args.burn else [])):
        if os.path.exists(path) and any(os.path.exists(video) and os.path.samefile(path, video) for video in videos):
            raise ConfigError(f"{path!r} is the video itself; expected another file to write")
        if problem := why_not_writable(pathlib.Path(path).absolute().parent):
            raise ConfigError(problem)


def _check_burn(path: str, live: bool, video: str = "") -> None:
    if os.path.splitext(path)[1].lower() != ".mp4":
        raise ConfigError(f"--burn: {path!r} is no MP4 file; expected a name that ends in .mp4")
    if live or video == STANDARD_INPUT or is_live(video):
        raise ConfigError("--burn reads the video a second time, which a live source is not there for; record it first")


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let a program that is told to end (SIGTERM) write what it knows, as after Ctrl-C."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _label(args: argparse.Namespace, predictor: Predictor, settings: StreamSettings, video: str) -> int:
    """Label one video; whatever is wrong with it costs none of the others."""
    name = f"webcam {args.webcam}" if args.webcam else video
    try:
        source = webcam(args.webcam, args.timeout) if args.webcam else source_of(video, args.live, args.timeout)
        with Reader(source) as reader:
            return _Timeline(args, predictor, settings, reader).run()
    except (DecodeError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        text = str(error) if name in str(error) else f"{name}: {error}"
        if args.json:
            print(json.dumps({"event": "error", "video": name, "error": text}), flush=True)
        print(f"cannot label {text}", file=sys.stderr)
        return 1


class _Timeline:
    """One video, what is known about it, and what is said."""

    def __init__(self, args: argparse.Namespace, predictor: Predictor, settings: StreamSettings, reader: Reader):
        self._args, self._reader, self._classes = args, reader, predictor.classes
        self._stream = Stream(predictor, reader, settings)
        self._segments: list[Segment] = []
        self._saved = time.monotonic()
        self._shown = 0
        self._progress: Progress
        self._problems = 0

    def run(self) -> int:
        """Label it, write the files and return the exit status."""
        self._begin()
        total = int(self._reader.duration)
        try:
            with Progress(total, "labelling", "second", first="compiling the network") as self._progress:
                for event in self._stream:
                    self._take(event)
        except BaseException as error:
            self._segments += self._stream.close()
            self._write()
            if isinstance(error, KeyboardInterrupt):
                self._burn()
            raise
        self._write()
        self._burn()
        self._finish()
        return 1 if self._problems or self._reader.reason else 0

    def _begin(self) -> None:
        windows = self._stream.windows
        length, stride = windows.length / windows.rate, windows.stride / windows.rate
        record = {"window": round(length, 3), "stride": round(stride, 3), "rate": round(windows.rate, 3)}
        if self._args.json:
            self._say("start", record | {"carried": self._stream.carries})
            return
        carried = ", the state of relays carried on (--no-carry: each anew)" if self._stream.carries else ""
        every = f"windows of {length:.3g} s every {stride:.3g} s"
        print(f"{self._reader.source.name}: {every} at {windows.rate:.4g} frames a second{carried}", flush=True)

    def _take(self, event: Labelled | Segment) -> None:
        if isinstance(event, Segment):
            self._segments.append(event)
            self._show(event)
        else:
            if self._args.json:
                self._say("window", _record(event), self._progress)
            seconds = int(event.end)
            self._progress.note(**self._note(event))
            self._progress.update(max(seconds - self._shown, 0))
            self._shown = max(seconds, self._shown)
        if self._args.out and time.monotonic() - self._saved > _SAVED:
            self._write()
            self._saved = time.monotonic()

    def _note(self, event: Labelled) -> dict[str, str]:
        note = {"label": f"{event.prediction.label} {event.prediction.score:.0%}", "latency": f"{event.latency:.2f} s"}
        if self._reader.source.live:
            note |= {"lag": f"{event.lag:.2f} s", "dropped": f"{self._reader.dropped} frames"}
        return note

    def _show(self, segment: Segment) -> None:
        if self._args.json:
            self._say("segment", outputs.as_record(segment, self._classes), self._progress)
        else:
            self._progress.print(_line(segment, self._classes))

    def _say(self, event: str, record: dict[str, Any], progress: Progress | None = None) -> None:
        line = json.dumps({"event": event, "video": self._reader.source.name, **record})
        if progress:
            progress.print(line)
        else:
            print(line, flush=True)

    def _about(self) -> dict[str, Any]:
        windows = self._stream.windows
        plan = {"window": windows.length / windows.rate, "stride": windows.stride / windows.rate}
        return {"video": self._reader.source.name, **plan, **self._stream.summary(), **vars(self._stream.rule)}

    def _write(self) -> None:
        """Write the files; one that cannot be written costs none of the others."""
        for path in self._args.out:
            try:
                outputs.write(path, self._segments, self._classes, self._about())
            except OSError as error:
                self._problems += 1
                print(f"dnr predict: {path} cannot be written ({error.strerror or error})", file=sys.stderr)

    def _burn(self) -> None:
        if not self._args.burn:
            return
        end = self._stream.end
        shown = 0

        def advance(seconds: float) -> None:
            nonlocal shown
            progress.update(int(seconds) - shown)
            shown = max(int(seconds), shown)

        source: Source = source_of(self._reader.source.name, timeout=self._args.timeout)
        with Progress(int(end), "burning the labels in", "second") as progress:
            try:
                burn(source, self._args.burn, self._segments, self._classes, end, advance)
            except (OSError, DecodeError, av.FFmpegError) as error:
                self._problems += 1
                print(f"dnr predict: {self._args.burn} cannot be written ({error})", file=sys.stderr)

    def _finish(self) -> None:
        summary = self._stream.summary()
        if self._args.json:
            self._say("end", summary)
        early = f"; it ended early: {self._reader.reason}" if self._reader.reason else ""
        lag = f", {summary['lag']:.2f} s behind it" if self._reader.source.live else ""
        speed = f"{summary['elapsed']:.1f} s, {summary['speed']:.3g} times as fast as it plays"
        done = [
            f"{seconds_as_clock(self._stream.end)} of video in {speed}",
            f"{summary['windows']} windows, a label {summary['latency']:.2f} s after its last frame{lag}",
            f"{summary['dropped_frames']} frames dropped, {summary['damaged_packets']} packets damaged{early}",
        ]
        print("; ".join(done), file=sys.stderr)
        for path in (*self._args.out, *([self._args.burn] if self._args.burn else [])):
            if os.path.exists(path) and not self._problems:
                print(f"wrote {path}", file=sys.stderr)


def _record(event: Labelled) -> dict[str, Any]:
    times = {"start": round(event.start, 3), "end": round(event.end, 3)}
    scores = [round(score, 6) for score in event.prediction.scores]
    labels = {"labels": event.prediction.labels, "scores": scores}
    return times | labels | {"latency": round(event.latency, 4), "lag": round(event.lag, 4)}


def _line(segment: Segment, classes: Sequence[str]) -> str:
    times = f"{seconds_as_clock(segment.start)} - {seconds_as_clock(segment.end)}"
    return f"  {times:<25} {segment.score:6.1%}  {classes[segment.label]}"
