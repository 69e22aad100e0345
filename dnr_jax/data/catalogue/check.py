"""``dnr check``: decodes every video of a data set and says what is wrong with it, before a training run finds out."""

import collections
import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import IO

from etils import epath

from dnr_jax.config import Catalogue, Problem, VideoSource
from dnr_jax.data.catalogue import media, records
from dnr_jax.data.catalogue.parallel import ordered_map
from dnr_jax.data.catalogue.textfiles import first_of, readable
from dnr_jax.data.clips.decode import DecodeError, told_frames
from dnr_jax.progress import Progress

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What decoding a whole video told.

    Attributes:
      frames: How many could be decoded.
      error: Why it is broken; empty where it is not.
      fingerprint: A hash of its content.
      bytes: Size.
      counted: Whether it took decoding the whole video to tell its frames.
    """

    frames: int
    error: str
    fingerprint: str
    bytes: int
    counted: bool = False


def check(catalogue: Catalogue, report: str, min_frames: int = 8, workers: int = 1) -> list[Problem]:
    """Decode every video, and compare contents and labels.

    Args:
      catalogue: The data set.
      report: File for the problems, one JSON object a line. While the check runs, what is known already is noted in a
        file beside it (``<report>.partial``), from which an interrupted check goes on. Empty: nothing is written.
      min_frames: Videos with fewer frames are short.
      workers: Number of processes.

    Returns:
      The problems, videos in order.
    """
    with tempfile.TemporaryDirectory() as nowhere:
        verdicts = _decode_all(catalogue, epath.Path(f"{report or f'{nowhere}/report'}.partial"), workers)
    problems = list(catalogue.problems)
    problems += [
        Problem("unknown class", split, name, "its class is none of the data set's")
        for split, names in catalogue.unknown.items()
        for name in names
    ]
    problems += [
        problem
        for (split, name), verdict in verdicts.items()
        if (problem := _judge(split, name, verdict, min_frames)) is not None
    ]
    problems += _same_content(catalogue, verdicts)
    if report:
        _write_report(report, problems)
    return problems


def _write_report(report: str, problems: Sequence[Problem]) -> None:
    """Write the problems to a file; where that fails, what took hours is not lost for it."""
    try:
        records.write_text(epath.Path(report), _lines(problems))
        epath.Path(f"{report}.partial").unlink(missing_ok=True)
    except OSError as error:
        _logger.warning("the problems cannot be written to '%s': %s", report, error)


def is_written(report: str, problems: Sequence[Problem]) -> bool:
    """Return whether a file holds these problems, as :func:`check` writes them where there is room."""
    try:
        return not records.is_special(report) and epath.Path(report).read_text() == _lines(problems)
    except OSError:
        return False


def _lines(problems: Sequence[Problem]) -> str:
    return records.json_lines(dataclasses.asdict(problem) for problem in problems)


def inspect(video: str | bytes) -> Verdict:
    """Decode a whole video, given by its path or its bytes."""
    content: str | bytes = b""
    told = 0
    try:
        content = media.readable(video) if isinstance(video, str) else video
        frames, damaged = media.count_frames(content) if media.size(content) else (0, 0)
        told = told_frames(content) if frames else 0
        error = f"{damaged} damaged packets; {frames} frames could be decoded" if damaged else ""
        if told and told != frames and not error:
            error = f"its packets tell of {told} frames; {frames} could be decoded"
    except DecodeError as failure:
        frames, error = 0, readable(str(failure))
    return Verdict(frames, error, media.fingerprint(content), media.size(content), not told and frames > 0)


def lost(video: str | bytes, reason: str) -> Verdict:
    """Return the verdict on a video that ended the process which decoded it, or took too long."""
    return Verdict(0, reason, "", 0)


_COUNTED = (
    "its packets do not tell the order of its frames, which are right, but each clip costs decoding the whole video; "
    "'dnr prepare --reencode access' mends it"
)
Verdicts = dict[tuple[str, str], Verdict]
_Versions = dict[tuple[str, str], str]


def _decode_all(catalogue: Catalogue, partial: epath.Path, workers: int) -> Verdicts:
    videos = [(split, i) for split, source in catalogue.splits.items() for i in range(len(source))]
    keys = {(split, i): (split, catalogue.splits[split].names[i]) for split, i in videos}
    versions = {keys[split, i]: _version(catalogue.splits[split], i) for split, i in videos}
    paths = [source.paths for source in catalogue.splits.values()]
    header = json.dumps({"videos": hashlib.sha256(json.dumps(paths).encode()).hexdigest()}) + "\n"
    known = _read_partial(partial, header, versions)
    todo = [video for video in videos if keys[video] not in known]
    results = ordered_map(inspect, (catalogue.splits[split].media(i) for split, i in todo), workers, lost)
    progress = Progress(len(videos), "checking", "video", initial=len(videos) - len(todo))
    begun = header + "".join(_note(key, versions[key], verdict) for key, verdict in known.items())
    with contextlib.closing(results), progress as bar, _notes(partial, begun) as notes:
        for video, verdict in zip(todo, results, strict=True):
            key = keys[video]
            known[key] = verdict
            with contextlib.suppress(OSError):  # of a full disk: an interrupted check then does more of it again
                notes.write(_note(key, versions[key], verdict))
                notes.flush()
            bar.update()
    return {key: known[key] for key in keys.values()}


def _version(source: VideoSource, index: int) -> str:
    """Return what tells a video from one that has taken its place since: of a local file its size and its time."""
    if isinstance(source.records, records.RecordReader):
        return source.records.version
    with contextlib.suppress(OSError):
        found = os.stat(source.paths[index])
        return f"{found.st_size} {found.st_mtime_ns}"
    return ""


@contextlib.contextmanager
def _notes(file: epath.Path, begun: str) -> Iterator[IO[str]]:
    """Lend a file of notes that begins with a text; where a full disk has no room for it, what keeps them in vain."""
    notes: IO[str] = io.StringIO()
    try:
        records.write_text(file, begun)
        notes = file.open("a")
    except OSError as error:
        _logger.warning("'%s' cannot be written (%s): an interrupted check would begin anew", file, error.strerror)
    try:
        yield notes
    finally:
        with contextlib.suppress(OSError):  # what was not written before is not now
            notes.close()


def _note(key: tuple[str, str], version: str, verdict: Verdict) -> str:
    return json.dumps([*key, version, dataclasses.asdict(verdict)]) + "\n"


def _read_partial(file: epath.Path, header: str, versions: _Versions) -> Verdicts:
    """Return what an interrupted check of the same videos, by its first line, noted of those that are as they were."""
    text = file.read_text() if file.is_file() else ""
    known: Verdicts = {}
    for line in text.splitlines()[1:] if text.startswith(header) else ():
        with contextlib.suppress(json.JSONDecodeError):  # the last line may have been cut off
            split, name, version, verdict = json.loads(line)
            if versions.get((split, name)) == version:
                known[split, name] = Verdict(**verdict)
    return known


def _judge(split: str, name: str, verdict: Verdict, min_frames: int) -> Problem | None:
    problem = functools.partial(Problem, split=split, name=name)
    if not verdict.bytes and not verdict.error:
        return problem("empty", detail="the file has no content")
    if verdict.error:
        return problem("broken", detail=verdict.error)
    if not verdict.frames:
        return problem("empty", detail="it holds no frame")
    if verdict.frames < min_frames:
        return problem("short", detail=f"{verdict.frames} frames; expected at least {min_frames}")
    if verdict.counted:
        return problem("slow", detail=_COUNTED)
    return None


def _same_content(catalogue: Catalogue, verdicts: Verdicts) -> Iterator[Problem]:
    """Find videos whose content is in another split, or has another label, too."""
    labels = {
        (split, name): source.classes[label]
        for split, source in catalogue.splits.items()
        for name, label in zip(source.names, source.labels.tolist(), strict=True)
    }
    groups: dict[str, list[tuple[str, str]]] = collections.defaultdict(list)
    for key, verdict in verdicts.items():
        if verdict.bytes:
            groups[verdict.fingerprint].append(key)
    for group in groups.values():
        first, *others = group
        for split, name in others:
            original = f"{first[0]}/{first[1]}"
            if labels[split, name] != labels[first]:
                detail = (
                    f"the content of {original}, with the label '{labels[split, name]}' instead of '{labels[first]}'"
                )
                yield Problem("mislabelled", split, name, detail)
            if any(split != other for other, _ in group):
                elsewhere = next(f"{s}/{n}" for s, n in group if s != split)
                yield Problem("duplicate", split, name, f"the content of {elsewhere}")


def summary(catalogue: Catalogue, problems: Iterable[Problem]) -> str:
    """Return a few lines: how many videos there are, how many are missing, how many problems of each kind."""
    lines = []
    for split, source in catalogue.splits.items():
        missing = len(catalogue.missing.get(split, ()))
        empty = source.classes_without_videos() if split not in ("val", "test") else []
        lines.append(
            f"{split}: {len(source)} videos"
            + (f", {missing} annotated videos are missing" if missing else "")
            + (f", {len(empty)} of {len(source.classes)} classes have none: {first_of(empty, 10)}" if empty else "")
        )
    counts = collections.Counter(problem.kind for problem in problems)
    found = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
    return "\n".join([*lines, found or "nothing wrong"])
