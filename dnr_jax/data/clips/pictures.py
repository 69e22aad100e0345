"""Which packet of a video holds which frame, read from the packets themselves.

The times that a container gives its packets are often wrong: a stream that was copied out of an AVI or raw file carries
the times of decoding, and invisible pictures have a time too. What the codec itself says is not: the type of a picture
(MPEG-1, 2 and 4), its picture order count (H.264, HEVC), a bit that says whether it is shown (VP8, VP9). Each codec
has a class here that is shown the packets in the order of the file and then tells the order of their frames, or that it
does not know: for an unknown codec, or a stream with anything unusual in it. Then only decoding all of it tells.
"""

import abc
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import av
import numpy as np

Packet: TypeAlias = av.Packet | memoryview
"""A packet, or what it holds."""


class PictureOrder(abc.ABC):
    """The order in which a decoder gives the frames of the packets that it is fed.

    Attributes:
      tells_cuts: Whether there is a doubt where the last packet was cut off so early that no frame comes of it.
      tells_losses: Whether there is a doubt where a packet is missing, or all others give their frames without it.
    """

    tells_cuts = False
    tells_losses = True

    @abc.abstractmethod
    def add(self, packets: Sequence[Packet]) -> None:
        """Look at the next packets of the stream."""

    @abc.abstractmethod
    def order(self) -> Sequence[int] | None:
        """Return positions of packets, in the order of their frames; ``None`` where it takes decoding to tell.

        Packets that hold no frame to be shown are left out, all others hold exactly one.
        """


def has_gap(times: Sequence[int]) -> bool:
    """Return whether packets seem to be missing in a stream.

    Args:
      times: Of the packets there are, in any order. Frames that were recorded at no constant rate have gaps too.
    """
    steps = np.diff(np.unique(np.asarray(times, np.int64)))
    return len(steps) > 0 and bool(steps.max() > 1.5 * np.median(steps) + 1)


def picture_order(codec: av.VideoCodecContext) -> PictureOrder | None:
    """Return what reads the order of a stream's frames; ``None`` where nothing here knows the codec.

    Args:
      codec: Of the stream, with its extradata.
    """
    name = codec.codec.canonical_name
    if name in ("h264", "hevc"):
        order = CountedPictures(_H264(codec.extradata) if name == "h264" else _Hevc(codec.extradata))
        order.tells_losses = name == "h264"  # whose pictures are numbered
        return order
    if name in _ORDERS:
        return _ORDERS[name]()
    return PicturesAsStored() if codec.codec.intra_only else None


class PicturesAsStored(PictureOrder):
    """One frame a packet, in the order of the packets."""

    def __init__(self) -> None:
        """Start at the first packet."""
        self._count = 0

    def add(self, packets: Sequence[Packet]) -> None:
        """Count them."""
        self._count += len(packets)

    def order(self) -> Sequence[int] | None:
        """Return the order of the packets."""
        return range(self._count)


class TemporalUnits(PicturesAsStored):
    """AV1: a packet shows one frame; where one is missing, a decoder may leave out those that refer to it."""

    tells_losses = False


class VisiblePictures(PictureOrder):
    """VP8 and VP9: pictures come in the order of the packets, but some are there only to be referred to."""

    def __init__(self, shown: Callable[[memoryview], int]):
        """Start at the first packet.

        Args:
          shown: Returns how many pictures in a packet are to be shown.
        """
        self._shown = shown
        self._counts: list[int] = []

    def add(self, packets: Sequence[Packet]) -> None:
        """Count the pictures of each."""
        self._counts += [self._shown(memoryview(packet)) for packet in packets]

    def order(self) -> Sequence[int] | None:
        """Return the packets whose picture is shown."""
        if any(count > 1 for count in self._counts):
            return None
        return [position for position, count in enumerate(self._counts) if count]


def _shown_in_vp8(packet: memoryview) -> int:
    """RFC 6386, 9.1: bit 4 of the first byte."""
    return packet[0] >> 4 & 1


def _shown_in_vp9(packet: memoryview) -> int:
    """VP9 bitstream specification: the uncompressed header of each frame, and annex B, superframes."""
    last = packet[-1]
    count, width = (last & 7) + 1, (last >> 3 & 3) + 1
    start = len(packet) - 2 - width * count
    if last & 0xE0 != 0xC0 or start < 0 or packet[start] != last:
        return _vp9_frame_is_shown(packet[0])
    position, shown = 0, 0
    for index in range(start + 1, len(packet) - 1, width):
        size = int.from_bytes(packet[index : index + width], "little")
        shown += size > 0 and position < start and _vp9_frame_is_shown(packet[position])
        position += size
    return shown


