import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from dnr_jax import cli, train_command
from dnr_jax.config import list_configs
from dnr_jax.evaluation import evaluate, outputs
from dnr_jax.models import zoo
from dnr_jax.runs import devices
from dnr_jax.runs import folder as run
from dnr_jax.training import loop
from tests.paths import REPOSITORY
from tests.training import tiny

pytestmark = pytest.mark.compat


@pytest.fixture(scope="module", autouse=True)
def tiny_models():
    cache = jax.config.jax_compilation_cache_dir
    with tiny.known():
        yield
    jax.config.update("jax_compilation_cache_dir", cache)


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> pathlib.Path:
    return tiny.write_videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def workdir(videos, tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("run")
    loop.train(tiny.tiny_config(videos, batch_size=8), folder, mesh=devices.make_mesh(jax.devices()[:4]))
    return folder


def test_evaluate_ends_with_the_line_and_writes_the_report(workdir, capsys):
    assert cli.main(["evaluate", "--workdir", str(workdir), "--views", "2x3", "--batch-size", "3"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "latest checkpoint, step 8, views 2x3 of 16"
    assert re.fullmatch(r"loss \d+\.\d{3}", out[2])
    assert re.fullmatch(r"top-5 100.0%, mean class accuracy \d+\.\d%", out[1])
    assert re.fullmatch(r"validation top-1 \d+\.\d% \(\d/7 videos\)", out[-1])
    written = json.loads((workdir / "evaluation.json").read_text())
    assert (written["views"], written["checkpoint"], written["videos"]) == ("2x3 of 16", "latest", 7)
    assert {file for file in outputs.FILES if not (workdir / file).is_file()} == set()


def test_evaluate_takes_other_data_by_name_and_prints_what_it_cannot_write(workdir, videos, tmp_path, capsys):
    """Only two of the classes are there, in folders that sort otherwise, and the report has no place."""
    shutil.copytree(videos / "val", tmp_path / "moved" / "test")
    shutil.rmtree(tmp_path / "moved" / "test" / "dark")
    where = ["--root", str(tmp_path / "moved"), "--split", "test", "--source", "Folder"]
    assert cli.main(["evaluate", "--workdir", str(workdir), *where, "--out", "/proc/none"]) == 1
    captured = capsys.readouterr()
    assert re.fullmatch(r"validation top-1 \d+\.\d% \(\d/4 videos\)", captured.out.splitlines()[-1])
    assert "nothing can be written to '/proc/none'" in captured.err


def test_evaluate_refuses_classes_that_the_run_does_not_have(workdir, videos, tmp_path, capsys):
    shutil.copytree(videos / "val", tmp_path / "val")
    (tmp_path / "val" / "dark").rename(tmp_path / "val" / "night")
    assert cli.main(["evaluate", "--workdir", str(workdir), "--root", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "its videos show 'night', which is none of the 3 classes: 'dark', 'grey', 'light'" in line


def test_a_report_that_cannot_be_written_is_told_behind_the_result(workdir, tmp_path, monkeypatch, capsys):
    report = evaluate.Report(np.eye(3, dtype=np.float32), np.arange(3), ("a", "b", "c"), ("dark", "grey", "light"))
    monkeypatch.setattr(evaluate, "evaluate", lambda *args, **kwargs: report)
    (tmp_path / "evaluation.json").mkdir()
    assert cli.main(["evaluate", "--workdir", str(workdir), "--out", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == "validation top-1 100.0% (3/3 videos)"
    assert f"not all of the report can be written (Is a directory): {tmp_path / 'evaluation.json'}" in captured.err
    assert {file for file in outputs.FILES if not (tmp_path / file).is_file()} == {"evaluation.json"}


def test_the_report_on_other_data_does_not_replace_that_of_the_run(workdir, tmp_path, monkeypatch, capsys):
    report = evaluate.Report(np.eye(3, dtype=np.float32), np.arange(3), ("a", "b", "c"), ("dark", "grey", "light"))
    monkeypatch.setattr(evaluate, "evaluate", lambda *args, **kwargs: report)
    (workdir / "evaluation.json").write_text("mine")
    assert cli.main(["evaluate", "--workdir", str(workdir), "--split", "train"]) == 0
    (folder,) = workdir.glob("evaluation_train_*")
    assert capsys.readouterr().out.splitlines()[-2] == f"its files are in {folder}"
    assert {file for file in outputs.FILES if not (folder / file).is_file()} == set()
    assert (workdir / "evaluation.json").read_text() == "mine"
    assert cli.main(["evaluate", "--workdir", str(workdir)]) == 0
    assert (workdir / "evaluation.json").read_text() != "mine"


def test_profile_prints_a_table_of_the_network_of_a_config(capsys):
    assert cli.main(["profile", "--config", str(REPOSITORY / "configs/demo.py"), "--size", "16", "--repeats", "0"]) == 0
    header, bn, dnr = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["network", "norms", "clip"]
    assert [line.split()[:7] for line in (bn, dnr)] == [["TSN", kind, *"8 x 16 x 16".split()] for kind in ("BN", "DNR")]


@pytest.mark.slow
def test_profile_of_all_networks_has_each_of_them(capsys, monkeypatch):
    few = {name: zoo.zoo()[name] for name in ("tsn_r18", "tsn_r34")}
    monkeypatch.setattr(zoo, "zoo", lambda: few)
    assert cli.main(["profile", "--all", "--size", "32", "--repeats", "0", "--markdown"]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| tsn_r18"] * 2 + ["| tsn_r34"] * 2


def test_profile_refuses_a_network_that_cannot_be_built(tmp_path, capsys):
    file = tmp_path / "odd.py"
    text = (REPOSITORY / "configs/demo.py").read_text()
    file.write_text(text.replace("depth=18", "depth=19"))
    assert cli.main(["profile", "--config", str(file)]) == 2
    assert "model.depth: is 19" in capsys.readouterr().err


def test_predict_labels_what_it_can_and_names_what_it_cannot(workdir, videos, tmp_path, capsys):
    broken, good = tmp_path / "broken.mp4", videos / "val" / "dark" / "00.mp4"
    broken.write_bytes(b"no video")
    assert cli.main(["predict", "--workdir", str(workdir), "--top", "2", str(broken), str(good)]) == 1
    captured = capsys.readouterr()
    assert "cannot decode" in captured.err
    assert str(broken) in captured.err
    lines = captured.out.splitlines()
    assert lines[0] == str(good)
    assert [bool(re.fullmatch(r" +\d+\.\d%  (dark|grey|light)", line)) for line in lines[1:]] == [True, True]
    assert cli.main(["predict", "--workdir", str(workdir), str(good)]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluat"], "there is no 'evaluat' (did you mean evaluate?)"),
        (["trian"], "there is no 'trian' (did you mean train?)"),
        (["evaluate"], "the following arguments are required: --workdir"),
        (["evaluate", "--workdr", "w"], "there is no flag --workdr (did you mean --workdir?)"),
        (["evaluate", "--workdir", "w", "more"], "'more' is one argument too many"),
        (["evaluate", "--workdir="], "--workdir: is empty; expected a path"),
        (["predict", "--workdir", "w", "--checkpoint=last", "a"], "there is no 'last' (did you mean latest?)"),
        (["check"], "the following arguments are required: NAME|DIR"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_arguments_that_are_not_understood_are_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as refused:
        cli.main(arguments)
    assert refused.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_every_path_of_the_command_line_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    parse = cli._parser().parse_args
    predict = parse(["predict", "--workdir", "~/w/", "~/a b.mp4", "file:///b%20c.mp4", "2021-05-03T12:30:00.mp4"])
    assert predict.workdir == "/home/me/w"
    assert predict.videos == ["/home/me/a b.mp4", "/b c.mp4", "2021-05-03T12:30:00.mp4"]
    for words in (
        ["export", "--workdir", "~/x", "--out", "~/x"],
        ["convert", "~/x", "~/x", "--config", "~/x"],
        ["profile", "--config", "~/x"],
        ["predict", "--workdir", "~/x", "--burn", "~/x"],
        ["check", "~/x", "--report", "~/x", "--root", "~/x", "--annotations", "~/x"],
        ["prepare", "list", "--root", "~/x", "--out", "~/x"],
    ):
        assert list(vars(parse(words)).values()).count("/home/me/x") == words.count("~/x")


def test_help_tells_which_checkpoint_is_taken_and_how_a_command_ends(capsys):
    for command in ("evaluate", "predict", "export", "convert"):
        with pytest.raises(SystemExit) as ended:
            cli.main([command, "--help"])
        assert ended.value.code == 0
        assert "latest (default)" in (text := capsys.readouterr().out) and "flatters" in text
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert "exit status:" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out.startswith("dnr_jax ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "--workdir", "w", "--out", "gs://b/x"], "--out is gs://b/x; expected a folder on a local disk"),
        (["export", "--workdir", "w", "--out", "{here}/file"], "a file; expected a folder"),
        (["prepare", "folder", "--root", "{here}/videos", "--out", "{here}"], "It holds 2 folders (jump, run)"),
        (["profile", "--config", "{here}"], "is a folder; expected a config file"),
        (["profile", "--config", "{here}/none.py"], "there is no config file"),
    ],
)
def test_paths_that_cannot_be_used_are_one_line(arguments, message, tmp_path, capsys):
    (tmp_path / "file").touch()
    for name in ("jump", "run"):
        (tmp_path / "videos" / name).mkdir(parents=True)
    assert cli.main([word.format(here=tmp_path) for word in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message.format(here=tmp_path) in line


def test_an_interrupted_command_is_one_line(monkeypatch, capsys):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "load_run", interrupted)
    assert cli.main(["evaluate", "--workdir", "w"]) == 130
    assert capsys.readouterr().err == "dnr evaluate: interrupted\n"


@pytest.mark.parametrize("command", [["evaluate"], ["predict", "a.mp4"]])
def test_a_missing_run_is_one_line(command, tmp_path, capsys):
    assert cli.main([*command, "--workdir", str(tmp_path / "none")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "there is no folder" in line


def test_missing_data_is_one_line(workdir, videos, tmp_path, capsys):
    for name in ("checkpoints", "classes.txt"):
        (tmp_path / name).symlink_to(workdir / name)
    text = (workdir / "config.json").read_text().replace(str(videos), "/nowhere/videos")
    (tmp_path / "config.json").write_text(text)
    assert cli.main(["evaluate", "--workdir", str(tmp_path)]) == 2
    said = capsys.readouterr().err.splitlines()
    stages = ("importing", "loading")  # on a slow machine, it says what it is at
    (line,) = [line for line in said if not line.startswith(("WARNING:absl:Grain", *stages))]  # of an older jaxlib
    assert "/nowhere/videos" in line


@pytest.mark.parametrize("crops", [1, 3, 10])
def test_views_have_as_many_crops_as_the_configuration_allows(crops, workdir, capsys):
    assert cli.main(["evaluate", "--workdir", str(workdir), "--views", f"1x{crops}"]) == 0
    assert f"views 1x{crops} of 16" in capsys.readouterr().out
    assert json.loads((workdir / "evaluation.json").read_text())["views"] == f"1x{crops} of 16"


@pytest.mark.parametrize("views", ["3", "10x2", "10x100", "0x1", "x"])
def test_views_that_make_no_sense_are_refused(views, capsys):
    with pytest.raises(SystemExit) as refused:
        cli.main(["evaluate", "--workdir", "w", "--views", views])
    assert refused.value.code == 2
    assert "CLIPSxCROPS" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["-h"], ["--config.data.mean=(1.0, 2, 3)", "--", "x", ""], []])
def test_the_words_behind_train_are_left_to_it(words, monkeypatch):
    calls = []
    monkeypatch.setattr(train_command, "main", lambda *call: calls.append(call) or 3)
    assert cli.main(["train", *words]) == 3
    assert calls == [("dnr train", words)]


def test_configs_are_listed_a_line_each(capsys):
    assert cli.main(["configs"]) == 0
    *lines, advice = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(list_configs())
    assert lines[0].endswith(
        "  Demo: generated videos whose classes come in pairs that differ only in the order of time. "
        "Minutes on two cores."
    )
    assert "dnr train --config=NAME" in advice


def test_the_module_is_the_command(tmp_path):
    command = [sys.executable, "-m", "dnr_jax", "train", "--config=demo:bn", "--config.train.step=1"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert done.stderr.startswith("dnr train: --config.train.step: no field 'train.step' (did you mean 'steps'?)")


def test_train_explains_itself(tmp_path):
    done = train("-h", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: python train.py")
    assert all(word in done.stdout for word in ("--print_config", "own_videos", "--checkpoint best", "exit status:"))


def train(*arguments: str, cwd: pathlib.Path) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(REPOSITORY / "train.py"), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def test_train_refuses_a_typo_without_a_traceback(tmp_path):
    done = train("--config.optimizer.learning_rat=0.1", "--config.train.steps=few", cwd=tmp_path)
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert "did you mean 'learning_rate'?" in first
    assert "expected a whole number" in second


def test_train_checks_the_config_before_anything_else(tmp_path):
    done = train(
        "--config=configs/own_videos.py:bn", "--config.data.source.root=none", "--config.model.depth=19", cwd=tmp_path
    )
    assert done.returncode == 2
    assert [line.partition(":")[0] for line in done.stderr.removeprefix("train.py: ").splitlines()] == [
        "model.depth",
        "data.source.root",
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_train_runs_from_any_folder_with_overrides_and_workers(videos, tmp_path):
    """The real network and entry point; workers import ``train.py`` again."""
    changes = {
        "model.width": 4,
        "data.source.root": videos,
        "data.short_side": 0,
        "data.crop_size": 16,
        "data.sampler.num_frames": 4,
        "data.num_workers": 1,
        "data.mean": "(127.0, 127.0, 127.0)",
        "train.steps": 2,
        "train.eval_every": 2,
        "train.log_every": 1,
    }
    overrides = [f"--config.{field}={value}" for field, value in changes.items()]
    arguments = ["--config=configs/own_videos.py:bn", *overrides, "--config.data.crop=CenterCrop", "--noreport"]
    done = train(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"validation top-1 \d+\.\d% \(\d/7 videos\)", done.stdout.splitlines()[-1])
    saved = json.loads((tmp_path / "runs" / "own_videos_bn" / "config.json").read_text())
    assert (saved["model"]["width"], saved["model"]["norm"]["norm1"]) == (4, "static")
    assert (saved["data"]["crop"], saved["data"]["mean"]) == ({"class": "CenterCrop"}, [127.0, 127.0, 127.0])
    assert saved["model"]["num_classes"] == 3
