"""Labels along a generated video of hours: memory, speed against real time, and how far boundaries are from the truth.

The video is made of clips like the demo's, of 24 frames each: some of one class, then some of another. The network is
that of a run of ``configs/demo.py``. Each figure is that of one run of this program::

    python benchmarks/streaming.py --workdir runs/demo --hours 2
"""

import argparse
import bisect
import os
import pathlib
import tempfile
import time
from collections.abc import Sequence
from typing import cast

import av
import numpy as np
import psutil

from dnr_jax.data.catalogue.demo import CLASSES, draw, trajectory
from dnr_jax.evaluation.predict import Predictor
from dnr_jax.runs.devices import enable_compilation_cache
from dnr_jax.streaming import outputs
from dnr_jax.streaming.segments import Segment
from dnr_jax.streaming.sources import Reader, source_of
from dnr_jax.streaming.stream import Stream, StreamSettings

CLIP_FRAMES = 24
SIZE = 40


def write_video(path: str, hours: float, rate: int, classes: Sequence[str], seed: int = 0) -> list[Segment]:
    """Write a video of clips of known classes, and return where each class is seen.

    Args:
      path: MP4 file to write.
      hours: its length.
      rate: frames per second.
      classes: their names, in the order of the labels.
      seed: of classes and pictures.
    """
    rng = np.random.default_rng(seed)
    drawn = [[draw(trajectory(label, rng, CLIP_FRAMES), SIZE, rng) for _ in range(20)] for label in range(len(CLASSES))]
    truth: list[Segment] = []
    frames, total = 0, int(hours * 3600 * rate)
    label = int(rng.integers(len(CLASSES)))
    with av.open(path, "w") as container:
        stream = cast(
            av.VideoStream, container.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "qp": "14"})
        )
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        while frames < total:
            start = frames
            for _ in range(int(rng.integers(3, 8))):
                for picture in drawn[label][rng.integers(len(drawn[label]))]:
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
                frames += CLIP_FRAMES
            truth.append(Segment(start / rate, frames / rate, classes.index(CLASSES[label]), 1.0))
            label = (label + int(rng.integers(1, len(CLASSES)))) % len(CLASSES)
        container.mux(stream.encode())
    return truth


def distances(truth: Sequence[Segment], found: Sequence[Segment]) -> list[float]:
    """Return how far each boundary is, in seconds, from the nearest one found between the same two labels."""
    pairs: dict[tuple[int, int], list[float]] = {}
    for before, after in zip(found, found[1:], strict=False):
        pairs.setdefault((before.label, after.label), []).append((before.end + after.start) / 2)
    result = []
    for before, after in zip(truth, truth[1:], strict=False):
        times = pairs.get((before.label, after.label), [])
        place = bisect.bisect(times, after.start)
        result.append(min((abs(time - after.start) for time in times[max(place - 1, 0) : place + 1]), default=np.inf))
    return result


def agreement(truth: Sequence[Segment], found: Sequence[Segment]) -> float:
    """Return the share of the time in which the label found is the true one."""
    right = sum(
        max(min(one.end, other.end) - max(one.start, other.start), 0)
        for one in truth
        for other in found
        if one.label == other.label and one.start < other.end and other.start < one.end
    )
    return right / truth[-1].end


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True, help="run of configs/demo.py")
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--rate", type=int, default=4, help="frames per second (default: 4)")
    parser.add_argument("--stride", type=float, help="seconds; default: that of dnr predict --stream")
    parser.add_argument("--no-carry", action="store_true")
    parser.add_argument("--out", help="picture of the timeline to write")
    args = parser.parse_args()
    enable_compilation_cache()
    clip = CLIP_FRAMES / args.rate
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / "long.mp4")
        predictor = Predictor(args.workdir)
        truth = write_video(path, args.hours, args.rate, predictor.classes)
        size = os.path.getsize(path) / 1e6
        print(f"{args.hours:g} h at {args.rate} frames a second, {size:.0f} MB, {len(truth)} scenes")
        settings = StreamSettings(window=clip, stride=args.stride, carry=not args.no_carry)
        process, memory, segments = psutil.Process(), [], []
        with Reader(source_of(path)) as reader:
            stream = Stream(predictor, reader, settings)
            begun, worked, next_look = time.monotonic(), time.process_time(), 0.05
            for event in stream:
                if isinstance(event, Segment):
                    segments.append(event)
                elif event.end / (args.hours * 3600) > next_look:
                    memory.append(process.memory_info().rss / 1e6)
                    next_look += 0.05
            elapsed, work = time.monotonic() - begun, time.process_time() - worked
            summary = stream.summary()
    far = np.array(distances(truth, segments))
    print(f"state of relays carried: {stream.carries}; {summary['windows']} windows of {clip:g} s")
    print(
        f"speed: {stream.end / elapsed:.1f} times as fast as it plays ({elapsed:.1f} s, the first compile among them)"
    )
    print(f"work: {work:.1f} s of processors, 1/{stream.end / work:.0f} of the time that it plays")
    print(f"memory: {memory[0]:.0f} MB after 5% of it, {memory[-1]:.0f} MB at the end, {max(memory):.0f} MB at most")
    print(f"segments: {len(segments)}; right label {agreement(truth, segments):.1%} of the time")
    median = np.median(far) / clip
    print(f"boundaries within one clip: {np.sum(far <= clip)} of {len(far)}; median distance {median:.2f} clips")
    if args.out:
        about = {"video": "the generated video", "seconds": stream.end}
        outputs.write(args.out, segments, predictor.classes, about)


if __name__ == "__main__":
    main()