def _vp9_frame_is_shown(first: int) -> bool:
    """``show_existing_frame`` or ``show_frame``; in profile 3 a reserved bit stands before them."""
    bits = first << 1 if first & 0x30 == 0x30 else first
    return bool(bits & 0x08 or bits & 0x02)


# Fewer bytes may be what a cut left, of which no frame comes, or pictures of MPEG-4 whose ``vop_coded`` is 0. Headers
# alone take 23 in MPEG-2.
_LEAST_MPEG12, _LEAST_MPEG4 = 28, 16


class TypedPictures(PictureOrder):
    """MPEG-1, 2 and 4: a B picture is shown when it is decoded, any other when the next of these is."""

    tells_cuts = True

    def __init__(self, picture_types: Callable[[bytes], list[str]]):
        """Start at the first packet.

        Args:
          picture_types: Returns the type (``I``, ``P``, ``B``) of each picture that a packet holds, ``?`` of one that a
            decoder may leave out.
        """
        self._types_of = picture_types
        self._types: list[str] = []

    def add(self, packets: Sequence[Packet]) -> None:
        """Note the types of their pictures."""
        found = (self._types_of(bytes(packet)) for packet in packets)
        self._types += [types[0] if len(types) == 1 else "?" for types in found]

    @property
    def tells_losses(self) -> bool:  # type: ignore[override]
        """B pictures are left out by decoders where what they refer to is missing."""
        return "B" not in self._types

    def order(self) -> Sequence[int] | None:
        """Return the order of display, where each packet holds one picture."""
        first_b = next((n for n, kind in enumerate(self._types) if kind == "B"), 2)
        if "?" in self._types or first_b < 2:  # a B picture without the two that it refers to is left out
            return None
        order: list[int] = []
        held: int | None = None
        for position, kind in enumerate(self._types):
            if kind == "B":
                order.append(position)
                continue
            if held is not None:
                order.append(held)
            held = position
        return order if held is None else [*order, held]


class _Mpeg12Types:
    """ISO/IEC 13818-2, 6.2.3: ``picture_coding_type`` follows ten bits of ``temporal_reference``."""

    def __init__(self) -> None:
        self._sequence = b""

    def __call__(self, content: bytes) -> list[str]:
        sequence = content.find(b"\0\0\1\xb3")
        if sequence >= 0:
            header = content[sequence : sequence + 8]
            if self._sequence not in (b"", header):
                return ["?"]  # another size or rate from here on
            self._sequence = header
        return ["?IPB????"[content[at + 5] >> 3 & 7] for at in _find_all(content, b"\0\0\1\0", _LEAST_MPEG12)]


def _mpeg4_types(content: bytes) -> list[str]:
    """ISO/IEC 14496-2, 6.2.5: ``vop_coding_type`` is the two bits after the start code; S is a P with warping."""
    return ["IPBP"[content[at + 4] >> 6] for at in _find_all(content, b"\0\0\1\xb6", _LEAST_MPEG4)]


def _find_all(content: bytes, code: bytes, least: int) -> list[int]:
    """Return where a start code is that begins at least so many bytes."""
    end = len(content) - least + len(code)
    found, at = [], content.find(code, 0, max(end, 0))
    while at >= 0:
        found.append(at)
        at = content.find(code, at + len(code), end)
    return found


_ORDERS: dict[str, Callable[[], PictureOrder]] = {
    "vp8": lambda: VisiblePictures(_shown_in_vp8),
    "vp9": lambda: VisiblePictures(_shown_in_vp9),
    "av1": TemporalUnits,
    "mpeg1video": lambda: TypedPictures(_Mpeg12Types()),
    "mpeg2video": lambda: TypedPictures(_Mpeg12Types()),
    "mpeg4": lambda: TypedPictures(_mpeg4_types),
}

# Bytes from the start of a slice that its header's first fields lie in: 16 that are read, and those that emulation
# prevention may put between them.
_HEAD, _READ = 26, 16


