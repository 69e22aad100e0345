"""``dnr explain``: what it writes and prints, and what it refuses before anything is computed."""

import pathlib

import matplotlib.image
import numpy as np
import PIL.Image
import PIL.ImageSequence
import pytest

from dnr_jax import cli, explain_command
from dnr_jax.data.clips.decode import decode_frames, encode_video
from dnr_jax.explain import Explainer, pictures
from tests.explain.colours import SIDE, T, colours_run


@pytest.fixture(scope="module", autouse=True)
def loaded(tmp_path_factory):
    """Any folder holds the run whose network is known; it is compiled once."""
    explainer = Explainer(colours_run())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dnr_jax.runs.folder.load_run", lambda workdir, mesh, checkpoint: explainer.run)
        patch.setattr("dnr_jax.explain.Explainer", lambda run: explainer)
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def videos(tmp_path) -> pathlib.Path:
    """A red video, one with green at the end, and one that is damaged."""
    frames = np.full((T, 16, 16, 3), (200, 30, 30), np.uint8)
    encode_video(str(tmp_path / "a.mp4"), frames)
    frames[-1] = (30, 220, 30)
    encode_video(str(tmp_path / "b.mp4"), frames)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    return tmp_path


def explain(*words: object) -> int:
    return cli.main(["explain", *map(str, words)])


def test_each_video_gets_a_video_and_a_strip_beside_it_and_a_broken_one_costs_no_other(videos, capsys):
    assert explain("run", videos, "--layer", "half") == 1
    out, err = capsys.readouterr()
    assert f"cannot decode {videos / 'broken.mp4'}" in err
    assert f"{videos / 'a.mp4'}\n  red 100.0%\n  share of each frame: 25% 25% 25% 25%\n  wrote " in out
    for name in ("a", "b"):
        frames, count = decode_frames(str(videos / f"{name}.explained.mp4"), lambda total: np.arange(total))
        assert count == T and frames.shape == (T, 224, 448, 3)
        assert matplotlib.image.imread(videos / f"{name}.explained.png").std() > 0.05
    assert explain("run", videos, "--layer", "half") == 1  # what it wrote itself is no input
    assert sorted(path.name for path in videos.glob("*.mp4")) == [
        "a.explained.mp4", "a.mp4", "b.explained.mp4", "b.mp4", "broken.mp4",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "method",
    [pytest.param(name, marks=() if name == "frames" else pytest.mark.slow) for name in explain_command.METHODS],
)
def test_the_frame_that_shows_a_class_has_its_map(method, videos, capsys):
    assert (
        explain(
            "run",
            videos / "b.mp4",
            "--method",
            method,
            "--class",
            "green",
            "--out",
            videos / "new/out",
            "--format",
            "gif",
        )
        == 0
    )
    out = capsys.readouterr().out
    shares = [int(share[:-1]) for share in out.split("share of each frame: ")[1].splitlines()[0].split()]
    assert len(shares) == T and shares[-1] == max(shares) > 25
    assert (videos / "new/out/b.explained.gif").is_file()


def test_an_animation_holds_all_frames(tmp_path):
    rng = np.random.default_rng(0)
    pictures.save_gif(tmp_path / "a.gif", rng.integers(0, 256, (5, 6, 8, 3), np.uint8), fps=4)
    with PIL.Image.open(tmp_path / "a.gif") as picture:
        shown = [picture.info["duration"] for picture in PIL.ImageSequence.Iterator(picture)]
        assert shown == 5 * [250] and picture.size == (8, 6) and picture.info["loop"] == 0


def test_videos_of_the_same_name_get_files_of_their_own():
    found = explain_command._targets(["x/a.mp4", "y/a.mp4", "https://host/a.webm?b=c", "-", "z/frames"], "out")
    assert [target.name for _, target in found] == [f"{n}.explained" for n in ("a", "a-2", "a-3", "stdin", "frames")]
    beside = dict(explain_command._targets(["x/a.mp4", "y/a.mp4", "https://host/a.webm"], ""))
    assert [str(target) for target in beside.values()] == ["x/a.explained", "y/a.explained", "a.explained"]


def test_networks_stand_side_by_side(videos, capsys):
    assert explain("--compare", "one", "two", videos / "a.mp4", "--layer", "half", "--class", "blue") == 0
    assert capsys.readouterr().out.count("colours: blue ") == 2
    assert matplotlib.image.imread(videos / "a.explained.png").std() > 0.05
    assert not (videos / "a.explained.mp4").exists()


def test_stages_are_what_the_backbones_have_in_common():
    class Known:
        def __init__(self, *names: str):
            self.explainer = type("", (), {"layers": dict.fromkeys(names)})

    first = Known("backbone/conv1", "backbone/layer1/block0", "backbone/layer1", "backbone/layer2/a", "backbone/layer2")
    second = Known("backbone/layer2/b", "backbone/layer2", "backbone/conv1", "backbone")
    assert explain_command._stages(first, first) == ["backbone/layer1", "backbone/layer2"]
    assert explain_command._stages(first, second) == ["backbone/layer2"]
    with pytest.raises(explain_command.ConfigError, match="no stage in common"):
        explain_command._stages(Known("conv"), second)


def test_layers_are_listed_with_the_sizes_of_their_features(capsys):
    assert explain("run", "--list-layers") == 0
    assert capsys.readouterr().out == f"half  {T // 2}x{SIDE // 2}x{SIDE // 2}x3\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run"], "there is no video to explain"),
        (["run", "a.mp4", "--layer", "halve"], "--layer: there is no layer 'halve'; the nearest of 1 are half"),
        (["run", "a.mp4", "--class", "gren"], "no class 'gren'; the nearest are green"),
        (["run", "a.mp4", "--layer", "half", "--method", "frames"], "--layer has no effect with --method frames"),
        (["--compare", "run"], "--compare needs two runs"),
        (["--compare", "run", "run", "a.mp4", "--method", "frames"], "--compare writes pictures of gradcam"),
        (["--compare", "run", "run", "a.mp4", "--format", "gif"], "leave out --method or --format"),
        (["--compare", "run", "run", "a.mp4"], "no stage in common"),
    ],
)
def test_what_cannot_be_done_is_refused_first(words, message, monkeypatch, capsys):
    monkeypatch.setattr(explain_command._Asked, "clip", lambda *_: pytest.fail("a video was read"))
    assert explain(*words) == 2
    assert message in capsys.readouterr().err


def test_a_map_lies_over_the_frames_where_it_is_high():
    clip, values = np.full((1, 2, 3, 3), 100, np.uint8), np.zeros((1, 2, 3), np.float32)
    values[0, 0, 0] = 1
    over = pictures.overlay(clip, values)
    assert over[0, 0, 0, 0] > over[0, 0, 0, 2] and (over[0, 0, 0] != 100).any()  # the highest colour is a red
    assert (over[values == 0] == 100).all()
    frames = pictures.side_by_side(clip[:, :1], values[:, :1])
    assert frames.shape == (1, 224, 1344, 3)
    assert (frames[0, :, :672] == 100).all() and (frames[0, :224, 672:896] == over[0, 0, 0]).all()


def test_shown_frames_are_spaced_evenly():
    assert pictures.evenly(3, 8) == [0, 1, 2] and pictures.evenly(32, 4) == [0, 10, 21, 31]
    assert pictures.evenly(1, 4) == [0]
