"""What devices tell one another in a step: the collective operations of a compiled program, read from its HLO."""

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping, Sequence

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
"""The collective operations of HLO."""
_HEADER = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.-]+) \(.*\{$")
_OPERATION = re.compile(rf"^(?:ROOT )?%?[\w.-]+ = (?P<result>.*?) (?P<kind>{'|'.join(KINDS)})(?P<start>-start)?\(")
_CALLED = re.compile(r"\b(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_LOOP = re.compile(r" while\(")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_ARRAY = re.compile(r"\b(pred|[a-z]+\d\w*)\[([\d,]*)\]")
_LISTED_GROUP = re.compile(r"replica_groups=\{\{([\d,]*)\}")
_IOTA_GROUPS = re.compile(r"replica_groups=\[\d+,(\d+)\]")


@dataclasses.dataclass(frozen=True)
class Collective:
    """Collective operations of one kind within groups of one size.

    Attributes:
      kind: one of :data:`KINDS`.
      devices: of a group.
      count: how often it is called in a run of the program.
      bytes: of the whole arrays, before they are scattered or after they are gathered, of all calls together.
    """

    kind: str
    devices: int
    count: int
    bytes: int

    @property
    def sent(self) -> int:
        """Bytes that each device sends, where the devices of a group pass parts on in a ring."""
        if self.kind in ("collective-permute", "collective-broadcast"):
            return self.bytes
        rounds = 2 if self.kind == "all-reduce" else 1
        return round(self.bytes * rounds * (self.devices - 1) / self.devices)


def read_collectives(hlo: str, num_devices: int) -> list[Collective]:
    """Return the collective operations of a run of a compiled program, the largest first.

    What is in a loop counts as often as the loop runs, where the compiler knows that, otherwise once; of the branches
    of a condition each counts. Operations among groups of one device are none.

    Args:
      hlo: the text of the compiled module, as ``compiled.as_text()`` returns it.
      num_devices: on which it runs.
    """
    program = _computations(hlo)
    totals: dict[tuple[str, int], list[int]] = collections.defaultdict(lambda: [0, 0])
    for name, times in _runs(program).items():
        for line in program[name]:
            if (found := _OPERATION.match(line)) and (devices := _group(line, num_devices)) > 1:
                total = totals[found["kind"], devices]
                total[0] += times
                total[1] += times * _bytes(found["result"], found["kind"], bool(found["start"]), devices)
    listed = [Collective(*key, *total) for key, total in totals.items()]
    return sorted(listed, key=lambda entry: entry.bytes, reverse=True)


def _computations(hlo: str) -> dict[str, list[str]]:
    """Return the lines of each computation by its name; the entry is called ``""``."""
    found: dict[str, list[str]] = {"": []}
    lines = found[""]
    for line in map(str.strip, hlo.splitlines()):
        if header := _HEADER.match(line):
            lines = found.setdefault("" if header["entry"] else header["name"], [])
        else:
            lines.append(line)
    return found


def _runs(program: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return how often each computation runs, by its name."""
    callers: dict[str, list[tuple[str, int]]] = collections.defaultdict(list)
    for name, lines in program.items():
        for line in lines:
            for called, times in _calls(line):
                callers[called].append((name, times))

    @functools.cache
    def runs(name: str) -> int:
        return sum(times * runs(caller) for caller, times in callers[name]) if name else 1

    return {name: runs(name) for name in program}


def _calls(line: str) -> Iterator[tuple[str, int]]:
    """Yield the computations that an operation calls, and how often it does."""
    times = int(trips[1]) if _LOOP.search(line) and (trips := _TRIPS.search(line)) else 1
    for name in _CALLED.findall(line):
        yield name, times
    for names in _BRANCHES.findall(line):
        yield from ((name.strip().removeprefix("%"), 1) for name in names.split(","))


def _group(line: str, num_devices: int) -> int:
    """Return how many devices take part in an operation together."""
    if "collective-permute" in line:
        return num_devices
    if listed := _LISTED_GROUP.search(line):
        return listed[1].count(",") + 1
    iota = _IOTA_GROUPS.search(line)
    return int(iota[1]) if iota else num_devices


def _bytes(result: str, kind: str, started: bool, devices: int) -> int:
    """Return the bytes of the whole arrays of an operation, from the type of its result."""
    arrays = [_size(dtype, shape) for dtype, shape in _ARRAY.findall(result)]
    if started and kind != "all-reduce":  # the result has the operands too, and for some a context
        arrays = arrays[len(arrays) // 2 :] if kind == "all-gather" else arrays[1:2]
    return sum(arrays) * (devices if kind == "reduce-scatter" else 1)


def _size(dtype: str, shape: str) -> int:
    bits = int(re.search(r"\d+", dtype)[0]) if dtype != "pred" else 8  # type: ignore[index]
    return math.prod(map(int, filter(None, shape.split(",")))) * bits // 8