@dataclasses.dataclass(frozen=True)
class Counts:
    """What the slice headers of a stream say, an entry a packet.

    Attributes:
      lsb: int64, the low bits of the picture order count.
      modulus: One more than the largest ``lsb``; 0 where the order of decoding is that of display.
      restarts: bool: whether the count starts anew.
      anchors: bool: whether the high bits of the next count follow from this one.
      known: bool: whether a decoder gives a frame for the packet, and the count is all that matters.
    """

    lsb: np.ndarray
    modulus: int
    restarts: np.ndarray
    anchors: np.ndarray
    known: np.ndarray


class CountedPictures(PictureOrder):
    """H.264 and HEVC: pictures come by their picture order counts, which start anew at some keyframes."""

    tells_cuts = True

    def __init__(self, syntax: "_Syntax"):
        """Start at the first packet."""
        self._syntax = syntax
        self._heads: list[bytes] = []
        self._unusual = not syntax.is_known

    def add(self, packets: Sequence[Packet]) -> None:
        """Note the start of the first slice of each, and the parameter sets before it."""
        if not self._unusual:
            heads = self._syntax.heads(packets)
            self._heads += heads
            self._unusual = not all(heads)

    def order(self) -> Sequence[int] | None:
        """Return the order of display."""
        if self._unusual or not self._heads:
            return None
        heads = [head.replace(b"\0\0\3", b"\0\0") for head in self._heads]
        counts = self._syntax.counts(np.array(heads, f"S{_READ}"))
        if counts is None or not counts.known.all() or not counts.restarts[0]:
            return None
        # A picture of which a cut left next to nothing, where a file ends or another was joined to it, gives no frame.
        # Where nothing moves, whole pictures are that short too, and then not there alone.
        lengths, ends = np.array([len(head) for head in heads]), np.append(counts.restarts[1:], True)
        if (lengths[ends] < lengths[~ends].min(initial=_READ)).any():
            return None
        if not counts.modulus:
            return range(len(self._heads))
        sequence, count = np.cumsum(counts.restarts), _unwrap(counts)
        order = np.lexsort((count, sequence))
        same = (np.diff(count[order]) == 0) & (np.diff(sequence[order]) == 0)
        return None if same.any() else order.tolist()  # the same count twice: two fields of a frame


def _unwrap(counts: Counts) -> np.ndarray:
    """Return picture order counts that can be compared within a sequence (ITU-T H.264, 8.2.1.1; H.265, 8.3.1).

    Each is the nearest to that of the anchor before it; midway, the standards go up. Where a sequence begins does not
    matter to its order.
    """
    half = counts.modulus // 2

    def nearest(step: np.ndarray) -> np.ndarray:
        return half - (half - step) % counts.modulus

    places = np.flatnonzero(counts.anchors | counts.restarts)
    anchors = counts.lsb[places]
    wholes = np.concatenate([anchors[:1], anchors[0] + np.cumsum(nearest(np.diff(anchors)))])
    before = np.searchsorted(places, np.arange(len(counts.lsb)), side="right") - 1
    return wholes[before] + nearest(counts.lsb - anchors[before])


