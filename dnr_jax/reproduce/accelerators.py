"""A section of Markdown from the files that ``benchmarks/accelerator.py`` writes."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from etils import epath

_NORMS = {"bn": "BN", "dnr": "DNR"}
_STEPS = ("train", "eval")
_PARTS = ("correctness", "steps", "torch", "profile", "largest batch")


def accelerators_section(paths: Iterable[epath.PathLike]) -> str:
    """Return a section ``## Accelerators`` of these files, a subsection each; empty where there are none."""
    results = [json.loads(epath.Path(path).read_text()) for path in paths]
    parts = ["## Accelerators\n\n```bash\npython benchmarks/accelerator.py\n```"] if results else []
    return "\n\n".join([*parts, *("\n\n".join(_subsection(result)) for result in results)])


def costs(paths: Iterable[epath.PathLike]) -> list[str]:
    """Return what DNR costs beside batch normalisation on each machine and in each network, a sentence each."""
    texts = []
    for results in (json.loads(epath.Path(path).read_text()) for path in paths):
        machine = results["machine"]
        given = [
            *machine.get("XLA_FLAGS", "").split(),
            *(f"{k}={v}" for k, v in machine.get("compiler options", {}).items()),
        ]
        options = f"XLA's options {', '.join(f'`{option}`' for option in given)}" if given else "XLA's defaults"
        for row in results["steps"]:
            if "failed" not in row:
                compiling = row["dnr train"]["trace + compile (s)"] / row["bn train"]["trace + compile (s)"]
                train, evaluation = (row["DNR / BN"][step] for step in _STEPS)
                texts.append(
                    f"{machine['device']}, {row['network']} in {row['dtype']}, {options}, {_waiting(results)}: a train "
                    f"step takes {train:.2f} times as long, an evaluation step {evaluation:.2f} times, compiling the "
                    f"train step {compiling:.2f} times."
                )
    return texts


def _subsection(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield paragraphs and tables of one machine; what was not measured is left out."""
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    options = [f"{name}={value}" for name, value in machine.get("compiler options", {}).items()]
    flags = machine.get("XLA_FLAGS", "").split() + options
    compiled = f"XLA's options: {', '.join(f'`{flag}`' for flag in flags) or 'its defaults'}"
    yield f"### {machine['device']}\n\n{machine['devices']} x {machine['platform']}, {versions}. {compiled}."
    if correctness := results.get("correctness"):
        yield _correctness(correctness)
    if steps := [row for row in results.get("steps", []) if "failed" not in row]:
        peaks = ", ".join(f"{peak / 1e12:.3g} in {dtype}" for dtype, peak in results["peaks"].items())
        yield f"The peak of a matrix product, in TFLOP/s: {peaks}. Ratios are of steps in turn; {_waiting(results)}."
        yield _table(_step_rows(steps))
    if torch := [row for row in results.get("torch", []) if "failed" not in row]:
        yield (
            "PyTorch's time divided by ours, in turn; above 1 ours is faster. PyTorch tries out its convolutions "
            "(cuDNN's benchmark mode) and may use TF32, as XLA does; `compiled` is `torch.compile` of `channels_last`."
        )
        yield _table(_torch_rows(torch))
    if largest := results.get("largest batch"):
        yield "The largest batch that ran in one train step."
        columns = {"network": "network", "norm": "norm", "dtype": "dtype", "remat": "recomputed"}
        numbers = {"ran": "clips", "MiB a clip": "MiB a clip"}
        yield _table([{new: row[old] for old, new in (columns | numbers).items()} for row in largest])
    for norm, label in _NORMS.items():
        if profile := [row for row in results.get("profile", ()) if row["norm"] == norm]:
            yield f"Where the time of a {label} train step goes: {_sum(profile)}."
            yield _table(_profile_rows(profile))
    if failed := [row for name in ("steps", "torch") for row in results.get(name, ()) if "failed" in row]:
        yield "Failed: " + "; ".join(f"{_named(row)} ({row['failed']})" for row in failed) + "."
    if skipped := results.get("skipped"):
        yield f"Not measured, because the time was up: {'; '.join(skipped)}."
    if missing := [part for part in _PARTS if not results.get(part)]:
        yield f"Without any figure: {', '.join(missing)}."


def _correctness(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say how far layers are from float64 on the host, and which of them too far."""
    worst = {dtype: max(row["error"] for row in rows if row["dtype"] == dtype) for dtype in {r["dtype"] for r in rows}}
    words = "; ".join(f"{error:.0e} in {dtype}" for dtype, error in sorted(worst.items(), reverse=True))
    failed = [f"{row['what']} in {row['dtype']}" for row in rows if not row["passed"]]
    verdict = f"Too far: {', '.join(failed)}." if failed else "All pass."
    return f"Values and gradients against float64 on the host, worst relative error (L2): {words}. {verdict}"


def _waiting(results: Mapping[str, Any]) -> str:
    """Say when the host waited for the device."""
    steps = results.get("steps in flight", 1)
    return "each step is waited for" if steps == 1 else f"{steps} steps are started before one is waited for"


def _sum(profile: Sequence[Mapping[str, Any]]) -> str:
    """Say how long all operations took, of which these are the largest."""
    milliseconds = 1e3 * profile[0]["seconds"] / profile[0]["share"]
    return f"{milliseconds:.3g} ms in all operations"


def _profile_rows(profile: Sequence[Mapping[str, Any]], longest: int = 60) -> Iterator[dict[str, Any]]:
    """Yield a row for each kind of operation; names of kernels can have hundreds of characters."""
    for row in profile:
        name = row["operation"] if len(row["operation"]) <= longest else f"{row['operation'][:longest]}..."
        yield {"operation": f"`{name}`", "calls": row["calls"], "share": f"{100 * row['share']:.1f}%"}


def _named(row: Mapping[str, Any]) -> str:
    """Return what a row is of."""
    return ", ".join(str(row[key]) for key in ("network", "norm", "dtype", "batch", "layout") if key in row)


def _step_rows(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a row for each norm and step."""
    for row in rows:
        for norm, label in _NORMS.items():
            for step in _STEPS:
                measured = row[f"{norm} {step}"]
                ratio = f"{row['DNR / BN'][step]:.3f}" if norm == "dnr" else ""
                yield {
                    "network": row["network"],
                    "dtype": row["dtype"],
                    "batch": row["batch"],
                    "norm": label,
                    "step": step,
                    "clips/s": measured["clips a second"],
                    "of peak": f"{100 * measured['of peak']:.0f}%",
                    "DNR / BN": ratio,
                    "GiB": measured["memory (GiB)"],
                    "trace + compile (s)": measured["trace + compile (s)"],
                }


def _torch_rows(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a row for each network, norm, dtype and layout."""
    for row in rows:
        measured = {f"{step}, PyTorch / ours": row[step]["PyTorch / ours"] for step in _STEPS}
        named = {key: row[key] for key in ("network", "dtype", "batch", "norm", "layout")}
        yield named | {"norm": _NORMS[row["norm"]]} | measured


def _table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows with the same columns as a table."""
    listed = list(rows)
    lines = [list(listed[0]), ["---"] * len(listed[0])]
    lines += [[_text(cell) for cell in row.values()] for row in listed]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(cell: Any) -> str:
    """Return a number with three digits, or with all that are in front of the point; anything else as it is."""
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
