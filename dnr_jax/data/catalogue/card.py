"""The card of a prepared data set: what is in it, what is not, and how the classes are distributed."""

import collections
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from dnr_jax.config import Catalogue
from dnr_jax.data.catalogue.records import Prepared

CARD_FILE = "card.json"
TEXT_FILE = "card.md"
PICTURE_FILE = "class_histogram.png"


# Of the videos that take decoding all of them.
_COUNTED = (
    "The packets of {} of {} videos do not tell the order of their frames, as those of unusual or damaged streams. "
    "These are counted: right, but each clip costs decoding the video from its start. `dnr prepare --reencode access` "
    "mends them; `card.json` names them."
)


def left_out_name(split: str) -> str:
    """Return the name of the file that lists the videos of a split which could not be read, and why."""
    return f"left_out_{split}.jsonl"


def write_card(prepared: Prepared, catalogue: Catalogue, title: str, homepage: str) -> None:
    """Write ``card.json``, ``card.md`` and ``class_histogram.png`` beside the records.

    Args:
      prepared: The prepared data set.
      catalogue: What it was prepared from.
      title: What the data set is called.
      homepage: Where it comes from; may be empty.
    """
    folder = epath.Path(prepared.folder)
    splits = {split: _describe(prepared, catalogue, split) for split in catalogue.splits}
    content = {"name": prepared.name, "title": title, "homepage": homepage, "classes": len(prepared.classes)}
    (folder / CARD_FILE).write_text(json.dumps(content | {"splits": splits}, indent=2) + "\n")
    (folder / TEXT_FILE).write_text(_text(content, splits))
    _draw({split: prepared.index(split).labels for split in splits}, len(prepared.classes), folder / PICTURE_FILE)


def _describe(prepared: Prepared, catalogue: Catalogue, split: str) -> dict[str, Any]:
    rows = prepared.index(split).rows
    left_out = (epath.Path(prepared.folder) / left_out_name(split)).read_text().splitlines()
    return {
        "videos": len(rows),
        "missing": len(catalogue.missing.get(split, ())),
        "left_out": [json.loads(line) for line in left_out],
        "unknown_class": list(catalogue.unknown.get(split, ())),
        "hours": round(sum(row["duration"] for row in rows) / 3600, 3),
        "gigabytes": round(sum(row["bytes"] for row in rows) / 1e9, 3),
        "frames": _range([row["frames"] for row in rows]),
        "seconds": _range([row["duration"] for row in rows]),
        "counted": [row["name"] for row in rows if row.get("counted")],
        "codecs": dict(collections.Counter(row["codec"] for row in rows).most_common()),
        "sizes": dict(collections.Counter(f"{row['width']}x{row['height']}" for row in rows).most_common(10)),
        "videos_of_class": _per_class(prepared.classes, [row["label"] for row in rows]),
        "missing_of_class": _per_class(prepared.classes, [label for _, label in catalogue.missing.get(split, ())]),
    }


def _range(values: Sequence[float]) -> dict[str, float]:
    return {"least": min(values), "median": float(np.median(values)), "most": max(values)}


def _per_class(classes: Sequence[str], labels: Sequence[int]) -> dict[str, int]:
    """Return the number of videos of each class that has any."""
    counts = np.bincount(np.asarray(labels, np.int64), minlength=len(classes)).tolist()
    return {name: count for name, count in zip(classes, counts, strict=True) if count}


def _text(content: Mapping[str, Any], splits: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [f"# {content['title']}", ""]
    if content["homepage"]:
        lines += [f"From <{content['homepage']}>.", ""]
    lines += [f"{content['classes']} classes.", ""]
    lines += ["| Split | Videos | Missing | Left out | Hours | GB | Frames (median) | Codecs |", "|" + "---|" * 8]
    for split, facts in splits.items():
        codecs = ", ".join(f"{codec} ({count})" for codec, count in facts["codecs"].items())
        frames = f"{facts['frames']['least']} to {facts['frames']['most']} ({facts['frames']['median']:g})"
        lines.append(
            f"| {split} | {facts['videos']} | {facts['missing']} | {len(facts['left_out'])} | {facts['hours']:.2f} | "
            f"{facts['gigabytes']:.2f} | {frames} | {codecs} |"
        )
    lines += ["", f"![Videos of each class]({PICTURE_FILE})", ""]
    for split, facts in splits.items():
        if facts["missing"]:
            lines += [f"## Missing from {split}", "", "| Class | Videos | Missing |", "|---|---|---|"]
            of_class = facts["videos_of_class"]
            by_count = sorted(facts["missing_of_class"].items(), key=lambda pair: (-pair[1], pair[0]))
            lines += [f"| {name} | {of_class.get(name, 0)} | {count} |" for name, count in by_count] + [""]
        if facts["counted"]:
            lines += [f"## Slow in {split}", "", _COUNTED.format(len(facts["counted"]), facts["videos"]), ""]
        if facts["left_out"]:
            lines += [f"## Left out of {split}", ""]
            lines += [f"- `{row['name']}`: {row['error']}" for row in facts["left_out"]] + [""]
    return "\n".join(lines)


def _draw(labels: Mapping[str, np.ndarray], num_classes: int, file: epath.Path) -> None:
    """Draw how many videos each class has, the largest first."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3 * len(labels)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(labels), squeeze=False)[:, 0]
    for panel, (split, numbers) in zip(axes, labels.items(), strict=True):
        counts = np.sort(np.bincount(numbers, minlength=num_classes))[::-1]
        panel.bar(np.arange(num_classes), counts, width=1.0)
        panel.set(title=f"{split}: {len(numbers)} videos", xlabel="classes, the largest first", ylabel="videos")
    with file.open("wb") as stream:
        figure.savefig(stream, format="png", dpi=100)