class _Bits:
    """Reads a parameter set bit by bit; beyond its end there are zeros."""

    def __init__(self, content: bytes):
        content = content.replace(b"\0\0\3", b"\0\0") + bytes(64)
        self._value, self._left = int.from_bytes(content, "big"), 8 * len(content)

    def u(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise ValueError("no parameter set")
        value = self._value >> self._left
        self._value &= (1 << self._left) - 1
        return value

    def ue(self) -> int:
        zeros = self._left - self._value.bit_length()
        return self.u(2 * zeros + 1) - 1

    def se(self) -> int:
        value = self.ue()
        return (value + 1) // 2 if value % 2 else -(value // 2)


class _Heads:
    """Reads the starts of many slices at once, up to 128 bits of each."""

    def __init__(self, heads: np.ndarray, skip: int):
        """Begin ``skip`` bytes after the start."""
        words = np.frombuffer(heads.tobytes(), ">u8").reshape(-1, 2).astype(np.uint64)
        self._high: np.ndarray = words[:, 0]
        self._low: np.ndarray = words[:, 1]
        self._move(np.uint64(8 * skip))

    def u(self, count: int | np.ndarray) -> np.ndarray:
        """Read ``count`` bits, 1 to 32, and of those where it is 0 none."""
        count = np.asarray(count, np.uint64)
        value = (self._high >> np.uint64(1)) >> (np.uint64(63) - count)
        self._move(count)
        return value.astype(np.int64)

    def ue(self) -> np.ndarray:
        """Read an Exp-Golomb code; one of more than 32 bits, which no header has, comes out as some large number."""
        _, exponent = np.frexp((self._high >> np.uint64(32)).astype(np.float64))
        zeros = np.minimum(32 - exponent, 15)
        return self.u(2 * zeros + 1) - 1

    def _move(self, count: np.ndarray | np.uint64) -> None:
        self._high = (self._high << count) | ((self._low >> np.uint64(1)) >> (np.uint64(63) - count))
        self._low = self._low << count


class _Syntax(abc.ABC):
    """How the units of a stream are told apart and what is in them.

    Attributes:
      is_known: Whether the parameter sets that came with the stream can be read.
    """

    slices: frozenset[int]  # types of units: slices of pictures,
    sets: frozenset[int]  # parameter sets,
    ends: frozenset[int]  # and what a stream with nothing unusual in it has not

    def __init__(self, extradata: bytes | None):
        self._parameters: dict[tuple[int, int], bytes] = {}
        self._slice_bytes = frozenset(first for first in range(256) if self.kind(first) in self.slices)
        self.is_known = True
        extradata = extradata or b""
        self._width = 0  # of the size before each unit; 0: start codes
        if extradata[:1] == b"\1":
            self._width = self.length_width(extradata)
            self.is_known = all(map(self._take, self.configured(extradata)))
        elif extradata:
            self.is_known = all(self._take(unit) for unit in _split_at_start_codes(extradata))

    @abc.abstractmethod
    def kind(self, first: int) -> int:
        """Return the type of a unit from its first byte."""

    @abc.abstractmethod
    def length_width(self, extradata: bytes) -> int:
        """Return how many bytes the size of a unit takes."""

    @abc.abstractmethod
    def configured(self, extradata: bytes) -> list[bytes]:
        """Return the parameter sets in the configuration record of an MP4 or Matroska file."""

    @abc.abstractmethod
    def identifier(self, kind: int, unit: bytes) -> int:
        """Return the number of a parameter set."""

    @abc.abstractmethod
    def counts(self, heads: np.ndarray) -> Counts | None:
        """Read slices; ``None`` where the parameter sets are none that are understood."""

    def heads(self, packets: Sequence[Packet]) -> list[bytes]:
        """Return the start of the first slice of each; nothing where there is none or something changes before it."""
        width, end, slices = self._width, self._width + _HEAD, self._slice_bytes
        # Of most packets it is the first unit.
        return [
            bytes(view[width:end]) if width and len(view) > width and view[width] in slices else self._head(view)
            for view in (memoryview(packet) for packet in packets)
        ]

    def _head(self, packet: memoryview) -> bytes:
        width = self._width
        for unit in _split_by_size(packet, width) if width else _split_at_start_codes(bytes(packet), self._is_slice):
            if self._is_slice(unit):
                return bytes(unit[:_HEAD])
            if not self._take(bytes(unit)):
                return b""
        return b""

    def _is_slice(self, unit: bytes | memoryview) -> bool:
        return unit[0] in self._slice_bytes

    def _take(self, unit: bytes) -> bool:
        """Keep a parameter set; return whether it is none, or what was known by its number before."""
        kind = self.kind(unit[0])
        if kind in self.ends:
            return False
        if kind not in self.sets:
            return True
        unit = unit.rstrip(b"\0")
        try:
            key = kind, self.identifier(kind, unit)
        except ValueError:
            return False
        return self._parameters.setdefault(key, unit) == unit

    def _only(self, kind: int) -> bytes | None:
        """Return the parameter set of a kind, where there is one or all are alike but for their number."""
        found = [unit for (k, _), unit in self._parameters.items() if k == kind]
        return found[0] if len(found) == 1 else None


def _split_by_size(packet: memoryview, width: int) -> Iterator[memoryview]:
    at = 0
    while at + width < len(packet):
        size = int.from_bytes(packet[at : at + width], "big")
        if size:
            yield packet[at + width : at + width + size]
        at += width + size


def _split_at_start_codes(content: bytes, is_last: Callable[[bytes], bool] = lambda unit: False) -> Iterator[bytes]:
    """Yield the units between start codes; that which ``is_last``, by its first byte, with all that follows."""
    at = content.find(b"\0\0\1") + 3
    while 3 <= at < len(content):
        end = -1 if is_last(content[at : at + 1]) else content.find(b"\0\0\1", at)
        unit = content[at : end if end >= 0 else len(content)]
        if unit:
            yield unit
        at = end + 3 if end >= 0 else 0


def _read_sized(content: bytes, at: int, count: int) -> tuple[list[bytes], int]:
    """Return so many units, each behind its size in two bytes, without empty ones; and where they end."""
    units = []
    for _ in range(count):
        size = int.from_bytes(content[at : at + 2], "big")
        units.append(content[at + 2 : at + 2 + size])
        at += 2 + size
    return [unit for unit in units if unit], at


class _H264(_Syntax):
    """ITU-T H.264, 7.3."""

    slices, sets, ends = frozenset({1, 5}), frozenset({7, 8}), frozenset({2, 10, 11})

    def kind(self, first: int) -> int:
        return first & 31

    def length_width(self, extradata: bytes) -> int:
        return (extradata[4] & 3) + 1 if len(extradata) > 4 else 4

    def configured(self, extradata: bytes) -> list[bytes]:
        units: list[bytes] = []
        at = 5
        for mask in (31, 255):
            count = extradata[at] & mask if at < len(extradata) else 0
            found, at = _read_sized(extradata, at + 1, count)
            units += found
        return units

    def identifier(self, kind: int, unit: bytes) -> int:
        return _Bits(unit[4:] if kind == 7 else unit[1:]).ue()

    def counts(self, heads: np.ndarray) -> Counts | None:
        content = self._only(7)
        parameters = _read_h264_parameters(content) if content else None
        if parameters is None:
            return None
        first = np.frombuffer(heads.tobytes(), np.uint8).reshape(-1, _READ)[:, 0]
        is_idr, is_reference = first & 31 == 5, first & 0x60 > 0
        bits = _Heads(heads, 1)
        known = bits.ue() == 0  # the first macroblock: a packet that starts in a picture is a part of one
        bits.ue(), bits.ue()  # the type of the slice, the picture parameter set
        number = bits.u(parameters.number_bits)
        if parameters.fields:
            known = known & (bits.u(1) == 0)
        known = known & _numbers_follow(number, is_idr, is_reference, 1 << parameters.number_bits)
        if not parameters.count_bits:
            return Counts(number, 0, is_idr, is_reference, known)
        _skip_ue(bits, is_idr)  # the number of the IDR picture
        lsb = bits.u(parameters.count_bits)
        return Counts(lsb, 1 << parameters.count_bits, is_idr, is_reference, known)


def _skip_ue(bits: _Heads, where: np.ndarray) -> None:
    """Skip an Exp-Golomb code in the slices that have one."""
    _, exponent = np.frexp((bits._high >> np.uint64(32)).astype(np.float64))
    bits.u(np.where(where, 2 * np.minimum(32 - exponent, 15) + 1, 0))


def _numbers_follow(number: np.ndarray, is_idr: np.ndarray, is_reference: np.ndarray, modulus: int) -> np.ndarray:
    """Return whether each picture's frame number is what that of the reference picture before it asks for.

    It is not where pictures are missing, of which decoders make up frames, and where a count is reset without a new
    sequence (``memory_management_control_operation`` 5).
    """
    last = np.maximum.accumulate(np.where(is_reference, np.arange(len(number)), 0))
    before = np.concatenate([[0], last[:-1]])
    return is_idr | (number == (number[before] + 1) % modulus)


@dataclasses.dataclass(frozen=True)
class _H264Parameters:
    number_bits: int
    count_bits: int  # 0: the order of decoding is that of display
    fields: bool


_HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})


