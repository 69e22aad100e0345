"""What people hand over to be labelled: paths, folders, addresses, files in memory, arrays and iterators of frames."""

import contextlib
import http.client
import os
import pathlib
import re
import shutil
import string
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from email.message import Message
from typing import IO, Any, TypeAlias

import numpy as np

from dnr_jax.config import expand_path
from dnr_jax.data.catalogue.folders import find_media
from dnr_jax.data.clips.decode import MAX_CLIP_BYTES, DecodeError
from dnr_jax.data.clips.frame_files import FRAME_SUFFIXES
from dnr_jax.data.clips.transforms import resize_short_side

Video: TypeAlias = str | os.PathLike[str] | bytes | np.ndarray | Iterable[np.ndarray]
"""A path or address, the bytes of a file, frames uint8 ``[T, H, W, 3]`` RGB, or what yields them one by one."""

STANDARD_INPUT = "-"
"""The name of the file that another program writes into a pipe."""

NO_PATH = "'': an empty path, as an unset variable of a shell is; expected a video"
"""What is said of a video without a name."""

_FETCHED = ("http", "https", "ftp")
_BUCKETS = ("gs", "s3")
_PLAYLISTS = (".m3u8", ".mpd")


def find_videos(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Return paths with each folder of videos replaced by the videos in it, at any depth, sorted.

    A folder of frames is a video itself. Files, web addresses and folders without videos stay as they are.
    """
    found: list[str] = []
    for path in (os.fspath(path) for path in paths):
        found += _videos_in(path) or [path]
    return found


def _videos_in(folder: str) -> list[str]:
    """Return the videos in a folder that is no video itself; whatever cannot be read is left to the decoder."""
    if not os.path.isdir(folder):
        return []
    media = find_media(folder)
    if media.videos:
        media.left_out.warn(folder)
    return [os.path.join(folder, video) for video in media.videos]


def scheme_of(path: str) -> str:
    """Return the scheme of an address, in small letters; of a path none, ``""``."""
    url = re.match(r"([A-Za-z][\w+.-]*)://", path)
    return url[1].lower() if url else ""


@contextlib.contextmanager
def local_file(path: str) -> Iterator[str]:
    """Lend what the decoder reads: the path itself, or a copy of an address or of the standard input (``-``).

    Raises:
      DecodeError: for what is no video by its name alone, and for what cannot be fetched.
    """
    scheme = scheme_of(path)
    if not path:
        raise DecodeError(NO_PATH)
    if path == STANDARD_INPUT or scheme in _FETCHED:
        with _copied(path) as copy:
            yield copy
    elif scheme == "file":
        yield expand_path(path)
    elif scheme not in ("", *_BUCKETS):
        raise DecodeError(
            f"{path}: {scheme}:// is not read as one video; expected a file, http://, https://, ftp://, gs:// or "
            "s3://. dnr predict --stream labels live sources"
        )
    elif not scheme and os.path.isdir(path) and not _has_frames(path):
        raise DecodeError(f"{path}: a folder without videos; expected video files or frames in it")
    else:
        yield path


@contextlib.contextmanager
def _copied(path: str) -> Iterator[str]:
    """Copy an address or the standard input into a file, for as long as it is needed; messages name the origin."""
    suffix = pathlib.PurePath(urllib.parse.urlsplit(path).path).suffix
    if suffix.lower() in _PLAYLISTS:
        raise DecodeError(f"{path}: a playlist and no video file; dnr predict --stream plays it")
    with tempfile.NamedTemporaryFile(suffix=suffix) as copy:
        try:
            _fetch(path, copy)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise DecodeError(f"{path}: {error}") from error
        try:
            yield copy.name
        except DecodeError as error:
            raise DecodeError(str(error).replace(copy.name, path)) from error


def _fetch(url: str, copy: IO[bytes]) -> None:
    if url == STANDARD_INPUT:
        shutil.copyfileobj(sys.stdin.buffer, copy)
    else:
        with urllib.request.urlopen(_requested(url), timeout=30) as response:
            if response.headers.get_content_type() == "text/html":
                raise OSError("this is a web page and no video file")
            shutil.copyfileobj(response, copy)
            _check_whole(response.headers, copy.tell())
    copy.flush()


def _check_whole(headers: Message, size: int) -> None:
    """Refuse a file that broke off: whoever reads a response in pieces sees its end, and not that it is too early."""
    told = "" if "transfer-encoding" in headers else headers.get("content-length", "")
    if told.isdecimal() and size < int(told):
        raise OSError(f"the connection ended after {size} of {told} bytes")


def _requested(url: str) -> str:
    """Return an address as it is asked for, with spaces and letters beyond ASCII as bytes, ``%20``."""
    parts = urllib.parse.urlsplit(url)
    quoted = {
        name: urllib.parse.quote(getattr(parts, name), safe=string.punctuation, errors="surrogateescape")
        for name in ("path", "query")
    }
    return parts._replace(**quoted).geturl()


def _has_frames(folder: str) -> bool:
    return any(os.path.splitext(name)[1].lower() in FRAME_SUFFIXES for name in os.listdir(folder))


def name_of(video: Any) -> str:
    """Return what to call a video in messages and results: its path, or what it is."""
    if isinstance(video, str | os.PathLike):
        return os.fspath(video)
    if isinstance(video, bytes | bytearray | memoryview):
        return f"video of {len(video)} bytes"
    if hasattr(video, "shape"):
        return f"array {tuple(video.shape)}"
    return f"frames of a {type(video).__name__}"


def as_frames(array: Any) -> np.ndarray:
    """Return the frames of an array as they are, uint8 ``[T, H, W, 3]``.

    Raises:
      ValueError: for another shape, order of axes or dtype; the message says what to do.
    """
    frames = np.asarray(array)
    if frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(f"frames are [T, H, W, 3], and this array is {frames.shape}; {_other_shape(frames.shape)}")
    _check_pixels(frames)
    return frames


def as_frame(array: Any, number: int, shape: tuple[int, ...] = ()) -> np.ndarray:
    """Return one frame of an iterator as it is, uint8 ``[H, W, 3]``.

    Args:
      array: the frame.
      number: which one, counted from 0, for messages.
      shape: of the frames before; empty for the first.

    Raises:
      ValueError: for another shape than this, or than the frames before, and for another dtype.
    """
    if not hasattr(array, "__array__"):
        hint = "; frame.to_ndarray(format='rgb24') is its array" if hasattr(array, "to_ndarray") else ""
        raise ValueError(f"frame {number} is a {type(array).__name__}; expected an array uint8 [H, W, 3]{hint}")
    frame = np.asarray(array)
    if frame.ndim != 3 or frame.shape[-1] != 3:
        raise ValueError(f"frame {number} is {frame.shape}; expected [H, W, 3], the colours red, green and blue last")
    if shape and frame.shape != shape:
        raise ValueError(f"frame {number} is {frame.shape}, and those before are {shape}; expected frames of one size")
    _check_pixels(frame)
    return frame


def _check_pixels(frames: np.ndarray) -> None:
    if not frames.size:
        raise ValueError(f"frames of the shape {frames.shape} have no pixels; expected at least one frame")
    if frames.dtype != np.uint8:
        how = "(255 * frames).round().astype('uint8') of values from 0 to 1" if frames.dtype.kind == "f" else ""
        how = how or "frames.astype('uint8') where they are"
        raise ValueError(f"the dtype is {frames.dtype}; expected uint8, values from 0 to 255: {how}")


def _other_shape(shape: tuple[int, ...]) -> str:
    """Return what to do with an array of a shape that frames do not have."""
    if len(shape) == 5:
        return "a list of arrays labels several videos"
    if len(shape) == 3:
        single = shape[-1] == 3
        return (
            "frames[None] makes a video of one picture" if single else f"grey frames: {_coloured('frames[..., None]')}"
        )
    if len(shape) != 4:
        return "T frames of H x W pixels, the colours red, green and blue last"
    if 3 in shape[:2]:
        axis = 1 if shape[1] == 3 else 0
        return f"colours come last: np.moveaxis(frames, {axis}, -1)"
    if shape[-1] == 4:
        return "frames[..., :3] leaves the transparency out"
    return f"grey frames: {_coloured('frames')}" if shape[-1] == 1 else "the colours red, green and blue come last"


def _coloured(frames: str) -> str:
    return f"np.repeat({frames}, 3, axis=-1)"


def collect(frames: Iterable[Any], side: int) -> np.ndarray:
    """Return the frames that an iterable yields, uint8 ``[T, h, w, 3]``, each resized as it comes.

    Args:
      frames: yields uint8 ``[H, W, 3]`` RGB.
      side: their short side; 0: as it is.

    Raises:
      ValueError: for none, for what is no frame, and for more than fit in memory.
    """
    kept: list[np.ndarray] = []
    shape: tuple[int, ...] = ()
    for number, entry in enumerate(frames):
        frame = as_frame(entry, number, shape)
        shape = frame.shape
        kept.append(resize_short_side(frame[None], side)[0].copy())  # whoever yields frames may write into them again
        if kept[0].nbytes * len(kept) > MAX_CLIP_BYTES:
            raise ValueError(
                f"{len(kept)} frames of {kept[0].shape[1]} x {kept[0].shape[0]} pixels take more than the "
                f"{MAX_CLIP_BYTES / 1e9:.1f} GB of a clip; dnr_jax.streaming labels long videos window by window"
            )
    if not kept:
        raise ValueError("there are no frames; expected at least one, uint8 [H, W, 3]")
    return np.stack(kept)
