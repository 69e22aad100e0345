"""Small videos with known content."""

import fractions
import io
import pathlib

import av
import cv2
import numpy as np


def moving_frames(count: int, seed: int, height: int = 32, width: int = 48) -> np.ndarray:
    """A textured picture that moves by a pixel a frame, so that no two frames are alike."""
    texture = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    picture = texture.repeat(4, axis=0).repeat(4, axis=1)
    return np.stack([np.roll(picture, (t, 2 * t), axis=(0, 1)) for t in range(count)])


def write_frames(folder: pathlib.Path, frames: np.ndarray, name: str = "{:05d}.jpg") -> None:
    """Writes frames as JPEG files, numbered from 1."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames, start=1):
        assert cv2.imwrite(str(folder / name.format(number)), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))


def irregular_video(kind: str, codec: str, times: list[int]) -> bytes:
    """A video whose frames are shown at times in ms."""
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=30, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.time_base = stream.codec_context.time_base = base = fractions.Fraction(1, 1000)
        for time, pixels in zip(times, moving_frames(len(times), seed=0), strict=True):
            frame = av.VideoFrame.from_ndarray(pixels)
            frame.pts, frame.time_base = time, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()
