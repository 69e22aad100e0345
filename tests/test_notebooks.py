"""Every notebook runs from its first cell to its last, with miniature settings, and is committed without outputs."""

import csv
import html
import importlib.metadata
import importlib.util
import os
import pathlib
import subprocess
import sys

import IPython
import jax
import nbformat
import pytest

from tests.paths import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "colabs").glob("*.ipynb"))

# In a process of its own: jupyter's packages warn, and warnings are errors in these tests.
EXECUTE = """
import sys, nbclient, nbformat
source, target, folder = sys.argv[1:]
notebook = nbformat.read(source, as_version=4)
client = nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": folder}})
client.execute()
nbformat.write(notebook, target)
"""


def name(path: pathlib.Path) -> str:
    return path.name


def text_outputs(notebook: nbformat.NotebookNode) -> str:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output["text"] for output in outputs if output.output_type == "stream" and output.name == "stdout")


def output_types(notebook: nbformat.NotebookNode) -> set[str]:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return {kind for output in outputs for kind in output.get("data", {})}


def test_there_is_a_notebook():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebook_is_committed_without_outputs(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None


def test_names_of_classes_are_text_in_the_table_of_errors(tmp_path):
    (cell,) = [
        cell.source
        for cell in nbformat.read(REPOSITORY / "colabs/own_videos.ipynb", as_version=4).cells
        if cell.cell_type == "code" and "per_class.csv" in cell.source
    ]
    (tmp_path / "per_class.csv").write_text("class,accuracy\n<b>&,1.0\n")
    shown: list[str] = []
    given = {"csv": csv, "html": html, "HTML": str, "Image": lambda *_, **settings: "", "display": shown.append}
    exec(cell, given | {"WORKDIR": tmp_path})
    assert "<td>&lt;b&gt;&amp;</td>" in shown[0]


def opening(path: pathlib.Path) -> str:
    """The first cell with code, which installs."""
    return next(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebooks_open_with_the_same_cell(path):
    assert opening(path) == opening(NOTEBOOKS[0])


class Shell(IPython.InteractiveShell):
    """Notes what pip is asked for instead of asking it."""

    def run_line_magic(self, magic_name, line, _stack_depth=1):
        asked = self.var_expand(line, 1)
        self.asked = (magic_name, asked, pathlib.Path(asked.split('"')[1]).read_text().split())


@pytest.mark.parametrize("in_clone", [True, False])
def test_the_opening_cell_installs_and_keeps_what_the_runtime_has(in_clone, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.chdir(REPOSITORY / "colabs" if in_clone else tmp_path)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # which a shell replaces
    shell = Shell(user_ns={})
    shell.run_cell(opening(NOTEBOOKS[0])).raise_error()
    magic, line, kept = shell.asked
    assert (magic, line.split('"')[3]) == ("pip", str(REPOSITORY) if in_clone else "dnr-jax")
    assert "--constraint" in line and "upgrade" not in line
    assert {"jax", "jaxlib", "flax", "numpy", "optax"} == {requirement.split("==")[0] for requirement in kept}
    assert f"jax=={importlib.metadata.version('jax')}" in kept
    assert f"{jax.device_count()} cpu (cpu)" in capsys.readouterr().out


@pytest.fixture
def environment(tmp_path) -> dict[str, str]:
    """A user's Python, whose caches and settings are in an empty folder."""
    folders = {
        key: str(tmp_path / key.lower())
        for key in ("XDG_CACHE_HOME", "MPLCONFIGDIR", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")
    }
    settings = {
        "JAX_PLATFORMS": "cpu",
        "DNR_NOTEBOOK_MINIATURE": "1",
        "PYTHONPATH": str(REPOSITORY),
        # Most of the time goes into compiling: with few optimisations, and not again in the next run of the tests.
        "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
    }
    return os.environ | folders | settings


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebook_runs(path, tmp_path, environment):
    executed, folder = tmp_path / path.name, tmp_path / "work"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE, path, executed, folder],
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    notebook = nbformat.read(executed, as_version=4)
    assert "validation top-1" in text_outputs(notebook)
    assert {"image/png", "text/html"} <= output_types(notebook)
