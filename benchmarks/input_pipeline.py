"""How fast clips are decoded, next to what the codec allows and to decord: CPU time, one file after the other in turns.

For clips of 8 frames, 8 apart, from a random start in 10 seconds of 340 x 256 pixels. The floor is libavcodec decoding
the frames that must be decoded (from the keyframe before the first wanted one on, without those that nothing refers
to and nobody wants), from packets that are in memory, without conversion to RGB. A record is one that ``dnr prepare``
writes, with an index of its packets; reading it is part of its time. decord is read as MMAction2 reads it
(``get_batch``) where it is installed, and so is torchcodec, with its default of exact seeking (``get_frames_at``).

    python benchmarks/input_pipeline.py
    python benchmarks/input_pipeline.py --videos FOLDER        # also the files of a folder
    python benchmarks/input_pipeline.py --soak 10000 --workers 2      # memory and open files over many clips
    python benchmarks/input_pipeline.py --scaling      # what limits the threads of a process; threads and workers
"""

import argparse
import functools
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

import av
import cv2
import numpy as np
from tqdm import tqdm

from dnr_jax.config import DataConfig, VideoSource
from dnr_jax.data.catalogue.media import Reencoding, read_media, reencode
from dnr_jax.data.catalogue.records import RecordReader, RecordWriter, Shard, assemble
from dnr_jax.data.clips.cores import available_cores
from dnr_jax.data.clips.decode import decode_frames, encode_video, index_packets
from dnr_jax.data.clips.pipeline import train_iterator
from dnr_jax.data.clips.sampling import Dense, dense_train
from dnr_jax.data.clips.transforms import TrainTransform

FRAMES, INTERVAL = 8, 8
HEIGHT, WIDTH, FPS, SECONDS = 256, 340, 25, 10
try:
    import decord
except ImportError:
    decord = None
try:
    import torchcodec.decoders as torchcodec
except (ImportError, RuntimeError):  # which it raises without FFmpeg's libraries, or with those of another torch
    torchcodec = None


def footage(seed: int = 0) -> np.ndarray:
    """Return ``[250, 256, 340, 3]``: a smooth picture that the camera pans over, moving blobs, and a sensor's noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (24, 32, 3), np.uint8)
    picture = cv2.resize(coarse, (2 * WIDTH, 2 * HEIGHT), interpolation=cv2.INTER_CUBIC)
    detail = cv2.resize(rng.integers(0, 60, (256, 340, 3), np.uint8), (2 * WIDTH, 2 * HEIGHT))
    picture = cv2.add(picture, detail)
    frames = np.empty((FPS * SECONDS, HEIGHT, WIDTH, 3), np.uint8)
    for t, frame in enumerate(frames):
        y, x = (int(100 * (1 + np.sin(t / period))) for period in (23, 31))
        frame[:] = picture[y : y + HEIGHT, x : x + WIDTH]
        for blob in range(4):
            centre = (
                int(WIDTH * (0.5 + 0.4 * np.sin(t / 17 + blob))),
                int(HEIGHT * (0.5 + 0.4 * np.cos(t / 11 - blob))),
            )
            cv2.circle(frame, centre, 18 + 4 * blob, (60 * blob, 200, 255 - 60 * blob), -1, cv2.LINE_AA)
        noise = rng.normal(0, 3, frame.shape).astype(np.int16)
        frame[:] = np.clip(frame + noise, 0, 255)
    return frames


def write_files(folder: pathlib.Path, frames: np.ndarray) -> dict[str, str]:
    """Write footage in every form, and return the paths by what they are."""
    folder.mkdir(exist_ok=True)
    files = {}
    for name, codec, suffix, options in (
        ("H.264, keyframes every 250", "libx264", "mp4", {"g": "250"}),
        ("H.264, keyframes every 30", "libx264", "mp4", {"g": "30"}),
        ("VP9", "libvpx-vp9", "webm", {"g": "128", "deadline": "realtime", "cpu-used": "5", "b": "600k"}),
    ):
        files[name] = str(folder / f"{len(files)}.{suffix}")
        encode_video(files[name], frames, FPS, codec, options)
    access = folder / "access.mp4"
    access.write_bytes(reencode(pathlib.Path(files["H.264, keyframes every 250"]).read_bytes(), Reencoding()))
    files["H.264, re-encoded for access"] = str(access)
    jpeg = folder / "jpeg"
    jpeg.mkdir()
    for t, frame in enumerate(frames, start=1):
        cv2.imwrite(str(jpeg / f"{t:05d}.jpg"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    return files | {"JPEG frames": str(jpeg)}


def write_records(folder: pathlib.Path, paths: Sequence[str]) -> RecordReader:
    """Write files as the records of a prepared data set, and return them."""
    shard = Shard("train", str(folder / "shard"), [{"name": path, "label": 0} for path in paths])
    writer = RecordWriter(shard.file, ["any"])
    for path in paths:
        media = read_media(path)
        writer.write(media, path, 0, index_packets(media))
    writer.close()
    return RecordReader(assemble(str(folder), "benchmark", ["any"], "", "", [shard], {}), "train")


def picker(rng: np.random.Generator) -> Callable[[int], np.ndarray]:
    """Return a function from the number of frames to the frames of a training clip, always the same ones."""
    seed = rng.integers(2**32)
    return lambda total: dense_train(total, FRAMES, INTERVAL, np.random.default_rng(seed)).ravel()


def timed(function: Callable[[], object]) -> float:
    """Return the CPU seconds of this process that a call takes."""
    start = time.process_time()
    function()
    return time.process_time() - start


def floor(path: str, pick: Callable[[int], np.ndarray]) -> Callable[[], object]:
    """Return a function that decodes what must be decoded; everything else is done before."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        context = av.CodecContext.create(stream.codec_context.name, "r")
        context.extradata = stream.codec_context.extradata
    order = sorted(range(len(packets)), key=lambda n: packets[n].pts)
    wanted = {order[i] for i in pick(len(packets)).tolist()}
    first = max(n for n in range(len(packets)) if packets[n].is_keyframe and n <= min(wanted))
    context.thread_count = 1

    def decode() -> None:
        for n in range(first, max(wanted) + 1):
            context.skip_frame = "DEFAULT" if n in wanted else "NONREF"
            context.decode(packets[n])
        context.decode(None)

    return decode


