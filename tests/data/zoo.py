"""Whether clips have the frames of decoding in order, for every codec and container that the PyAV wheel can write.

    python -m tests.data.zoo                     # a table; the exit status is 1 where any clip is wrong
    python -m tests.data.zoo --codecs libx264 mpeg4 --containers mp4 avi

Each codec is written into each container that takes it, and each file is also copied as people copy streams: out of an
AVI file, a transport stream or a raw stream with the times that these have; cut off at its end or its start; one after
another. Clips are read from the file, and with an index of its packets. A file that cannot be made, or of which
decoding in order gives nothing, does not count.
"""

import argparse
import collections
import io
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import av
import numpy as np
from tqdm import tqdm

from dnr_jax.data.clips.decode import DecodeError, StoredVideo, decode_frames, index_packets
from tests.data.videos import moving_frames

Result = TypeVar("Result")

FRAMES, HEIGHT, WIDTH, FPS = 40, 144, 176, 25
STARTS, STEPS = (0, 8, 17, 30), (1, 3, 8)  # of clips
SMOOTH = {"g": "10", "bf": "0"}
REORDERED = {"g": "12", "bf": "3"}
# By encoder: the options of each of its streams. Of others: none.
STREAMS: Mapping[str, Sequence[Mapping[str, str]]] = {
    "libx264": [
        SMOOTH | {"preset": "ultrafast"},
        REORDERED | {"preset": "veryfast", "b-pyramid": "normal"},
        REORDERED | {"preset": "veryfast", "x264-params": "open-gop=1:bframes=3:b-adapt=0"},
        {"preset": "veryfast", "x264-params": "intra-refresh=1:keyint=10"},
        REORDERED | {"preset": "veryfast", "x264-params": "interlaced=1"},
    ],
    "libx265": [
        {"x265-params": "log-level=none:keyint=10:bframes=0"},
        {"x265-params": "log-level=none:keyint=12:bframes=4:b-adapt=0"},
        {"x265-params": "log-level=none:keyint=12:bframes=3:open-gop=1"},
    ],
    "mpeg1video": [SMOOTH, REORDERED],
    "mpeg2video": [SMOOTH, REORDERED, REORDERED | {"flags": "+ildct+ilme"}, REORDERED | {"flags": "+cgop"}],
    "mpeg4": [SMOOTH, REORDERED],
    "libvpx": [
        {"g": "12", "deadline": "realtime"},
        {"deadline": "good", "cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "16", "b": "100k"},
    ],
    "libvpx-vp9": [
        {"g": "12", "deadline": "realtime", "cpu-used": "8"},
        {"g": "24", "deadline": "good", "cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "12", "b": "200k"},
    ],
    "libsvtav1": [{"g": "12", "preset": "12", "svtav1-params": "lp=1"}],
    "libaom-av1": [{"g": "12", "cpu-used": "8", "usage": "realtime"}],
    "mjpeg": [{"strict": "unofficial"}],
}
CODECS = tuple(STREAMS) + tuple(
    """libopenh264 msmpeg4v2 msmpeg4 wmv1 wmv2 flv h263 h263p h261 ljpeg jpeg2000 libopenjpeg png apng gif ffv1 ffvhuff
    huffyuv utvideo prores prores_ks dnxhd dvvideo rawvideo v210 qtrle cinepak svq1 rv10 rv20 libtheora snow asv1 asv2
    zmbv flashsv flashsv2 vc2 cfhd speedhq magicyuv msvideo1 rpza smc bmp libwebp""".split()
)
CONTAINERS = tuple(
    """mp4 mov matroska webm avi mpegts mpeg vob flv asf 3gp ogg nut mxf ivf h264 hevc m4v mpeg1video mpeg2video obu
    mjpeg gif apng rm f4v""".split()
)
# What streams are copied through, and what they are copied to.
PASSED = ("avi", "mpegts", "h264", "hevc", "m4v", "mpeg1video", "mpeg2video", "matroska")
COPIED_TO = ("mp4", "matroska", "mpegts", "avi")
# Files of these can be written one after another, or begin anywhere.
STREAMED = frozenset({"mpegts", "mpeg", "vob", "h264", "hevc", "m4v", "mpeg1video", "mpeg2video", "obu", "mjpeg"})


def numbered_frames(count: int = FRAMES, first: int = 0) -> np.ndarray:
    """Return frames ``[count, 144, 176, 3]``; frame n shows n in binary, in 8 blocks along its upper half."""
    frames = moving_frames(count, seed=1, height=HEIGHT, width=WIDTH)
    for number, frame in enumerate(frames, start=first):
        for bit in range(8):
            frame[16:56, 22 * bit : 22 * bit + 22] = 255 * (number >> bit & 1)
    return frames


def number_of(frame: np.ndarray) -> int:
    """Return the number that a frame shows."""
    grey = frame[20:52].mean(axis=(0, 2))
    return sum(int(grey[22 * bit + 6 : 22 * bit + 16].mean() > 128) << bit for bit in range(8))


def write(codec: str, container: str, options: Mapping[str, str], frames: np.ndarray) -> bytes:
    """Return a file of a codec in a container."""
    output = io.BytesIO()
    with av.open(output, "w", format=container) as file:
        size, rate = (720, 576) if codec == "dvvideo" else (WIDTH, HEIGHT), FPS
        stream = file.add_stream(codec, rate=rate, options=dict(options))
        stream.width, stream.height = size
        formats = [known.name for known in stream.codec.video_formats or ()]
        if formats and stream.pix_fmt not in formats:
            stream.pix_fmt = next((name for name in ("yuv420p", "yuv422p") if name in formats), formats[0])
        stream.codec_context.thread_count = 1
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())
    return output.getvalue()


def copy(files: Sequence[bytes], container: str) -> bytes:
    """Return the video streams of files one after another in a container, as ``ffmpeg -c copy`` does it."""
    output, end = io.BytesIO(), 0
    with av.open(output, "w", format=container) as target:
        stream = None
        for content in files:
            with av.open(io.BytesIO(content)) as source:
                video = source.streams.video[0]
                stream = stream or target.add_stream_from_template(video)
                start, number = end, 0
                for number, packet in enumerate(p for p in source.demux(video) if p.size):
                    step = round(1 / (FPS * packet.time_base))
                    dts = number * step if packet.dts is None else packet.dts
                    pts = dts if packet.pts is None else packet.pts
                    packet.dts, packet.pts = dts + start, pts + start
                    end = max(end, packet.dts + step)
                    packet.stream = stream
                    target.mux(packet)
    return output.getvalue()


def variants(codec: str, container: str, options: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    """Yield files of one stream, and how each was made; those that cannot be are left out."""
    frames = numbered_frames()
    plain = _attempt(lambda: write(codec, container, options, frames))
    if not plain:
        return
    yield "plain", plain
    yield "cut at the end", plain[: len(plain) * 2 // 3]
    if container in STREAMED:
        yield "cut at the start", plain[len(plain) // 5 :]
        yield "joined", plain + plain
        yield "joined after a cut", plain[: len(plain) // 2] + plain
    made = {"copied, joined": lambda: copy([plain, plain], container)}
    made |= {
        f"copied to {target}": lambda target=target: copy([plain], target)
        for target in COPIED_TO
        if container in PASSED and target != container
    }
    for how, make in made.items():
        content = _attempt(make)
        if content:
            yield how, content


def _attempt(make: Callable[[], Result]) -> Result | None:
    """Return what ``make`` returns, or ``None`` where FFmpeg refuses (an IndexError: there is no stream)."""
    try:
        return make()
    except (av.FFmpegError, DecodeError, ValueError, OverflowError, TypeError, MemoryError, IndexError):
        return None


def in_order(content: bytes) -> list[int | None]:
    """Return the numbers that the frames show when the whole file is decoded.

    They are ``None`` from damage to the next keyframe, and where decoding once more gives another: what a decoder makes
    up depends on what was in memory.
    """
    once, again = (_decode_all(content, kept) for kept in ([], None))
    return [number if number == other else None for number, other in zip(once, again, strict=True)]


def _decode_all(content: bytes, kept: list[av.VideoFrame] | None) -> list[int | None]:
    numbers: list[int | None] = []
    is_damaged = False
    with av.open(io.BytesIO(content)) as file:
        video = file.streams.best("video")
        if video is None or video.codec_context is None:
            return numbers
        video.codec_context.thread_count = 1  # with several, an error costs the frames that others work on
        packets = (packet for packet in file.demux(video) if packet.size)
        while True:
            packet = _attempt(lambda: next(packets, None))
            frames = _attempt(lambda packet=packet: video.codec_context.decode(packet))
            is_damaged |= packet is not None and frames is None
            for frame in frames or ():
                is_damaged = frame.is_corrupt or (is_damaged and not frame.key_frame)
                if kept is not None:
                    kept.append(frame)  # so that no other is written to its memory
                numbers.append(None if is_damaged else number_of(frame.to_ndarray(format="rgb24")))
            if packet is None:
                return numbers


def can_be_decoded(content: bytes) -> bool:
    """Return whether decoding a file in order gives some frame."""
    return bool(_attempt(lambda: in_order(content)))


def wrong_clips(content: bytes, starts: Sequence[int] = STARTS, steps: Sequence[int] = STEPS) -> list[str]:
    """Return what is wrong with the clips of a file, of which decoding in order gives some frame.

    They are read from the file, and once more with an index of its packets where there can be one.
    """
    expected = in_order(content)
    index = _attempt(lambda: index_packets(content))
    videos = [content, StoredVideo(content, packets=index)] if index else [content]
    wrong = []
    for video, start, step in itertools.product(videos, starts, steps):
        clip = np.arange(start, start + 4 * step, step)
        try:
            frames, total = decode_frames(video, lambda total, clip=clip: clip % total)
        except DecodeError as error:
            wrong.append(str(error))
            continue
        shown, right = [number_of(frame) for frame in frames], [expected[i] for i in (clip % len(expected)).tolist()]
        if total != len(expected) or any(b not in (a, None) for a, b in zip(shown, right, strict=True)):
            wrong.append(f"{total} frames instead of {len(expected)}, {shown} instead of {right}")
    return wrong


def main() -> None:
    """Print a Markdown table, a row a codec and container."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codecs", nargs="*", default=CODECS)
    parser.add_argument("--containers", nargs="*", default=CONTAINERS)
    args = parser.parse_args()
    av.logging.set_level(av.logging.PANIC)
    clips = len(STARTS) * len(STEPS)
    totals: collections.Counter[str] = collections.Counter()
    print("| codec | container | files | clips | wrong |\n|---|---|---|---|---|")
    pairs = list(itertools.product([codec for codec in args.codecs if codec in av.codecs_available], args.containers))
    for codec, container in tqdm(pairs, unit="pair"):
        row: collections.Counter[str] = collections.Counter()
        for options in STREAMS.get(codec, [{}]):
            for how, content in variants(codec, container, options):
                if not can_be_decoded(content):
                    continue
                wrong = wrong_clips(content)
                row += collections.Counter({"files": 1, "clips": clips, "wrong": len(wrong)})
                if wrong:
                    tqdm.write(f"{codec} {container} {dict(options)} {how}: {len(wrong)} wrong, {wrong[0]}", sys.stderr)
        if row["files"]:
            totals += row + collections.Counter({"pairs": 1})
            print(f"| {codec} | {container} | {row['files']} | {row['clips']} | {row['wrong']} |", flush=True)
    print(f"\n{totals['pairs']} pairs, {totals['files']} files, {totals['clips']} clips: {totals['wrong']} wrong")
    sys.exit(totals["wrong"] > 0)


if __name__ == "__main__":
    main()
