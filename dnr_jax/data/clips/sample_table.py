"""The sample table of an MP4 file: where each of its packets lies.

FFmpeg has read it when a file is open. With it packets need not be read one after the other to know which there are:
they are looked at where they lie, and only those that are decoded are copied.
"""

import dataclasses
import re
from collections.abc import Iterator, Sequence

import av
from av.container import InputContainer

from dnr_jax.data.clips.packet_index import packet_of

# ISO/IEC 14496-12: one description for all samples (8.5.2), which lie in this file and not in another (8.7.2).
_ONE_DESCRIPTION = re.compile(rb"stsd\0{7}\x01")
_IN_THIS_FILE = re.compile(rb"dref\0{7}\x01\0{3}\x0c.{4}\0{3}\x01", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class SampleTable:
    """The packets of a stream, in decoding order, as demuxing would give them.

    Attributes:
      views: What each holds, within the bytes of the file.
      keys: Positions of keyframes.
    """

    views: Sequence[memoryview]
    keys: Sequence[int]

    def read(self, first: int, last: int) -> Iterator[av.Packet]:
        """Yield packets, both ends included."""
        keys = frozenset(self.keys)
        for position, view in enumerate(self.views[first : last + 1], first):
            yield packet_of(view, is_keyframe=position in keys)


def sample_table(content: bytes, container: InputContainer, stream: av.VideoStream) -> SampleTable | None:
    """Return the table of an H.264 stream; ``None`` where demuxing could give something else than it says.

    That is of other containers and codecs, of fragmented files, and of files in which the description of the samples
    changes, that refer to other files, that end before their last packet, or whose edit list cuts frames off, which
    decoders are told by a mark on the packet.

    Args:
      content: The bytes of the file.
      container: The same file, open.
      stream: Of it.
    """
    if stream.codec_context.codec.canonical_name != "h264" or "mp4" not in container.format.name:
        return None
    if not _is_whole(content):
        return None
    indexed = list(stream.index_entries)
    entries = [(entry.pos, entry.size, entry.is_keyframe) for entry in indexed if entry.size]
    if not entries or True in [entry.is_discard for entry in indexed]:
        return None
    if min(entries)[0] < 0 or max([start + size for start, size, _ in entries]) > len(content):
        return None
    view = memoryview(content)
    return SampleTable(
        [view[start : start + size] for start, size, _ in entries],
        [position for position, (_, _, is_keyframe) in enumerate(entries) if is_keyframe],
    )


def _is_whole(content: bytes) -> bool:
    """Return whether the header of an MP4 file describes all there is, in this file, and in one way."""
    boxes = _boxes(content)
    headers = [content[start:end] for kind, start, end in boxes if kind == b"moov"]
    if len(headers) != 1 or any(kind == b"moof" for kind, _, _ in boxes):
        return False
    header = headers[0]
    return (
        b"mvex" not in header
        and header.count(b"stsd") == len(_ONE_DESCRIPTION.findall(header)) > 0
        and header.count(b"dref") == len(_IN_THIS_FILE.findall(header)) > 0
    )


def _boxes(content: bytes) -> list[tuple[bytes, int, int]]:
    """Return the outermost boxes: kind, start and end of each; none where a file is made of anything else."""
    boxes: list[tuple[bytes, int, int]] = []
    start = 0
    while start < len(content):
        size, header = int.from_bytes(content[start : start + 4], "big"), 8
        if size == 1:
            size, header = int.from_bytes(content[start + 8 : start + 16], "big"), 16
        end = start + size if size else len(content)
        if not start + header <= end <= len(content):
            return []
        boxes.append((content[start + 4 : start + 8], start, end))
        start = end
    return boxes