def rounds(
    path: str, count: int, short_side: int = 256, record: Callable[[], bytes] | None = None
) -> Iterator[dict[str, float]]:
    """Yield the CPU seconds of each way to read the same random clips; ``record`` reads the record of the file."""
    rng = np.random.default_rng(0)
    transform = TrainTransform(short_side, short_side * 7 // 8)
    for _ in range(count):
        pick = picker(rng)
        frames, _ = decode_frames(path, pick)
        seconds = {
            "ours": timed(lambda pick=pick: decode_frames(path, pick)),
            "transform": timed(lambda frames=frames: transform(frames, 0, np.random.default_rng(0))),
        }
        if record:
            seconds["record"] = timed(lambda pick=pick: decode_frames(record(), pick))
        if not os.path.isdir(path):
            seconds["floor"] = timed(floor(path, pick))
            for name, read in PEERS.items():
                seconds[name] = timed(lambda read=read, pick=pick: read(path, pick))
        yield seconds


def read_decord(path: str, pick: Callable[[int], np.ndarray]) -> np.ndarray:
    """Return the frames as MMAction2's ``DecordInit`` and ``DecordDecode`` do."""
    with open(path, "rb") as file:
        reader = decord.VideoReader(file, num_threads=1)
    return reader.get_batch(pick(len(reader))).asnumpy()


def read_torchcodec(path: str, pick: Callable[[int], np.ndarray]) -> np.ndarray:
    """Return the frames as an array ``[n, H, W, 3]``, decoded by one thread."""
    decoder = torchcodec.VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=1)
    return decoder.get_frames_at(pick(len(decoder)).tolist()).data.numpy()


PEERS = {
    name: read
    for name, there, read in (("decord", decord, read_decord), ("torchcodec", torchcodec, read_torchcodec))
    if there
}
"""What reads the same clips, where it is installed."""


def speeds(args: argparse.Namespace) -> None:
    """Print a Markdown table, a row a file."""
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(pathlib.Path(folder), footage())
        if args.videos:
            files |= {path.name: str(path) for path in sorted(args.videos.iterdir())}
        records = write_records(pathlib.Path(folder), list(files.values()))
        others = ("floor", *PEERS)
        print(
            f"| | CPU ms a clip | clips/s a core | with crop and flip | {' | '.join(f'{o} / ours' for o in others)} |"
        )
        print("|---|---|---|---|" + "---|" * len(others))
        for number, (name, path) in enumerate(files.items()):
            record = functools.partial(records.__getitem__, number)
            record()  # opens the shards
            found = list(rounds(path, args.rounds, record=record))
            means = {key: float(np.mean([seconds[key] for seconds in found])) for key in found[0]}
            for kind, title in (("ours", name), ("record", "the same as a record")):
                ours, whole = means[kind], means[kind] + means["transform"]
                ratios = " | ".join(f"{means[key] / ours:.2f}" if key in means else "" for key in others)
                print(f"| {title} | {ours * 1e3:.1f} | {1 / ours:.0f} | {1 / whole:.0f} | {ratios} |", flush=True)


