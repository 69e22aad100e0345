"""A folder that is a Space of Hugging Face: the run, and what starts its page there."""

import importlib.metadata
import os
import pathlib
import shutil

import dnr_jax
from dnr_jax.app.command import PORT, find_clips
from dnr_jax.app.similar import FILE
from dnr_jax.config import ConfigError
from dnr_jax.runs.checkpoint import CHECKPOINTS_FOLDER
from dnr_jax.runs.folder import CLASSES_FILE, CONFIG_FILE, INIT_REPORT_FILE, METRICS_FILE, Run

RUN_FOLDER = "run"
GRADIO = "6.31.0"
"""The release that a Space gets where none is installed here."""
_OPTIMIZER = "optimizer"
"""Item of a checkpoint that nobody needs who does not train."""
_APP = '''\
"""Starts the page of the network in {run}/."""

import pathlib
import sys

from dnr_jax.cli import main

if __name__ == "__main__":  # the processes that read videos import this file
    here = pathlib.Path(__file__).parent
    words = ["app", str(here / "{run}"), "--host", "0.0.0.0", "--port", "{port}", "--max-megabytes", "50"]
    sys.exit(main(words))
'''
_README = """\
---
title: {title}
sdk: gradio
sdk_version: "{gradio}"
python_version: "3.11"
app_file: app.py
pinned: false
---

# {title}

A {network} with {count} classes, trained with [dnr_jax](https://github.com/dnr-jax/dnr_jax): drop a video, or record
one with the camera, and see labels, labels over time, where the network looks, and training clips like it.

`app.py` starts `dnr app {run}`; run it anywhere with `pip install -r requirements.txt` and `python app.py`.
`{run}/` has the network without the state of its optimiser{clips}.
"""
_CLIPS = f", and in `{FILE}` the features, names and small pictures of {{count}} clips of its training set"


def write_space(run: Run, folder: str | os.PathLike[str], count: int | None = None) -> list[pathlib.Path]:
    """Write a Space; a folder that is there gets its files, and loses none but those of a former run.

    Args:
      run: from :func:`dnr_jax.runs.folder.load_run`.
      folder: made where it is not there.
      count: training clips, as :func:`dnr_jax.app.similar.training_clips` takes it. They are public with the Space.

    Returns:
      The files, and the folder of the run.

    Raises:
      ConfigError: where the folder holds something else under the name of the run, such as a run that was made
        there.
    """
    folder = pathlib.Path(folder)
    target = folder / RUN_FOLDER
    if target.exists() and not (target / CONFIG_FILE).is_file():
        raise ConfigError(f"'{target}' is there and is no run; choose another folder for the Space")
    if any((target / name).exists() for name in (METRICS_FILE, INIT_REPORT_FILE)):  # a Space's copy has neither
        raise ConfigError(
            f"'{target}' is a run that was made there, and would be replaced by the Space's; choose another folder "
            "for the Space"
        )
    clips, _ = find_clips(run, count, None)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{RUN_FOLDER}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _copy_run(run, partial)
        if clips:
            clips.save(partial / FILE)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    texts = {
        "app.py": _APP.format(run=RUN_FOLDER, port=PORT),
        "requirements.txt": f"dnr-jax[app]=={dnr_jax.__version__}\n",
        "README.md": _README.format(
            title=f"Labels for videos: {run.workdir.resolve().name}".translate(_PLAIN),
            gradio=_gradio(),
            network=type(run.config.model).__name__,
            count=len(run.classes),
            run=RUN_FOLDER,
            clips=_CLIPS.format(count=len(clips.names)) if clips else "",
        ),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [*(folder / name for name in texts), target]


_PLAIN = {ord(":"): " -", ord('"'): "'", ord("\n"): " ", ord("#"): " "}
"""Characters that mean something in the header."""


def _copy_run(run: Run, target: pathlib.Path) -> None:
    """Copy what a network is loaded from."""
    step = pathlib.Path(CHECKPOINTS_FOLDER) / str(run.step)
    shutil.copytree(run.workdir / step, target / step, ignore=shutil.ignore_patterns(_OPTIMIZER))
    for name in (CONFIG_FILE, CLASSES_FILE):
        if (run.workdir / name).is_file():
            shutil.copyfile(run.workdir / name, target / name)


def _gradio() -> str:
    try:
        return importlib.metadata.version("gradio")
    except importlib.metadata.PackageNotFoundError:
        return GRADIO
