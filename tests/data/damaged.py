"""What becomes of damaged videos, kind by kind: how many still give a clip, and how many are refused.

    python -m tests.data.damaged --count 2000 --clips FOLDER

Copies of small generated videos, and of the files in FOLDER, are damaged with a seed, and read by the evaluation's
pipeline in a worker process. A decoder that crashes ends the worker, and with it the command; one that hangs, the
command's patience.
"""

import argparse
import collections
import pathlib
import tempfile
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from tqdm import tqdm

from dnr_jax.config import DataConfig, EvaluationConfig, VideoSource
from dnr_jax.data.catalogue.media import pack_frames
from dnr_jax.data.clips.decode import encode_video
from dnr_jax.data.clips.pipeline import evaluation_iterator
from dnr_jax.data.clips.sampling import Dense
from tests.data.videos import moving_frames, write_frames

CODECS = {"mp4": "libx264", "mkv": "libx264", "ts": "mpeg2video", "avi": "mpeg4", "webm": "libvpx-vp9", "flv": "flv"}
MAX_BYTES = 2**20


def flip_bits(media: bytearray, rng: np.random.Generator) -> None:
    """Flip 1 to 64 bits anywhere."""
    for position in rng.integers(len(media), size=rng.integers(1, 65)):
        media[position] ^= 1 << rng.integers(8)


def truncate(media: bytearray, rng: np.random.Generator) -> None:
    """Cut the end off, perhaps everything."""
    del media[rng.integers(len(media)) :]


def damage_header(media: bytearray, rng: np.random.Generator) -> None:
    """Overwrite up to 16 of the first 512 bytes."""
    for position in rng.integers(min(512, len(media)), size=rng.integers(1, 17)):
        media[position] = rng.integers(256)


def erase(media: bytearray, rng: np.random.Generator) -> None:
    """Overwrite a stretch of up to a quarter of the file with zeros."""
    start, length = rng.integers(len(media)), rng.integers(1, len(media) // 4 + 2)
    media[start : start + length] = bytes(len(media[start : start + length]))


KINDS: Mapping[str, Callable[[bytearray, np.random.Generator], None]] = {
    "bits flipped": flip_bits,
    "truncated": truncate,
    "header damaged": damage_header,
    "stretch erased": erase,
}


def originals(folder: pathlib.Path) -> dict[str, bytes]:
    """Write a small video in each container to ``folder``, and JPEG frames, and return the bytes of all."""
    media = {}
    for suffix, codec in CODECS.items():
        path = folder / f"video.{suffix}"
        encode_video(str(path), moving_frames(12, seed=1), codec=codec, options={"g": "6"})
        media[suffix] = path.read_bytes()
    write_frames(folder / "frames", moving_frames(12, seed=1))
    return media | {"JPEG frames": pack_frames(str(folder / "frames"))}


def damaged(media: Mapping[str, bytes], count: int, seed: int) -> tuple[list[bytes], list[str]]:
    """Return ``count`` damaged copies in turns over videos and kinds of damage, and the kind of each."""
    copies, kinds = [], []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        kind = list(KINDS)[number % len(KINDS)]
        original = list(media.values())[number // len(KINDS) % len(media)]
        copy = bytearray(original)
        while copy == original:  # zeros may be written over zeros
            KINDS[kind](copy, rng)
        copies.append(bytes(copy))
        kinds.append(kind)
    return copies, kinds


def read_all(copies: Sequence[bytes]) -> np.ndarray:
    """Read all copies in a worker process; return whether each gave a clip, bool ``[len(copies)]``.

    Raises:
      AssertionError: for a clip of another shape or type, or a sample that is missing.
    """
    names = tuple(f"{number}" for number in range(len(copies)))
    source = VideoSource(names, np.zeros(len(copies), np.int32), names, ("any",), tuple(copies))
    data = DataConfig(sampler=Dense(3, 2), short_side=24, crop_size=16, num_workers=1)
    given = np.full(len(copies), -1)
    with evaluation_iterator(source, data, EvaluationConfig(), batch_size=8) as batches:
        for batch in tqdm(batches, unit="batch"):
            assert batch["video"].shape == (8, 1, 3, 16, 16, 3) and batch["video"].dtype == np.uint8
            shown = batch["index"] >= 0
            np.testing.assert_array_equal(batch["failed"][shown] >= 0, batch["weight"][shown] == 0)
            given[batch["index"][shown]] = batch["weight"][shown]
    assert set(np.unique(given)) <= {0, 1}
    return given.astype(bool)


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clips", type=pathlib.Path, help="a folder with more videos; those of at most 1 MiB are read")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        media = originals(pathlib.Path(folder))
    if args.clips:
        files = [path for path in sorted(args.clips.iterdir()) if 0 < path.stat().st_size <= MAX_BYTES]
        media |= {path.name: path.read_bytes() for path in files if path.suffix not in (".txt", ".csv")}
    copies, kinds = damaged(media, args.count, args.seed)
    clips = read_all(copies)
    counts = collections.Counter(zip(kinds, clips.tolist(), strict=True))
    print(f"{len(copies)} damaged copies of {len(media)} videos\n")
    print("| damage | gave a clip | refused |\n|---|---|---|")
    for kind in KINDS:
        print(f"| {kind} | {counts[kind, True]} | {counts[kind, False]} |")


if __name__ == "__main__":
    main()