def _read_h264_parameters(unit: bytes) -> _H264Parameters | None:
    """ITU-T H.264, 7.3.2.1.1."""
    try:
        bits, profile = _Bits(unit[4:]), unit[1]
        bits.ue()
        if profile in _HIGH_PROFILES:
            if bits.ue() == 3 and bits.u(1):  # planes of colour that are coded apart
                return None
            bits.ue(), bits.ue(), bits.u(1)
            if bits.u(1) and not _skip_scaling_lists(bits):
                return None
        number_bits, kind = bits.ue() + 4, bits.ue()
        if kind not in (0, 2):
            return None
        count_bits = bits.ue() + 4 if kind == 0 else 0
        bits.ue(), bits.u(1), bits.ue(), bits.ue()
        fields = not bits.u(1)
    except (ValueError, IndexError):
        return None
    return _H264Parameters(number_bits, count_bits, fields) if max(number_bits, count_bits) <= 16 else None


def _skip_scaling_lists(bits: _Bits) -> bool:
    for index in range(8):
        last = next_scale = 8
        for _ in range((16 if index < 6 else 64) if bits.u(1) else 0):
            if next_scale:
                next_scale = (last + bits.se()) % 256
            last = next_scale or last
    return True


class _Hevc(_Syntax):
    """ITU-T H.265, 7.3."""

    # End of sequence and of bitstream, and pictures after which leading ones are dropped.
    slices, sets, ends = frozenset(range(32)), frozenset({32, 33, 34}), frozenset({36, 37})

    def kind(self, first: int) -> int:
        return first >> 1 & 63

    def length_width(self, extradata: bytes) -> int:
        return (extradata[21] & 3) + 1 if len(extradata) > 22 else 4

    def configured(self, extradata: bytes) -> list[bytes]:
        units: list[bytes] = []
        at = 23
        for _ in range(extradata[22] if len(extradata) > 22 else 0):
            count = int.from_bytes(extradata[at + 1 : at + 3], "big")
            found, at = _read_sized(extradata, at + 3, count)
            units += found
        return units

    def identifier(self, kind: int, unit: bytes) -> int:
        return 0 if kind != 34 else _Bits(unit[2:]).ue()

    def counts(self, heads: np.ndarray) -> Counts | None:
        parameters = self._read_parameters()
        if parameters is None:
            return None
        count_bits, extra_bits, output_flag = parameters
        first, second = np.frombuffer(heads.tobytes(), np.uint8).reshape(-1, _READ)[:, :2].T
        kind, layer = first >> 1 & 63, (first & 1) << 5 | second >> 3
        temporal = second & 7
        is_irap, is_idr = (kind >= 16) & (kind <= 23), (kind == 19) | (kind == 20)
        bits = _Heads(heads, 2)
        known = (bits.u(1) == 1) & (layer == 0) & ((kind <= 9) | is_idr | (kind == 21))
        known &= bits.u(is_irap.astype(int)) == 0  # pictures before it are dropped
        bits.ue()  # the picture parameter set
        bits.u(extra_bits)
        bits.ue()  # the type of the slice
        if output_flag:
            known &= bits.u(1) == 1
        lsb = np.where(is_idr, 0, bits.u(count_bits))
        restarts = is_idr.copy()
        restarts[:1] |= kind[:1] == 21
        leading = (kind >= 6) & (kind <= 9)
        known &= ~_follow_the_first(leading, is_irap)
        anchors = (temporal == 1) & ~leading & ((kind > 14) | (kind % 2 == 1))
        return Counts(lsb, 1 << count_bits, restarts, anchors, known)

    def _read_parameters(self) -> tuple[int, int, bool] | None:
        """Return the bits of a count, extra bits, and whether slices say if they are shown."""
        sequence = self._only(33)
        pictures = {_read_hevc_picture_set(unit) for (kind, _), unit in self._parameters.items() if kind == 34}
        if not sequence or len(pictures) != 1:
            return None
        try:
            count_bits = _read_hevc_count_bits(sequence)
        except ValueError:
            return None
        return (count_bits, *pictures.pop()) if 0 < count_bits <= 16 else None


