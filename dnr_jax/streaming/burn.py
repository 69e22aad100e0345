"""The labels of a timeline drawn into the video itself."""

import contextlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.video.frame import VideoFrame

from dnr_jax.data.clips.container import OPEN_OPTIONS, best_video, decode_packet, openable, orientation
from dnr_jax.streaming.outputs import drawn_as_boxes
from dnr_jax.streaming.segments import Segment
from dnr_jax.streaming.sources import PLAUSIBLE_RATE, Clock, Source, converted, shown_at

_SLACK = 0.5
"""Seconds that sound may last longer than pictures."""
AUDIO_IN_MP4 = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"})
"""Codecs whose packets are copied; sound of others is left out."""


def burn(
    source: Source,
    path: str,
    segments: Sequence[Segment],
    classes: Sequence[str],
    end: float,
    advance: Callable[[float], None] = lambda seconds: None,
) -> None:
    """Write a video with the labels of its segments in the lower left corner; its sound is copied.

    What is written when this is interrupted is a whole file.

    Args:
      source: the video, which is read a second time.
      path: file to write, an MP4 file.
      segments: in order.
      classes: names of the classes.
      end: seconds of the video to write.
      advance: called with how many seconds are written.
    """
    with (
        _opened(source) as given,
        av.open(openable(path), "w", format="mp4", options={"movflags": "+faststart"}) as written,
    ):
        stream = best_video(given)
        stream.thread_type = "AUTO"
        sound = _copied_sound(given, written)
        writer = _Writer(written, stream, segments, classes)
        early: list[av.Packet] = []  # sound from before the first picture, whose size the file's header needs
        for packet in given.demux([stream, *sound]):
            if packet.stream.type == "audio":
                early.append(packet)
            else:
                for picture in decode_packet(stream.codec_context, packet if packet.size else None):
                    seconds = writer.draw(picture)
                    if seconds >= end:
                        return writer.close()
                    advance(seconds)
            if writer.begun:
                for held in early:
                    _copy(held, sound, written, end)
                early.clear()
        writer.close()


def _opened(source: Source) -> InputContainer:
    return av.open(source.file, "r", options=source.options, **OPEN_OPTIONS)


def _copied_sound(given: InputContainer, written: OutputContainer) -> dict[Any, AudioStream]:
    """Return the stream that takes the packets of the best sound, by its origin; none where MP4 files have no such."""
    sound = given.streams.best("audio")
    if sound is None or sound.codec_context is None or sound.codec_context.name not in AUDIO_IN_MP4:
        return {}
    return {sound: cast(AudioStream, written.add_stream_from_template(sound))}


def _copy(packet: av.Packet, sound: dict[Any, AudioStream], written: OutputContainer, end: float) -> None:
    if packet.dts is None or (packet.pts is not None and packet.pts * packet.time_base > end + _SLACK):
        return
    packet.stream = sound[packet.stream]
    with contextlib.suppress(av.FFmpegError):  # sound whose times run back costs that sound
        written.mux(packet)


class _Writer:
    """Draws and encodes one frame after the other."""

    def __init__(
        self, written: OutputContainer, stream: av.VideoStream, segments: Sequence[Segment], classes: Sequence[str]
    ):
        told = stream.average_rate or stream.guessed_rate or Fraction(0)
        rate = told if 0 < told <= PLAUSIBLE_RATE else Fraction(25)  # players go by it what they need for the file
        self._given, self._written = stream, written
        self._segments, self._classes = segments, classes
        self._stream = written.add_stream("libx264", rate=rate, options={"preset": "veryfast"})
        self._stream.pix_fmt = "yuv420p"
        self._base = Fraction(1, 90_000)
        self._stream.time_base = self._stream.codec_context.time_base = self._base
        self._clock = Clock(float(rate))
        self._place = 0
        self._text, self._label = "", np.zeros((0, 0, 4), np.float32)
        self._size: tuple[int, int] | None = None
        self._ticks = -1

    @property
    def begun(self) -> bool:
        """Whether the size of the pictures is known."""
        return self._size is not None

    def draw(self, picture: VideoFrame) -> float:
        """Write a frame; return when it is shown."""
        seconds = self._clock(shown_at(picture, self._given))
        pixels = orientation(picture).apply(converted(picture, "rgb24").to_ndarray())
        if self._size is None:
            self._size = self._stream.height, self._stream.width = (pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2)
        image = np.array(pixels[: self._size[0], : self._size[1]])
        if image.shape[:2] == self._size:  # a frame of another size, in the middle of a file, is left out
            self._blend(image, self._caption(seconds))
            frame = converted(VideoFrame.from_ndarray(image, format="rgb24"), "yuv420p")
            self._ticks = max(round(seconds / self._base), self._ticks + 1)
            frame.pts, frame.time_base = self._ticks, self._base
            self._written.mux(self._stream.encode(frame))
        return seconds

    def _caption(self, seconds: float) -> str:
        while self._place < len(self._segments) and self._segments[self._place].end <= seconds:
            self._place += 1
        segment = self._segments[self._place] if self._place < len(self._segments) else None
        if segment is None or segment.start > seconds:
            return ""
        return f"{segment.score:.0%}  {' '.join(self._classes[segment.label].split())}"

    def _blend(self, image: np.ndarray, text: str) -> None:
        if text != self._text:
            self._text, self._label = text, caption(text, *image.shape[:2]) if text else np.zeros((0, 0, 4), np.float32)
        height, width = self._label.shape[:2]
        if height and width:
            below = image[-height:, :width]
            alpha = self._label[..., 3:]
            below[:] = np.round(below * (1 - alpha) + self._label[..., :3] * alpha * 255).astype(np.uint8)

    def close(self) -> None:
        """Write what the encoder holds."""
        self._written.mux(self._stream.encode())


@drawn_as_boxes()
def caption(text: str, height: int, width: int) -> np.ndarray:
    """Return a text as a picture, white on a dark bar: float32 ``[h, w, 4]`` from 0 to 1, with its opacity.

    Args:
      text: one line; where it is wider than the frame it is made smaller, and then cut off.
      height: of the frames that it goes into, in pixels.
      width: likewise.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    bar = min(max(height // 10, 12), height)
    figure = Figure(figsize=(width / 100, bar / 100), dpi=100, facecolor=(0, 0, 0, 0.55))
    canvas = FigureCanvasAgg(figure)
    shown = text.encode("utf-8", "replace").decode()
    points = 0.62 * bar * 72 / 100
    drawn = figure.text(0.02, 0.5, shown, color="white", va="center", fontsize=points, parse_math=False)
    room = 0.96 * width

    def taken() -> float:
        return float(drawn.get_window_extent(canvas.get_renderer()).width)

    if taken() > room:
        drawn.set_fontsize(points * max(0.7, room / taken()))
    while taken() > room and len(shown) > 1:
        shown = shown[: len(shown) - max(len(shown) // 20, 1)]
        drawn.set_text(shown)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba(), np.float32)[:bar, :width] / 255
