"""Videos that are folders, or archives, of pictures: one file a frame."""

import contextlib
import io
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable
from typing import cast

import cv2
import numpy as np
from etils import epath

from dnr_jax.data.clips.container import DecodeError
from dnr_jax.data.clips.suffixes import VIDEO_SUFFIXES

BUCKETS = ("gs://", "s3://")
"""How paths begin that etils.epath reads."""
FRAME_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
"""Of files that are frames."""

# Pictures of optical flow lie beside the frames where it was extracted: flow_x_00001.jpg, x_00001.jpg.
_FLOW = re.compile(r"(flow_?)?[xy]_|flow", re.IGNORECASE)
_ZIP_MAGIC = b"PK\x03\x04"
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError, ValueError)

# OpenCV's flags by the factor that each divides the size by, rounding up. Its IMREAD_REDUCED_COLOR_* ask for BGR.
_REDUCED = {
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_COLOR_RGB,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4 | cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2 | cv2.IMREAD_COLOR_RGB,
}


def has_frame_files(source: str | bytes) -> bool:
    """Return whether a path is a folder, or bytes are an archive: what :class:`FrameFiles` reads, and no video file."""
    if isinstance(source, bytes):
        return source.startswith(_ZIP_MAGIC)
    if not source.startswith(BUCKETS):
        return os.path.isdir(source)
    path = epath.Path(source)
    # The suffix of a video file saves a look-up, which takes long where the file is in a bucket.
    return path.suffix.lower() not in VIDEO_SUFFIXES and path.is_dir()


class FrameFiles:
    """The frames of a video that are JPEG or PNG files, in a folder or in an archive (a ZIP file), each read alone.

    Attributes:
      names: Of the files, in the order of the frames, as a person sorts them: ``2.jpg`` before ``10.jpg``. These are
        the JPEG files, or the PNG files where there is none, without hidden ones (``._1.jpg``) and without pictures of
        optical flow: ``flow_*``, and where there are others ``x_*`` and ``y_*``.
    """

    def __init__(self, source: str | bytes):
        """List the files.

        Args:
          source: Path of the folder, or bytes of the archive.

        Raises:
          DecodeError: There is no such folder, it is no archive, or there is no picture in it.
        """
        self._read: Callable[[str], bytes]
        try:
            if isinstance(source, bytes):
                archive = zipfile.ZipFile(io.BytesIO(source))
                found, self._read = archive.namelist(), archive.read
            else:
                folder = epath.Path(source)
                # epath makes an object of each file, which takes longer than reading those that are wanted.
                remote = source.startswith(BUCKETS)
                found = [file.name for file in folder.iterdir()] if remote else os.listdir(source)
                self._read = lambda name: (folder / name).read_bytes()
        except (OSError, *_ZIP_ERRORS) as error:
            raise DecodeError(str(error)) from error
        self.names = _in_order(found)
        if not self.names:
            raise DecodeError("there are no JPEG or PNG files")

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.names)

    def read(self, index: int) -> bytes:
        """Return the content of a file.

        Raises:
          DecodeError: It cannot be read.
        """
        name = self.names[index]
        try:
            return self._read(name)
        except (OSError, *_ZIP_ERRORS) as error:
            raise DecodeError(f"{name}: {error}") from error

    def decode(self, index: int, short_side: int = 0) -> np.ndarray:
        """Return one frame, uint8 ``[H, W, 3]`` RGB, upright as its EXIF data asks.

        Args:
          index: Which one.
          short_side: As for :func:`dnr_jax.data.clips.decode.decode_frames`.

        Raises:
          DecodeError: It is no JPEG or PNG file, or not a whole one.
        """
        content = self.read(index)
        flags = _reduction(content, short_side) if short_side else cv2.IMREAD_COLOR_RGB
        frame = None
        with contextlib.suppress(cv2.error):  # larger than OpenCV reads
            frame = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
        if frame is None:
            raise DecodeError(f"{self.names[index]}: not a whole JPEG or PNG file")
        return cast(np.ndarray, frame)


def _in_order(names: Iterable[str]) -> list[str]:
    """Return those of ``names`` that are frames; numbers in them are compared as numbers."""
    pictures = [name for name in names if _suffix(name) in FRAME_SUFFIXES and not _base(name).startswith(".")]
    jpeg = [name for name in pictures if _suffix(name) != ".png"]
    frames = jpeg or pictures
    plain = [name for name in frames if not _FLOW.match(_base(name))]
    # Without others, only files that are surely flow are not frames.
    return sorted(plain or [name for name in frames if not _base(name).startswith("flow_")], key=_natural)


def _suffix(name: str) -> str:
    return f".{name.rpartition('.')[2].lower()}"


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _natural(name: str) -> list[str | int]:
    parts = re.split(r"([0-9]+)", name)  # text and numbers in turn
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]


def _reduction(content: bytes, short_side: int) -> int:
    """Return OpenCV's flags for the smallest size whose short side is not below ``short_side``."""
    short = min(_jpeg_size(content))
    return next(
        (flags for factor, flags in _REDUCED.items() if -(-short // factor) >= short_side), cv2.IMREAD_COLOR_RGB
    )


def _jpeg_size(content: bytes) -> tuple[int, int]:
    """Return height and width that a JPEG file's frame header tells (ITU-T T.81, B.2.2); zeros where there is none."""
    start = 2
    while start + 9 <= len(content) and content[start] == 0xFF:
        marker = content[start + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # these three hold tables
            height, width = content[start + 5 : start + 7], content[start + 7 : start + 9]
            return int.from_bytes(height, "big"), int.from_bytes(width, "big")
        # A marker may be preceded by any number of bytes 0xFF.
        start += 1 if marker == 0xFF else 2 + int.from_bytes(content[start + 2 : start + 4], "big")
    return 0, 0
