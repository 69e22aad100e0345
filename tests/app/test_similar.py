"""Training clips: the nearest ones, the file that keeps them, and when they are computed anew."""

import dataclasses
import pathlib

import numpy as np
import pytest

from dnr_jax.app import command, similar
from dnr_jax.app.similar import FILE, TrainingClips, training_clips
from dnr_jax.config import ConfigError
from dnr_jax.explain import Explainer
from dnr_jax.report.features import ClipFeatures
from tests.explain.colours import colours_run


def clips(step: int = 0, asked: int = 300) -> TrainingClips:
    features = np.array([[10, 11], [10, 9], [12, 10], [8, 10]], np.float32)  # around (10, 10)
    return TrainingClips(
        step, asked, features, ["up", "down", "right", "left\udcff"], list("abcd"), [b"1", b"", b"3", b"4"]
    )


def test_the_nearest_are_those_in_the_same_direction_from_the_mean():
    found = clips().nearest(np.array([13, 10.5], np.float32), 3)
    assert [one.name for one in found] == ["right", "up", "down"]
    assert found[0].similarity == pytest.approx(3 / np.hypot(3, 0.5), abs=1e-6)
    assert found[2].similarity == pytest.approx(-found[1].similarity)
    assert (found[0].label, found[0].film) == ("c", b"3")
    assert len(clips().nearest(np.zeros(2, np.float32), 9)) == 4
    assert all(one.similarity == 0 for one in clips().nearest(np.array([10, 10], np.float32), 2))


def test_what_is_saved_is_loaded(tmp_path):
    clips(7, 9).save(tmp_path / FILE)
    found = TrainingClips.load(tmp_path / FILE)
    assert (found.step, found.asked) == (7, 9)
    np.testing.assert_array_equal(found.features, clips().features)
    assert (found.names, found.labels, found.films) == (clips().names, clips().labels, clips().films)


@pytest.mark.parametrize("content", [b"", b"no archive", None, "half", "other"])
def test_a_damaged_file_is_no_file(content, tmp_path):
    path = tmp_path / FILE
    clips().save(path)
    if content == "half":
        content = path.read_bytes()[:200]
    if content == "other":
        np.savez(path, features=np.zeros(3))
    elif content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    assert TrainingClips.load(path) is None


@pytest.fixture
def explainer(tmp_path, monkeypatch) -> Explainer:
    """Of a run whose training set has ten videos; the third cannot be decoded."""

    class Source:
        names = [f"{i}.mp4" for i in range(10)]
        labels = np.arange(10) % 3

        def __len__(self) -> int:
            return 10

    def features(explainer, source, shown):
        return (ClipFeatures(i, np.full(2, i, np.float32), 0, b"film") for i in shown if i != 2)

    monkeypatch.setattr(similar, "open_data", lambda run, split, paths: Source())
    monkeypatch.setattr(similar, "clip_features", features)
    return Explainer(dataclasses.replace(colours_run(), workdir=tmp_path, step=5))


def test_training_clips_are_computed_once(explainer, monkeypatch, tmp_path):
    first = training_clips(explainer, 4)
    assert first.names == ["0.mp4", "3.mp4", "6.mp4", "9.mp4"] and first.labels == ["red", "red", "red", "red"]
    assert (first.step, first.asked) == (5, 4)
    monkeypatch.setattr(similar, "clip_features", None)
    assert training_clips(explainer, 4).names == first.names == training_clips(explainer, None).names
    assert training_clips(explainer, 0) is None
    for other in ((3, None), (4, "videos")):  # another number, and other videos
        with pytest.raises(TypeError):
            training_clips(explainer, *other)
    explainer.run = dataclasses.replace(explainer.run, step=6)
    with pytest.raises(TypeError):
        training_clips(explainer, 4)


def test_a_folder_that_cannot_be_written_costs_the_file_alone(explainer, monkeypatch, capsys):
    def full(clips, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TrainingClips, "save", full)
    assert len(training_clips(explainer, None).names) == 9
    assert "cannot be written (No space left on device)" in capsys.readouterr().out


def test_videos_that_are_gone_cost_the_similar_clips_alone(explainer, monkeypatch, capsys):
    def gone(run, split, paths):
        raise ConfigError("there is no folder '/secret'")

    monkeypatch.setattr(similar, "open_data", gone)
    found, sentence = command.find_clips(explainer.run, None, None)
    assert found is None and "not where they were" in sentence and "/secret" not in sentence
    assert "without training clips: there is no folder '/secret'" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="/secret"):
        command.find_clips(explainer.run, None, "/secret")
    assert command.find_clips(explainer.run, 0, None) == (None, "")


def test_no_video_that_can_be_read_is_told(explainer, monkeypatch):
    monkeypatch.setattr(similar, "clip_features", lambda *arguments: iter(()))
    assert command.find_clips(explainer.run, 3, None) == (None, "None of the training videos can be read.")
    assert not (pathlib.Path(explainer.run.workdir) / FILE).exists()