def scaling(args: argparse.Namespace) -> None:
    """Print how much of a clip's time does not depend on its pixels, and how clips/s grow with threads and workers.

    Python holds its lock (the GIL) around what decodes and resizes, and that takes as long for pictures of 20 x 16
    pixels, of which there is next to nothing to decode. So their time, which opening files is a part of, is a bound on
    what threads cannot do side by side; its inverse is the number of threads that a process has work for.
    """
    frames = footage()
    tiny = np.stack([cv2.resize(frame, (20, 16), interpolation=cv2.INTER_AREA) for frame in frames])
    with tempfile.TemporaryDirectory() as folder:
        files, small = (write_files(pathlib.Path(folder) / str(len(f[0])), f) for f in (frames, tiny))
        print("| file | CPU ms a clip | of 20 x 16 pixels | threads a process |")
        print("|---|---|---|---|")
        for name in files:
            whole, fixed = (
                sum(float(np.median([seconds[key] for seconds in found])) for key in ("ours", "transform"))
                for found in (list(rounds(files[name], args.rounds)), list(rounds(small[name], args.rounds, 16)))
            )
            print(f"| {name} | {whole * 1e3:.1f} | {fixed * 1e3:.1f} | {whole / fixed:.0f} |", flush=True)
        cores = available_cores()
        counts = sorted({2**n for n in range(cores.bit_length())} | {cores})
        settings = [(n, 0) for n in counts] + [(max(cores // n, 1), n) for n in counts]
        path = files["H.264, keyframes every 30"]
        found = np.array([[clips_per_second(path, *setting) for setting in settings] for _ in range(args.repeats)])
        print("\n| threads | workers | clips/s over those of one thread |\n|---|---|---|")
        for (threads, workers), ratio in zip(settings, np.median(found / found[:, :1], axis=0), strict=True):
            print(f"| {threads} | {workers or ''} | {ratio:.2f} |", flush=True)


def clips_per_second(path: str, threads: int, workers: int) -> float:
    """Return how many training clips a second come out of the whole pipeline."""
    batch, steps = 8, 4 * threads * max(workers, 1)
    source = VideoSource((path,) * 64, np.zeros(64, np.int32), (path,) * 64, ("any",))
    data = DataConfig(sampler=Dense(FRAMES, INTERVAL), num_threads=threads, num_workers=workers)
    with train_iterator(source, data, batch, seed=0) as batches:
        for _ in range(2 + 2 * threads * max(workers, 1) // batch):  # what was read ahead while the workers started
            next(batches)
        start = time.perf_counter()
        for _ in range(steps):
            next(batches)
        return batch * steps / (time.perf_counter() - start)


def soak(args: argparse.Namespace) -> None:
    """Print memory and open files of this process and its workers while many clips are read."""
    frames = footage()[:100, ::4, :336:4]
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number in range(16):
            paths.append(str(pathlib.Path(folder) / f"{number}.mp4"))
            encode_video(paths[-1], np.roll(frames, number, axis=2), FPS, options={"preset": "ultrafast"})
        source = VideoSource(tuple(paths), np.zeros(len(paths), np.int32), tuple(paths), ("any",))
        data = DataConfig(sampler=Dense(FRAMES, 2), short_side=64, crop_size=56, num_workers=args.workers)
        steps, every = args.soak // 16, max(args.soak // 160, 1)
        print("| clips | memory, MiB | open files |\n|---|---|---|")
        with train_iterator(source, data, batch_size=16, seed=0) as batches:
            for step in tqdm(range(1, steps + 1), unit="batch"):
                next(batches)
                if step % every == 0:
                    memory, opened = usage()
                    print(f"| {16 * step} | {memory:.0f} | {opened} |", flush=True)


def usage() -> tuple[float, int]:
    """Return the proportional memory in MiB, and the open files, of this process and its descendants (Linux)."""
    processes, memory, opened = [os.getpid()], 0, 0
    for pid in processes:
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            processes += map(int, (task / "children").read_text().split())
        lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        memory += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        opened += len(os.listdir(f"/proc/{pid}/fd"))
    return memory / 1024, opened


def main() -> None:
    """Print one of the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--videos", type=pathlib.Path, help="a folder of further videos")
    parser.add_argument("--soak", type=int, default=0, metavar="CLIPS", help="read so many clips and watch the memory")
    parser.add_argument("--workers", type=int, default=2, help="of the soak; 0: threads")
    parser.add_argument("--scaling", action="store_true", help="measure threads and workers")
    parser.add_argument("--repeats", type=int, default=3, help="of the scaling")
    args = parser.parse_args()
    if args.soak:
        soak(args)
    elif args.scaling:
        scaling(args)
    else:
        speeds(args)


if __name__ == "__main__":
    main()
