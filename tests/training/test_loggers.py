"""What runs hand to TensorBoard, Weights & Biases and MLflow, and what happens where these fail."""

import importlib.util
import json
import sqlite3
from types import SimpleNamespace

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.config import ConfigError, ExperimentConfig, override
from dnr_jax.evaluation.evaluate import Report
from dnr_jax.runs.state import TrainState
from dnr_jax.training import loggers
from dnr_jax.training.hooks import Row
from dnr_jax.training.loggers import LOGGERS, Logger, Loggers, check_loggers, clips_seen, confusion_picture
from dnr_jax.training.mix import draw_mixture
from tests.training.tiny import tiny_config, train

ROW = Row("train", 2, {"loss": 0.5, "accuracy": 0.25}, {"seconds": 1.5})
REPORT = Report(np.float32([[0.9, 0.1], [0.8, 0.2]]), np.int32([0, 1]), ("a", "b"), ("left", "right"))


class Memory(Logger):
    """Keeps what it is given."""

    def __init__(self):
        self.scalar, self.pictures, self.closed = {}, {}, 0

    def scalars(self, step, values):
        self.scalar |= {(name, step): value for name, value in values.items()}

    def picture(self, step, name, pixels):
        self.pictures[name, step] = pixels

    def close(self):
        self.closed += 1


def trainer_at(step: int = 0, **train):
    """What loggers look at of a trainer."""
    state = TrainState(jax.numpy.int32(step), {}, {}, (), jax.random.key(0))
    return SimpleNamespace(step=step, state=state, evaluated={}, config=tiny_config("", **train), model=None)


class Maps:
    """Stands in for what draws relays: a picture of the mean of the clips, whatever the network."""

    def __init__(self, model, config):
        self.drawn = 0

    def draw(self, variables, clips):
        return cv2.imencode(".png", np.full((2, 2, 3), round(clips.mean()), np.uint8))[1].tobytes()


@pytest.fixture(autouse=True)
def maps(monkeypatch):
    monkeypatch.setattr(loggers, "RelayMaps", Maps)


def batch(clips: int, frames: int) -> dict[str, np.ndarray]:
    video = np.random.default_rng(0).integers(0, 256, (clips, frames, 4, 6, 3), np.uint8)
    return {"video": video, "weight": np.ones(clips, np.float32)}


def test_a_logger_gets_rows_and_pictures_by_name():
    memory, read = Memory(), batch(2, 3)
    hook = Loggers({"memory": lambda: memory})
    hook.start(trainer_at())
    hook.before_step(trainer_at(), read)
    hook.before_step(trainer_at(1), read)
    hook.after_row(trainer_at(2), ROW)
    hook.after_evaluation(trainer_at(2), REPORT)
    hook.close()
    hook.close()
    assert memory.scalar == {("train/loss", 2): 0.5, ("train/accuracy", 2): 0.25, ("train/seconds", 2): 1.5}
    assert set(memory.pictures) == {("clips", 0), ("confusion", 2), ("relays", 2)} and memory.closed == 1
    assert (memory.pictures["relays", 2] == round(read["video"].mean())).all()
    np.testing.assert_array_equal(memory.pictures["clips", 0], clips_seen(trainer_at(), read))


@pytest.mark.parametrize("draw", [lambda *arguments: b"", lambda *arguments: 1 / 0])
def test_relays_that_cannot_be_drawn_are_not_tried_again(draw, monkeypatch, caplog):
    calls, memory = [], Memory()
    monkeypatch.setattr(Maps, "draw", lambda *arguments: calls.append(0) or draw())
    hook = Loggers({"memory": lambda: memory})
    hook.start(trainer_at())
    hook.before_step(trainer_at(), batch(2, 3))
    for step in (2, 4):
        hook.after_evaluation(trainer_at(step), REPORT)
    assert len(calls) == 1 and set(memory.pictures) == {("clips", 0), ("confusion", 2), ("confusion", 4)}
    assert ("the relays cannot be drawn (division by zero)" in caplog.text) == bool(caplog.records)


def test_a_logger_that_fails_is_told_once_and_costs_nothing_else(caplog):
    memory = Memory()

    class Broken(Memory):
        def scalars(self, step, values):
            raise ConnectionError("no network")

    hook = Loggers({"broken": Broken, "memory": lambda: memory})
    hook.start(trainer_at())
    for _ in range(3):
        hook.after_row(trainer_at(), ROW)
    hook.close()
    assert caplog.text.count("broken takes nothing more (no network)") == 1
    assert memory.scalar and memory.closed


def test_a_logger_that_does_not_open_is_refused_with_what_to_do():
    def refuse():
        raise RuntimeError("no API key")

    hook = Loggers({"tensorboard": Memory, "wandb": refuse})
    with pytest.raises(
        ConfigError, match=r"'wandb' does not open: no API key\. WANDB_MODE=offline .*loggers=tensorboard"
    ):
        hook.start(trainer_at())


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: None)
    check_loggers(["tensorboard"])
    with pytest.raises(ConfigError, match=r"'mlflow' needs the package mlflow, .* pip install 'dnr-jax\[mlflow\]'"):
        check_loggers(["tensorboard", "mlflow"])


