"""Where settings of former versions are now."""

from typing import Any

_SOURCES = {
    "list": ("Lists", {name: name for name in ("root", "train_list", "val_list", "label_map")}),
    "folder": ("Folder", {"root": "root"}),
    "dataset": ("Dataset", {"dataset": "name", "root": "root", "annotations": "annotations", "fold": "fold"}),
    "records": ("Records", {"root": "root"}),
    "demo": ("Demo", {"demo_train_videos": "train_videos", "demo_val_videos": "val_videos", "cache_dir": "cache_dir"}),
}
"""Classes of sources and their fields by the words and the fields of ``data`` that stood for them before."""


def moved(name: str) -> str:
    """Return what to say of a field that is elsewhere now, by its full former name; empty where there was none."""
    field = name.removeprefix("data.")
    owners = {kind: fields[field] for kind, fields in _SOURCES.values() if field in fields and field != name}
    if not owners:
        return ""
    new = next(iter(owners.values()))
    return f"it is 'data.source.{new}' now, a field of {', '.join(owners)}, which --config.data.source=CLASS chooses"


def converted(values: dict[str, Any]) -> dict[str, Any]:
    """Return an experiment out of a ``config.json``, whose form may be a former one, in the form of this version."""
    data = values.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("source"), str) or data["source"] not in _SOURCES:
        return values
    kind, fields = _SOURCES[data["source"]]
    former = {field for _, names in _SOURCES.values() for field in names}
    source = {"class": kind} | {new: data[old] for old, new in fields.items() if old in data}
    return values | {"data": {name: value for name, value in data.items() if name not in former} | {"source": source}}
