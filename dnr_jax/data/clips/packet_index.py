"""An index of a video's packets: where each lies in the file, which frame it holds, and what decodes it.

With it a clip is decoded from its packets alone: nothing of the file but them is read, it need not be opened, and its
packets need not be listed. ``dnr prepare`` writes it into the records. It is of use where a packet lies in the file as
the decoder wants it: in MP4, MOV, Matroska, WebM and AVI files, not in transport streams, which cut packets up.
"""

import dataclasses
import json
import logging
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import av
import numpy as np

_logger = logging.getLogger(__name__)

_VERSION = 2
_MAX_BYTES = 2**32  # of a file, of which positions are kept in 32 bits
_NEAR = 64  # from where a container says that a packet is to its first byte there are headers of its own


class Doubt(Exception):
    """What is known about a file, or what the decoder gives, is not what the packets promised."""


@dataclasses.dataclass(frozen=True)
class Decoder:
    """What a container told its decoder.

    Attributes:
      name: FFmpeg's name of the decoder.
      tag: Of the codec, which tells the encoders of MPEG-4 apart, whose faults decoders make up for.
      extradata: Hexadecimal.
      settings: Other attributes of :class:`av.VideoCodecContext` and their values.
    """

    name: str
    tag: str
    extradata: str
    settings: dict[str, int]

    @classmethod
    def of(cls, codec: av.VideoCodecContext) -> "Decoder":
        """Return what there is to say about a codec context that has not decoded anything yet."""
        settings = {name: int(getattr(codec, name)) for name in _SETTINGS}
        return cls(codec.name, codec.codec_tag, (codec.extradata or b"").hex(), settings)

    def open(self) -> av.VideoCodecContext:
        """Return a codec context like that one.

        Raises:
          Doubt: There is no such decoder here.
        """
        try:
            codec: Any = av.CodecContext.create(self.name, "r")
        except (ValueError, RuntimeError) as error:
            raise Doubt(f"there is no decoder '{self.name}'") from error
        codec.codec_tag = self.tag
        codec.extradata = bytes.fromhex(self.extradata) or None
        for name, value in self.settings.items():
            setattr(codec, name, value)
        codec.thread_count = 1
        return codec


_SETTINGS = (
    *("width", "height", "bits_per_coded_sample", "reorder_depth", "field_order"),
    *("color_range", "color_primaries", "color_trc", "colorspace"),
)


@dataclasses.dataclass(frozen=True, eq=False)
class PacketIndex:
    """Of the packets of a video, in decoding order.

    Attributes:
      decoder: What decodes them.
      rate: Frames per second, on average; 0 where nothing tells.
      size: Of the file, in bytes.
      delay: How many packets a decoder has to be fed before it can give the first of their frames.
      order: uint32 ``[frames]``: positions of packets in the order of their frames.
      keys: uint32: positions of keyframes.
      starts: uint32 ``[packets]``: where they begin in the file, in bytes.
      sizes: uint32 ``[packets]``: in bytes.
      checksums: uint32 ``[packets]``: Adler-32.
    """

    decoder: Decoder
    rate: float
    size: int
    delay: int
    order: np.ndarray
    keys: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    checksums: np.ndarray

    @classmethod
    def from_bytes(cls, content: bytes) -> "PacketIndex":
        """Read what :meth:`to_bytes` wrote.

        Raises:
          Doubt: It is damaged, or of another version.
        """
        version, checksum = content[:1], content[1:5]
        if version != bytes([_VERSION]) or checksum != zlib.crc32(content[5:]).to_bytes(4, "little"):
            raise Doubt("the index of the packets is damaged, or of another version")
        facts_end = 9 + int.from_bytes(content[5:9], "little")
        facts: dict[str, Any] = json.loads(content[9:facts_end])
        lengths = facts.pop("lengths")
        numbers, end = np.frombuffer(content, "<u4", offset=facts_end), 0
        for name, length in zip(_ARRAYS, lengths, strict=True):
            facts[name] = numbers[end : end + length]
            end += length
        return cls(Decoder(**facts.pop("decoder")), **facts)

    def to_bytes(self) -> bytes:
        """Return it as bytes, 16 a packet and some hundreds besides, with a version and a checksum."""
        arrays = [getattr(self, name) for name in _ARRAYS]
        facts = {name: getattr(self, name) for name in ("rate", "size", "delay")}
        facts |= {"decoder": dataclasses.asdict(self.decoder), "lengths": [len(array) for array in arrays]}
        text = json.dumps(facts).encode()
        content = len(text).to_bytes(4, "little") + text + b"".join(array.astype("<u4").tobytes() for array in arrays)
        return bytes([_VERSION]) + zlib.crc32(content).to_bytes(4, "little") + content

    def read(self, content: bytes, first: int, last: int) -> Iterator[av.Packet]:
        """Yield packets, both ends included, out of the bytes of the file.

        Raises:
          Doubt: What is there is not what was indexed.
        """
        view, keys = memoryview(content), frozenset(self.keys.tolist())
        part = slice(first, last + 1)
        places = zip(*(array[part].tolist() for array in (self.starts, self.sizes, self.checksums)), strict=True)
        for position, (start, size, checksum) in enumerate(places, first):
            data = view[start : start + size]
            if len(data) != size or zlib.adler32(data) != checksum:
                raise Doubt(f"packet {position} is not where the index says")
            yield packet_of(data, is_keyframe=position in keys)


_ARRAYS = ("order", "keys", "starts", "sizes", "checksums")


def packet_of(data: memoryview, is_keyframe: bool) -> av.Packet:
    """Return a packet with a copy of its data."""
    packet = av.Packet(len(data))  # with the zeros behind its data that decoders need
    memoryview(packet)[:] = data
    packet.is_keyframe = is_keyframe
    return packet


def index_of(
    content: bytes,
    packets: Iterable[av.Packet],
    decoder: Decoder,
    rate: float,
    delay: int,
    order: Sequence[int],
    keys: Sequence[int],
) -> PacketIndex | None:
    """Return the index of a video; ``None`` where its packets do not lie in the file as they are.

    Args:
      content: The bytes of the file.
      packets: All of the stream, in decoding order.
      decoder: As for :class:`PacketIndex`, like the rest.
      rate: Frames per second.
      delay: In packets.
      order: Positions of packets in the order of their frames.
      keys: Positions of keyframes.
    """
    places = [(_find(content, packet), packet.size, zlib.adler32(packet)) for packet in packets]
    if len(content) >= _MAX_BYTES or any(start < 0 for start, _, _ in places):
        return None
    arrays = [np.array(values, np.uint32) for values in (order, keys, *zip(*places, strict=True))]
    return PacketIndex(decoder, rate, len(content), delay, *arrays)


def _find(content: bytes, packet: av.Packet) -> int:
    """Return where a packet begins; -1 where it is not in the file, or a decoder needs more than its data."""
    if packet.pos is None or packet.is_discard or any(True for _ in packet.iter_sidedata()):
        return -1
    return content.find(memoryview(packet), packet.pos, packet.pos + packet.size + _NEAR)
