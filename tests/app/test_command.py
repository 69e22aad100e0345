"""dnr app and dnr export --space as they are typed, without a server and without gradio."""

import os
import sys
import types

import pytest

pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")

from dnr_jax import cli
from dnr_jax.app import answers, command, page, space
from dnr_jax.config import ConfigError
from dnr_jax.evaluation import predict
from dnr_jax.runs import devices, folder
from dnr_jax.serve.decoding import Limits
from tests.explain.colours import colours_run


@pytest.fixture(autouse=True)
def no_cache_setting(monkeypatch):
    monkeypatch.setattr(devices, "enable_compilation_cache", lambda: None)


@pytest.fixture
def started(monkeypatch) -> list:
    """Stub gradio, network, page and server; return what they were started with."""
    found = []
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")  # is put back afterwards
    monkeypatch.setitem(sys.modules, "gradio", types.ModuleType("gradio"))
    stub = types.SimpleNamespace(run="the run")
    monkeypatch.setattr(predict, "Predictor", lambda run, checkpoint: found.append((run, checkpoint)) or stub)
    monkeypatch.setattr(command, "find_clips", lambda *settings: found.append(settings) or (None, "why"))
    monkeypatch.setattr(answers, "Answers", lambda *settings: settings)
    monkeypatch.setattr(page, "create_app", lambda *settings: settings)

    def listen(*settings) -> int:
        found.append((settings, os.path.isdir(os.environ["GRADIO_TEMP_DIR"])))
        return 0

    monkeypatch.setattr(command, "listen", listen)
    return found


def test_it_is_shown_on_this_machine_alone(started):
    assert cli.main(["app", "runs/mine"]) == 0
    network, clips, ((name, app, host, port, _), uploads_have_a_folder) = started
    assert network == ("runs/mine", "latest") and clips == ("the run", None, None)
    assert (name, host, port) == ("dnr app", "127.0.0.1", 7860) and uploads_have_a_folder
    assert not os.path.exists(os.environ["GRADIO_TEMP_DIR"])  # uploads do not stay behind
    (_, limits, none, why), same, prefix = app
    assert (none, why, prefix) == (None, "why", "") and limits == same
    assert (limits.megabytes, limits.duration, limits.seconds) == (100, 600, 30)


def test_flags_are_handed_on(started):
    flags = "--checkpoint best --host 0.0.0.0 --port 9 --root-path /x --similar 0 --root videos --max-megabytes 1.5"
    assert (
        cli.main(["app", "runs/mine", *flags.split(), "--max-duration", "2", "--timeout", "3", "--readers", "5"]) == 0
    )
    network, clips, ((_, app, host, port, _), _) = started
    assert network == ("runs/mine", "best") and clips == ("the run", 0, "videos")
    assert (host, port, app[2]) == ("0.0.0.0", 9, "/x")
    assert app[1] == Limits(megabytes=1.5, duration=2, seconds=3, readers=5)


def test_it_is_never_shared_through_another_host(started, capsys):
    with pytest.raises(SystemExit):
        cli.main(["app", "runs/mine", "--share"])
    assert "there is no flag --share" in capsys.readouterr().err


def test_a_missing_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert cli.main(["app", "runs/mine"]) == 2
    assert "pip install 'dnr-jax[app]'" in capsys.readouterr().err


@pytest.fixture
def run(tmp_path):
    """A run of which there are files, but no network in them."""
    made = colours_run()
    object.__setattr__(made, "workdir", tmp_path / "my: run")
    for name in (
        "config.json",
        "classes.txt",
        "metrics.jsonl",
        "checkpoints/0/variables/d",
        "checkpoints/0/optimizer/d",
    ):
        file = made.workdir / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    (made.workdir / "checkpoints/9").mkdir()
    return made


def test_a_space_has_the_run_and_what_starts_it(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(folder, "load_run", lambda workdir, mesh, checkpoint: run)
    monkeypatch.setattr(space, "find_clips", lambda run, count, root: (None, ""))
    out = tmp_path / "space"
    (out / ".git").mkdir(parents=True)
    (out / "run").mkdir()
    (out / "run/config.json").write_text("of a former run")
    (out / "run/old").write_text("")
    assert cli.main(["export", "--workdir", "runs/mine", "--space", str(out)]) == 0
    names = ("app.py", "requirements.txt", "README.md", "run")
    assert capsys.readouterr().out.split("\n")[:-1] == [f"wrote {out / name}" for name in names]
    assert {path.name for path in out.iterdir()} == {".git", *names}
    files = {str(path.relative_to(out / "run")) for path in (out / "run").rglob("*") if path.is_file()}
    assert files == {"config.json", "classes.txt", "checkpoints/0/variables/d"}
    header = (out / "README.md").read_text().split("---\n")[1].splitlines()
    assert "sdk: gradio" in header and "app_file: app.py" in header and "title: Labels for videos - my - run" in header
    assert (out / "requirements.txt").read_text().startswith("dnr-jax[app]==")
    words = []
    monkeypatch.setattr(cli, "main", lambda given: words.extend(given) or 0)
    program, names = (out / "app.py").read_text(), {"__file__": str(out / "app.py")}
    exec(program, names | {"__name__": "__mp_main__"})  # as processes import it that are spawned
    assert not words
    with pytest.raises(SystemExit):
        exec(program, names | {"__name__": "__main__"})
    args = cli._parser().parse_args(words)
    assert (args.workdir, args.host, args.port) == (str(out / "run"), "0.0.0.0", 7860)


def test_a_folder_that_is_no_run_is_left_alone(run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/thesis").write_text("")
    with pytest.raises(ConfigError, match="is there and is no run; choose another folder"):
        space.write_space(run, tmp_path)
    assert (tmp_path / "run/thesis").exists() and not (tmp_path / "app.py").exists()


def test_a_run_that_was_trained_there_is_left_alone(run, tmp_path):
    """As ``run`` in the folder where somebody trains: its optimizer and its records would be gone."""
    (tmp_path / "run").mkdir()
    for name in ("config.json", "metrics.jsonl"):
        (tmp_path / "run" / name).write_text("")
    with pytest.raises(ConfigError, match="is a run that was made there, and would be replaced"):
        space.write_space(run, tmp_path)
    assert (tmp_path / "run/metrics.jsonl").exists() and not (tmp_path / "app.py").exists()


@pytest.mark.parametrize("flags", ["--forms onnx", "--weights bfloat16", "--measure"])
def test_a_space_is_no_program(flags, capsys):
    assert cli.main(["export", "--workdir", "runs/mine", "--space", "x", *flags.split()]) == 2
    assert "leave out --forms, --weights and --measure" in capsys.readouterr().err
