"""The distributions that a package index gets, and a wheel used where there is nothing else of this project."""

import os
import pathlib
import re
import subprocess
import sys
import tarfile
import venv
import zipfile

import pytest

from tests.paths import REPOSITORY

pytestmark = pytest.mark.slow

TINY = {
    "model.width": 4,
    "data.crop_size": 16,
    "data.source.cache_dir": "videos",
    "data.num_workers": 1,
    "data.sampler.num_frames": 4,
    "train.steps": 2,
    "train.eval_every": 2,
}


def run(*command: str | os.PathLike[str], cwd: pathlib.Path, status: int = 0) -> str:
    """Run a command that sees nothing of the checkout; return what it printed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # compiles several times faster
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory) -> tuple[pathlib.Path, pathlib.Path]:
    """The sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("distributions")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, REPOSITORY, cwd=folder)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(distributions, tmp_path_factory) -> pathlib.Path:
    """The programs of an environment with the wheel, and with the packages that it depends on, from this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    (packages,) = folder.glob("lib/*/site-packages")
    shared = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "dependencies.pth").write_text("\n".join(shared))
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-deps", "--no-index", "--ignore-installed", distributions[1], cwd=folder)
    return folder / "bin"


def test_an_index_accepts_both(distributions):
    folder = distributions[0].parent
    run(sys.executable, "-m", "twine", "check", "--strict", *distributions, cwd=folder)
    run(sys.executable, "-m", "check_wheel_contents", distributions[1], cwd=folder)


def test_both_have_the_configurations_and_say_that_they_are_typed(distributions):
    configs = {path.name for path in (REPOSITORY / "configs").glob("*.py")}
    with tarfile.open(distributions[0]) as sdist, zipfile.ZipFile(distributions[1]) as wheel:
        sources = {name.partition("/")[2] for name in sdist.getnames()}
        files = set(wheel.namelist())
    assert {f"configs/{name}" for name in configs} | {"dnr_jax/py.typed", "train.py"} <= sources
    assert {f"dnr_jax/_shipped/configs/{name}" for name in configs} | {"dnr_jax/py.typed"} <= files
    assert not [name for name in files if name.endswith(".pyc") or name.startswith("tests")]


def test_the_wheel_alone_trains_and_predicts_in_an_empty_folder(installed, tmp_path):
    where = run(installed / "python", "-c", "import dnr_jax; print(dnr_jax.__file__)", cwd=tmp_path)
    assert where.startswith(str(installed.parent))
    listed = run(installed / "dnr", "configs", cwd=tmp_path).splitlines()
    assert len(listed) == len(list((REPOSITORY / "configs").glob("*.py"))) + 1
    for name in ("k400_tsn", "configs/k400_slowfast.py:4x16"):  # which read their siblings
        run(installed / "dnr", "train", f"--config={name}", "--fields", cwd=tmp_path)
    flags = [f"--config.{field}={value}" for field, value in TINY.items()]
    trained = run(installed / "dnr", "train", "--config=demo:bn", *flags, cwd=tmp_path)
    assert re.match(r"configuration +/.*/dnr_jax/_shipped/configs/demo.py:bn\n", trained)
    assert re.fullmatch(r"validation top-1 \d+\.\d% \(\d+/\d+ videos\)", trained.splitlines()[-1])
    video = next((tmp_path / "videos").rglob("*.mp4"))
    labels = run(installed / "dnr", "predict", "--workdir", "runs/demo_bn", "--top", "2", video, cwd=tmp_path)
    assert len(re.findall(r"^ +\d+\.\d%  \w+", labels, re.MULTILINE)) == 2
