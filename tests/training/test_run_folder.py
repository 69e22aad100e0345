"""What belongs to a run: its classes, its videos, its folder. Whatever moved since is found again or refused."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from dnr_jax.config import ConfigError, RunError, to_json
from dnr_jax.data.catalogue.sources import Lists
from dnr_jax.evaluation.evaluate import Report
from dnr_jax.evaluation.videos import open_data
from dnr_jax.runs import folder as run
from dnr_jax.runs.devices import make_mesh
from dnr_jax.runs.folder import METRICS_FILE, load_run, read_metrics, run_folder, saved_classes
from dnr_jax.runs.lock import LOCK_FILE, locked
from dnr_jax.training.hooks import Hook
from dnr_jax.training.resolve import Saved, resolve
from dnr_jax.training.trainer import Trainer
from tests.paths import REPOSITORY
from tests.training.tiny import opened, tiny_config, train


def short_config(videos, **train):
    return tiny_config(videos, **{"steps": 2, "eval_every": 1} | train)


@pytest.fixture(scope="module")
def finished(videos, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished")
    train(short_config(videos), workdir)
    return workdir


def begin(config, workdir) -> Trainer:
    """Open a run, and leave it where it would train."""
    with opened(config, workdir) as trainer:
        return trainer


class FullDisk(Hook):
    """Stands for a file that cannot be written."""

    def start(self, trainer: Trainer) -> None:
        raise OSError(28, "No space left on device")


@pytest.fixture
def moved(videos, tmp_path) -> pathlib.Path:
    """A copy of the videos, elsewhere."""
    return pathlib.Path(shutil.copytree(videos, tmp_path / "moved"))


@pytest.fixture
def workdir(finished, tmp_path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(finished, tmp_path / "run"))


def files(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def lists(videos: pathlib.Path, folder: pathlib.Path, classes: list[str]) -> Lists:
    """Lists of the videos with numbers as labels, and the label map."""
    folder.mkdir()
    (folder / "map.txt").write_text("\n".join(classes))
    for split in ("train", "val"):
        found = sorted(path.relative_to(videos) for path in (videos / split).rglob("*.mp4"))
        lines = [f"{path} {classes.index(path.parent.name)}" for path in found]
        (folder / f"{split}.txt").write_text("\n".join(lines))
    return Lists(str(videos), *(str(folder / name) for name in ("train.txt", "val.txt", "map.txt")))


def mesh():
    return make_mesh(jax.devices()[:1])


def test_classes_that_were_renamed_are_refused_and_nothing_changes(workdir, moved):
    for split in ("train", "val"):
        (moved / split / "dark").rename(moved / split / "night")
    before = files(workdir)
    with pytest.raises(ConfigError, match=r"not those of .*show 'night', .* 3 classes: 'dark', 'grey', 'light'"):
        train(short_config(moved), workdir)
    assert files(workdir) | {LOCK_FILE: b""} == before | {LOCK_FILE: b""}


def test_a_class_that_was_added_is_refused(workdir, moved):
    (moved / "train" / "black").mkdir()
    shutil.copy(next((moved / "train" / "dark").iterdir()), moved / "train" / "black" / "a.mp4")
    with pytest.raises(ConfigError, match="its videos show 'black', which is none of the 3 classes"):
        train(short_config(moved), workdir)


def test_a_run_goes_on_with_data_that_was_moved(workdir, moved):
    assert begin(short_config(moved), workdir).step == 2
    saved = Saved(workdir, {"classes": ["dark", "grey", "light"]})
    assert resolve(short_config(moved), saved).training.paths[0] == str(moved / "train" / "dark" / "00.mp4")
    assert json.loads((workdir / "config.json").read_text())["data"]["source"]["root"] == str(moved)


def test_classes_in_another_order_are_found_by_name(moved, tmp_path):
    config = short_config(moved)
    config.data.source = lists(moved, tmp_path / "one", ["dark", "grey", "light"])
    first = resolve(config)
    config.data.source = lists(moved, tmp_path / "other", ["light", "dark", "grey"])
    plain = resolve(config)
    assert plain.training.classes != first.training.classes
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(to_json(first.config))
    second = resolve(config, Saved(tmp_path / "run", first.contents))
    for one, other in ((first.training, second.training), (first.validation, second.validation)):
        assert one.labels.tolist() == other.labels.tolist() and one.classes == other.classes


def test_other_training_videos_are_refused_and_other_validation_videos_told(workdir, moved, caplog):
    next((moved / "val" / "dark").iterdir()).unlink()
    begin(short_config(moved), workdir)
    assert "the validation videos are not those of the run before" in caplog.text
    next((moved / "train" / "dark").iterdir()).unlink()
    with pytest.raises(ConfigError, match=r"began with 12, and now there are 11\. .*--config.init_from="):
        begin(short_config(moved), workdir)


def test_validations_of_other_videos_do_not_rank_with_those_of_now(workdir, moved):
    for metrics in workdir.glob("checkpoints/*/metrics/metrics"):
        metrics.write_text('{"top1": 2.0}')  # better than any of now
    before = read_metrics(workdir / METRICS_FILE)
    for number in range(3):  # named otherwise, so that they are others
        for video in (moved / "val").rglob(f"{number:02d}.mp4"):
            video.rename(video.with_name(f"new_{video.name}"))
    config = short_config(moved)
    config.train.steps = 4
    train(config, workdir)
    after = read_metrics(workdir / METRICS_FILE)
    marks = [row["fingerprint"] for row in after if row["kind"] == "validation"]
    assert len(set(marks)) == 2 and after[: len(before)] == before
    assert load_run(workdir, mesh(), "best").step in (3, 4)


def test_a_classifier_wider_than_the_data_names_is_refused(videos, tmp_path):
    config = short_config(videos)
    config.model.num_classes = 5
    with pytest.raises(ConfigError, match="is 5, but the data names 3 classes: 'dark', 'grey', 'light'"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_classes_called_by_number_may_be_fewer_than_the_classifier_has(moved, tmp_path):
    config = short_config(moved, steps=1)
    config.model.num_classes = 5
    config.data.source = lists(moved, tmp_path / "lists", ["dark", "grey", "light"])
    config.data.source.label_map = ""
    report = train(config, tmp_path / "run")
    assert report.classes == ("0", "1", "2", "3", "4") and report.scores.shape == (7, 5)
    assert load_run(tmp_path / "run", mesh()).classes == report.classes


def test_names_of_classes_come_with_the_checkpoint(workdir, videos, caplog):
    (workdir / "classes.txt").write_text("a\nb\nc\n")
    assert load_run(workdir, mesh()).classes == ("dark", "grey", "light")
    begin(short_config(videos), workdir)
    assert "classes.txt does not name the classes as the checkpoints do" in caplog.text
    assert (workdir / "classes.txt").read_text() == "a\nb\nc\n"
    (workdir / "classes.txt").unlink()
    assert load_run(workdir, mesh()).classes == ("dark", "grey", "light")


def test_names_of_older_runs_are_those_of_their_file(tmp_path):
    with pytest.raises(ConfigError, match="holds no classes.txt"):
        saved_classes(tmp_path, {}, 2)
    (tmp_path / "classes.txt").write_text("a\nb\n")
    assert saved_classes(tmp_path, {}, 2) == ("a", "b")
    with pytest.raises(ConfigError, match="names 2 classes, but the network tells 3 apart"):
        saved_classes(tmp_path, {}, 3)


def test_data_to_evaluate_is_found_by_name(workdir, moved, tmp_path):
    trained = load_run(workdir, mesh())
    shutil.rmtree(moved / "train")
    shutil.rmtree(moved / "val" / "dark")
    source = open_data(trained, paths={"root": str(moved)})
    assert source.classes == trained.classes and sorted(set(source.labels.tolist())) == [1, 2]
    (moved / "train").mkdir()
    made = lists(moved, tmp_path / "lists", ["light", "grey", "dark"])
    source = open_data(trained, paths={"val_list": made.val_list, "label_map": made.label_map})
    assert [source.classes[label] for label in source.labels] == [name.split("/")[1] for name in source.names]
    trained.config.data.source.label_map = ""
    with pytest.raises(ConfigError, match="'0', '1', which is none of the 3 classes.*label map"):
        open_data(trained)
    with pytest.raises(ConfigError, match="leave out --split"):
        open_data(trained, "test", paths={"val_list": made.val_list})
    with pytest.raises(ConfigError, match="no such folder; .* --root, --list, .* say where"):
        open_data(trained, "test", "Folder")


def test_a_run_started_with_relative_paths_is_loaded_from_anywhere(workdir, videos, tmp_path, monkeypatch):
    monkeypatch.chdir(videos.parent)
    train(short_config(videos.name), workdir)
    monkeypatch.chdir(tmp_path)
    assert len(open_data(load_run("run", mesh()))) == 7
    train(short_config(os.path.relpath(videos)), "run")


def test_two_processes_do_not_train_in_one_folder(workdir, videos):
    with locked(workdir), pytest.raises(ConfigError) as refused:
        train(short_config(videos), workdir)
    message = str(refused.value)
    assert f"is in use: process {os.getpid()} on " in message and "choose another --workdir" in message
    with locked(workdir):
        (workdir / LOCK_FILE).write_text("")
        with pytest.raises(ConfigError, match="is in use: another process trains"), locked(workdir):
            pass
        assert load_run(workdir, mesh()).step == 2  # reading needs no lock


def test_a_killed_process_holds_no_lock(tmp_path):
    program = "import os, pathlib, sys; from dnr_jax.runs.lock import locked\n"
    program += "with locked(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    killed = subprocess.run([sys.executable, "-c", program, tmp_path], cwd=REPOSITORY, timeout=60)
    assert killed.returncode == -9
    assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] != os.getpid()
    with locked(tmp_path):
        pass


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, caplog):
    def refuse(*args):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("filelock._unix.lock_fd_nonblocking", refuse)
    with locked(tmp_path):
        pass
    assert "has no locks" in caplog.text


def test_a_folder_that_cannot_be_one_is_refused(tmp_path, videos):
    (tmp_path / "file").write_text("")
    for train_or_load in (lambda w: train(short_config(videos), w), lambda w: load_run(w, mesh())):
        with pytest.raises(ConfigError, match="is a file; expected the folder of a run"):
            train_or_load(tmp_path / "file")
        with pytest.raises(ConfigError, match="'gs://bucket/run' is in remote storage"):
            train_or_load("gs://bucket/run")
    with pytest.raises(ConfigError, match="nothing can be written to '/proc/run'"):
        train(short_config(videos), "/proc/run")
    assert run_folder("~") == pathlib.Path.home()


@pytest.mark.parametrize("text", ["", '{"model": {"na', "[]", '{"modle": {}}', "\udcff"])
def test_a_damaged_configuration_is_a_sentence(text, workdir, videos):
    (workdir / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    for act in (lambda: load_run(workdir, mesh()), lambda: train(short_config(videos), workdir)):
        with pytest.raises(ConfigError, match="config.json"):
            act()


def test_a_run_killed_before_its_first_checkpoint_starts_again(workdir, videos):
    shutil.rmtree(workdir / "checkpoints")
    (workdir / "config.json").write_text("{")
    assert begin(short_config(videos), workdir).step == 0
    assert json.loads((workdir / "config.json").read_text())["model"]["num_classes"] == 3


@pytest.mark.parametrize("part", ["variables", "progress", "variables/_METADATA"])
def test_a_damaged_checkpoint_is_a_sentence_and_names_the_other(part, workdir, videos):
    shutil.copytree(workdir / "checkpoints" / "2", workdir / "checkpoints" / "3")
    damaged = workdir / "checkpoints" / "3" / part
    shutil.rmtree(damaged) if damaged.is_dir() else damaged.unlink()
    for act in (lambda: load_run(workdir, mesh()), lambda: train(short_config(videos, steps=4), workdir)):
        with pytest.raises(ConfigError, match=r"checkpoints/3' cannot be read.*the checkpoint of step 2 is taken"):
            act()


def test_a_damaged_optimizer_stops_training_alone(workdir, videos):
    shutil.rmtree(workdir / "checkpoints" / "2" / "optimizer")
    assert load_run(workdir, mesh()).step == 2
    with pytest.raises(ConfigError, match="checkpoints/2' cannot be read"):
        train(short_config(videos, steps=4), workdir)


def test_a_checkpoint_that_gives_way_to_a_newer_one_is_no_damage(workdir, monkeypatch):
    """As it happens where a run is evaluated while it is trained."""
    restore = run.Checkpoints.restore_variables

    def late(checkpoints, abstract, step):
        if step == 2:
            (workdir / "checkpoints" / "2").rename(workdir / "checkpoints" / "3")
            raise ConfigError("gone")
        return restore(checkpoints, abstract, step)

    monkeypatch.setattr(run.Checkpoints, "restore_variables", late)
    assert load_run(workdir, mesh()).step == 3


def test_checkpoints_without_their_configuration_are_refused(workdir, videos):
    (workdir / "config.json").unlink()
    with pytest.raises(ConfigError, match="holds no config.json"):
        train(short_config(videos), workdir)


def test_a_checkpoint_of_another_network_is_a_sentence(workdir):
    text = (workdir / "config.json").read_text()
    (workdir / "config.json").write_text(text.replace('"num_classes": 3', '"num_classes": 4'))
    with pytest.raises(ConfigError, match="names 3 classes, but the network tells 4 apart"):
        load_run(workdir, mesh())


@pytest.mark.slow
def test_too_many_broken_videos_leave_a_checkpoint(moved, tmp_path):
    """From which the run goes on as if it had never met the limit."""
    next((moved / "train" / "dark").iterdir()).write_bytes(b"broken")
    config = short_config(moved, steps=20, eval_every=20)
    config.data.max_failures = 0.01
    with pytest.raises(RunError, match=r"could not be decoded: .*The checkpoint of step \d+ is complete: the same"):
        train(config, tmp_path / "run")
    config.data.max_failures = 1.0
    for workdir in ("run", "whole"):
        train(config, tmp_path / workdir)
    one, other = (read_metrics(tmp_path / workdir / METRICS_FILE) for workdir in ("run", "whole"))
    assert len(one) == 11
    assert [row | {"time": 0} for row in one] == [row | {"time": 0} for row in other]


def test_a_file_that_cannot_be_written_ends_the_run_with_what_is_left(workdir, videos):
    with pytest.raises(RunError, match=r"No space left on device\. The checkpoint of step 2 is complete"):
        train(short_config(videos), workdir, FullDisk())


def test_the_result_is_printed_before_files_are_written(workdir, videos, capsys):
    report = Report(np.eye(3, dtype=np.float32), np.arange(3), ("a", "b", "c"), ("dark", "grey", "light"))
    (workdir / "evaluation.json").unlink()
    (workdir / "evaluation.json").mkdir()
    with pytest.raises(RunError, match="evaluation.json"), opened(short_config(videos), workdir) as trainer:
        trainer.evaluate = lambda variables, evaluation: report
        trainer.run()
    assert capsys.readouterr().out.splitlines()[-1] == "validation top-1 100.0% (3/3 videos)"