def test_loggers_are_words_on_the_command_line():
    for text, expected in (("tensorboard,wandb", ("tensorboard", "wandb")), ("", ()), ("('mlflow',)", ("mlflow",))):
        assert override(ExperimentConfig(), [f"--config.train.loggers={text}"])[0].train.loggers == expected
    config = tiny_config("", loggers=("wandb", "wandb"))
    assert list(config.train.problems()) == ["loggers: is ('wandb', 'wandb'); expected each once"]


def test_the_picture_of_a_batch_has_a_row_for_each_clip():
    read = batch(3, 5)
    picture = clips_seen(trainer_at(), read)
    assert (picture.shape, picture.dtype) == ((3 * 4, 5 * 6, 3), np.uint8)
    np.testing.assert_array_equal(picture[4:8, 12:18], read["video"][1, 2])
    many = batch(20, 15)
    picture = clips_seen(trainer_at(), many)
    assert picture.shape == (8 * 4, 8 * 6, 3)
    np.testing.assert_array_equal(picture[:4, -6:], many["video"][0, -1])


@pytest.mark.slow
def test_the_picture_of_a_batch_is_mixed_as_the_step_mixes_it():
    read, trainer = batch(4, 2), trainer_at(mixup=1.0)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), 1)
    mixture = draw_mixture(key, jnp.asarray(read["weight"]), (4, 6), trainer.config.train)
    picture = clips_seen(trainer, read).astype(np.float32)
    np.testing.assert_allclose(picture[:4, :6], mixture.video(jnp.asarray(read["video"]))[0, 0], atol=0.5)
    assert np.any(picture != clips_seen(trainer_at(), read))


def test_the_picture_of_a_confusion_matrix_shows_it():
    picture = confusion_picture(REPORT)
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    blue = (picture[..., 2].astype(int) - picture[..., 0]) > 60
    assert blue.any()  # Blues: the cells of the classes; red and blue are not swapped


def test_scalars_and_pictures_go_to_tensorboard(tmp_path):
    board = LOGGERS["tensorboard"](tmp_path, ExperimentConfig(), 0)
    board.scalars(2, {"train/loss": 0.5, "validation/top1": 0.75})
    board.picture(2, "confusion", np.zeros((4, 6, 3), np.uint8))
    board.close()
    (events,) = tmp_path.glob("events.out.tfevents.*")  # in the folder itself: TensorBoard calls the run by its name
    content = events.read_bytes()
    assert all(tag in content for tag in (b"train/loss", b"validation/top1", b"confusion", b"\x89PNG"))


needs = {
    name: pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed (an extra)")
    for name in ("wandb", "mlflow")
}


@pytest.mark.slow
@needs["mlflow"]
@pytest.mark.filterwarnings("ignore")
def test_a_run_and_what_it_goes_on_with_are_one_run_of_mlflow(videos, tmp_path, monkeypatch):
    """In a database of the run's folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    train(tiny_config(videos, steps=2, eval_every=2, loggers=("mlflow",)), tmp_path)
    train(tiny_config(videos, steps=4, eval_every=2, loggers=("mlflow",)), tmp_path)
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        runs = database.execute("select run_uuid, name, status from runs").fetchall()
        losses = database.execute("select step from metrics where key = 'train/loss' order by step").fetchall()
        (depth,) = database.execute("select value from params where key = 'train.batch_size'").fetchone()
    database.close()
    assert [run[1:] for run in runs] == [(tmp_path.name, "FINISHED")]
    assert ([step for (step,) in losses], depth) == ([2, 4], "4")
    assert len(list((tmp_path / "mlflow").rglob("*confusion*.png"))) >= 1


@pytest.mark.slow
@needs["wandb"]
@pytest.mark.filterwarnings("ignore")
def test_a_run_and_what_it_goes_on_with_are_one_run_of_wandb(videos, tmp_path, monkeypatch):
    """Without a network."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    train(tiny_config(videos, steps=2, eval_every=2, loggers=("wandb",)), tmp_path)
    train(tiny_config(videos, steps=4, eval_every=2, loggers=("wandb",)), tmp_path)
    identity = (tmp_path / "wandb_id.txt").read_text().strip()
    written = sorted((tmp_path / "wandb").glob(f"offline-run-*-{identity}/run-{identity}.wandb"))
    assert len(written) == 2
    assert all(b"train/loss" in file.read_bytes() for file in written)
    pictures = [path.name for path in (tmp_path / "wandb").rglob("*.png")]
    assert any(name.startswith("clips") for name in pictures)
    assert any(name.startswith("confusion") for name in pictures)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "train"] == [2, 4]