def _follow_the_first(leading: np.ndarray, is_irap: np.ndarray) -> np.ndarray:
    """Leading pictures of the first keyframe, which refer to what is not there."""
    return leading & (np.cumsum(is_irap) <= 1)


def _read_hevc_picture_set(unit: bytes) -> tuple[int, bool]:
    """ITU-T H.265, 7.3.2.3.1: number of extra bits in a slice's header, and whether it has ``pic_output_flag``."""
    bits = _Bits(unit[2:])
    bits.ue(), bits.ue(), bits.u(1)
    output_flag = bits.u(1)
    return bits.u(3), bool(output_flag)


def _read_hevc_count_bits(unit: bytes) -> int:
    """ITU-T H.265, 7.3.2.2.1; 0 where planes of colour are coded apart."""
    bits = _Bits(unit[2:])
    bits.u(4)
    layers = bits.u(3)
    bits.u(1 + 88 + 8)
    present = [(bits.u(1), bits.u(1)) for _ in range(layers)]
    if layers:
        bits.u(2 * (8 - layers))
    for profile, level in present:
        bits.u(88 * profile + 8 * level)
    bits.ue()
    if bits.ue() == 3 and bits.u(1):
        return 0
    bits.ue(), bits.ue()
    if bits.u(1):
        bits.ue(), bits.ue(), bits.ue(), bits.ue()
    bits.ue(), bits.ue()
    return bits.ue() + 4
