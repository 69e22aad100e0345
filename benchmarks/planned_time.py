"""Time of a run as ``dnr plan --pace`` tells it from the run's beginning, against what it took.

A finished run is cut off after parts of its steps, and the whole told from the rows until there; nothing is trained.

    python train.py --config=configs/demo.py
    python benchmarks/planned_time.py runs/demo
"""

import argparse
import json
import pathlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from dnr_jax.config import ExperimentConfig
from dnr_jax.runs.folder import CONFIG_FILE, METRICS_FILE, read_config, read_metrics
from dnr_jax.training import plan

PARTS = (0.1, 0.25, 0.5)
Rows = Sequence[Mapping[str, Any]]


def taken(rows: Rows) -> float:
    """Return the seconds of all that the run did; its last evaluation follows the last row of steps."""
    at = [index for index, row in enumerate(rows) if row["kind"] == "train"]
    return sum(rows[i]["time"]["seconds"] for i in at) + sum(row["time"]["seconds"] for row in rows[at[-1] + 1 :])


def predicted(folder: pathlib.Path, rows: Rows, config: ExperimentConfig, videos: int) -> float:
    """Return the seconds that a plan tells from some rows of the run in ``folder``, of ``videos`` validation videos."""
    with tempfile.TemporaryDirectory() as begun:
        shutil.copy(folder / CONFIG_FILE, begun)
        (pathlib.Path(begun) / METRICS_FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))
        pace = plan.pace_of(pathlib.Path(begun), config)
    steps_per_epoch = rows[0]["step"] / rows[0]["epoch"]
    training = round(steps_per_epoch * config.train.batch_size)
    return plan.predict_time(config, plan.measure_length(config, training, videos), pace).run


def main() -> None:
    """Print a line for each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path, help="folder of a run that was never interrupted")
    folder = parser.parse_args().run
    config, rows = read_config(folder), read_metrics(folder / METRICS_FILE)
    (videos,) = {row["videos"] for row in rows if row["kind"] == "validation"}
    steps = max(row["step"] for row in rows)
    for part in PARTS:
        begun = [row for row in rows if row["step"] <= part * steps]
        told, took = predicted(folder, begun, config, videos), taken(rows)
        print(f"after {part:.0%} of {steps} steps: {told:.0f} s told, {took:.0f} s taken; ratio {told / took:.3f}")


if __name__ == "__main__":
    main()
