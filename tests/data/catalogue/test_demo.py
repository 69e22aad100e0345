import os
import pathlib

import numpy as np
import pytest

from dnr_jax.data.catalogue import demo
from dnr_jax.data.clips import decode

FIELDS = ("x", "y", "angle", "size")


def poses(label, seed):
    path = demo.trajectory(label, np.random.default_rng(seed))
    return np.stack([getattr(path, field) for field in FIELDS])


@pytest.mark.parametrize("pair", range(4))
def test_the_members_of_a_pair_draw_the_same_poses_in_opposite_order(pair):
    for seed in range(20):
        np.testing.assert_array_equal(poses(2 * pair, seed), poses(2 * pair + 1, seed)[:, ::-1])


@pytest.mark.parametrize(
    "name, changing, sign",
    [
        ("moves_right", "x", 1),
        ("moves_left", "x", -1),
        ("moves_down", "y", 1),
        ("moves_up", "y", -1),
        ("turns_clockwise", "angle", 1),
        ("turns_anticlockwise", "angle", -1),
        ("grows", "size", 1),
        ("shrinks", "size", -1),
    ],
)
def test_each_class_does_what_its_name_says(name, changing, sign):
    for seed in range(20):
        steps = np.diff(poses(demo.CLASSES.index(name), seed), axis=1)
        for field, step in zip(FIELDS, steps, strict=True):
            assert (step * sign > 0).all() if field == changing else (step == 0).all()


def test_a_turn_is_too_short_for_its_direction_to_be_ambiguous():
    turns = [np.ptp(poses(4, seed)[2]) for seed in range(200)]
    assert 90 < min(turns) and max(turns) < 180


def test_the_set_of_poses_of_a_pair_does_not_depend_on_its_member():
    """Sampled independently, as in the data set, every quantile of every attribute agrees."""
    for pair in range(4):
        values = [np.stack([poses(2 * pair + member, 2 * seed + member) for seed in range(2000)]) for member in (0, 1)]
        for field in range(4):
            quantiles = [np.quantile(v[:, field], np.linspace(0, 1, 11)) for v in values]
            spread = np.ptp(values[0][:, field])
            np.testing.assert_allclose(quantiles[0] / spread, quantiles[1] / spread, atol=0.05)


def test_attributes_that_stay_still_are_drawn_alike_for_all_classes():
    still = {field: [] for field in range(4)}
    for label in range(8):
        for field in set(range(4)) - {label // 2}:
            still[field].append([poses(label, seed)[field, 0] for seed in range(50)])
    for values in still.values():
        assert len(values) == 6
        np.testing.assert_array_equal(values, [values[0]] * 6)


def test_draw_does_not_look_at_the_order_of_the_poses():
    """Without its noise, a reversed path gives the reversed video."""

    class Noiseless:
        def __init__(self):
            self.rng = np.random.default_rng(3)

        def __getattr__(self, name):
            return getattr(self.rng, name)

        def normal(self, mean, deviation, shape):
            return np.zeros(shape)

    path = demo.trajectory(4, np.random.default_rng(0))
    forward, backward = demo.draw(path, 40, Noiseless()), demo.draw(path.reversed(), 40, Noiseless())
    assert forward.shape == (24, 40, 40, 3) and forward.dtype == np.uint8
    np.testing.assert_array_equal(forward, backward[::-1])
    assert (np.ptp(forward, axis=(1, 2, 3)) > 100).all()


@pytest.mark.parametrize("glyph", demo.GLYPHS)
def test_no_glyph_looks_the_same_after_a_turn(glyph):
    stencil = demo._stencil(glyph)
    upright = demo._place(stencil, 40, 20, 20, 0, 20)
    assert 0.15 < upright.sum() / 20**2 < 0.9
    for angle in range(30, 360, 15):
        turned = demo._place(stencil, 40, 20, 20, angle, 20)
        assert np.abs(turned - upright).sum() > 0.2 * upright.sum()


def test_the_glyph_lies_where_the_pose_says():
    square = np.ones((64, 64), np.float32)
    cover = demo._place(square, 40, 25, 15, 0, 20)
    ys, xs = np.nonzero(cover > 0.5)
    assert (xs.min(), xs.max(), ys.min(), ys.max()) == (15, 34, 5, 24)
    corner = np.zeros((64, 64), np.float32)
    corner[:16, 48:] = 1  # upper right; a quarter turn clockwise brings it to the lower right
    ys, xs = np.nonzero(demo._place(corner, 40, 20, 20, 90, 32) > 0.5)
    assert ys.min() > 20 and xs.min() > 20


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    return pathlib.Path(demo.make_demo(str(tmp_path_factory.mktemp("cache")), 16, 8))


def test_make_demo_writes_videos_in_folders(generated):
    for split, count in (("train", 2), ("val", 1)):
        assert sorted(folder.name for folder in (generated / split).iterdir()) == sorted(demo.CLASSES)
        for name in demo.CLASSES:
            videos = list((generated / split / name).glob("*.mp4"))
            assert len(videos) == count
            frames, total = decode.decode_frames(str(videos[0]), lambda total: np.arange(total))
            assert total == 24 and frames.shape == (24, 40, 40, 3)
    assert list(generated.parent.iterdir()) == [generated]  # nothing temporary is left


def test_make_demo_is_repeatable_and_generates_once(generated, tmp_path):
    again = pathlib.Path(demo.make_demo(str(tmp_path), 16, 8))
    assert again.name == generated.name
    files = sorted(path.relative_to(generated) for path in generated.rglob("*.mp4"))
    assert len({(generated / file).read_bytes() for file in files}) == 24  # no two alike, in train or val
    for file in files:
        assert (again / file).read_bytes() == (generated / file).read_bytes()
    marker = again / "marker"
    marker.touch()
    assert demo.make_demo(str(tmp_path), 16, 8) == str(again) and marker.exists()
    assert demo.make_demo(str(tmp_path), 8, 8) != str(again)


def test_compression_does_not_tell_the_direction_of_time(tmp_path):
    rng = np.random.default_rng(0)
    video = demo.draw(demo.trajectory(0, rng), 40, rng)
    decoded = []
    for name, frames in (("forward", video), ("backward", video[::-1])):
        path = str(tmp_path / f"{name}.mp4")
        decode.encode_video(path, np.ascontiguousarray(frames), options=demo._ENCODER_OPTIONS)
        decoded.append(decode.decode_frames(path, lambda total: np.arange(total))[0])
    np.testing.assert_array_equal(decoded[0], decoded[1][::-1])


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    written = []

    def interrupted(path, *args, **kwargs):
        written.append(path)
        if len(written) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(decode, "encode_video", interrupted)
    with pytest.raises(KeyboardInterrupt):
        demo.make_demo(str(tmp_path), 16, 8)
    assert not os.listdir(tmp_path)


def test_a_faster_process_wins(tmp_path, monkeypatch):
    """Another process finishes the same data set while this one is writing."""
    rename = pathlib.Path.rename

    def overtaken(self, target):
        (target / "train").mkdir(parents=True)
        return rename(self, target)

    monkeypatch.setattr(pathlib.Path, "rename", overtaken)
    folder = demo.make_demo(str(tmp_path), 8, 8)
    assert os.listdir(folder) == ["train"] and os.listdir(tmp_path) == [os.path.basename(folder)]


def test_the_default_folder_is_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert demo.make_demo("", 8, 8).startswith(str(tmp_path / "dnr_jax" / "demo-v"))


@pytest.mark.parametrize("train, val, size", [(7, 8, 40), (8, 0, 40), (8, 8, 41)])
def test_make_demo_rejects_sizes_it_cannot_make(tmp_path, train, val, size):
    with pytest.raises(ValueError, match="expected at least 8 videos, one a class, in each, and an even size"):
        demo.make_demo(str(tmp_path), train, val, size)


def hard(label, seed=0, size=24, **knobs):
    rng = np.random.default_rng(seed)
    return demo.draw_hard(label, size, 24, demo.Difficulty(**{"noise": 0.0} | knobs), rng).astype(float)


@pytest.mark.parametrize("gap", [0, 5, 12])
def test_a_hard_video_shows_two_poses_and_the_gap_between_them(gap):
    for seed in range(20):
        video = hard(seed % 8, seed, gap=gap)
        changes = np.flatnonzero((np.diff(video, axis=0) != 0).any((1, 2, 3))) + 1
        lengths = np.diff([0, *changes, len(video)]).tolist()
        middle = [6, gap, 6] if gap else [6, 6]
        assert any(lengths[i : i + len(middle)] == middle for i in range(len(lengths))), lengths


def test_the_members_of_a_pair_show_the_same_two_poses_in_opposite_order():
    for pair in range(4):
        first, second = hard(2 * pair, pair, gap=6), hard(2 * pair + 1, pair, gap=6)
        assert {frame.tobytes() for frame in first} == {frame.tobytes() for frame in second}
        assert not np.array_equal(first, second)


def test_each_knob_does_what_its_name_says():
    plain = hard(0, 3, gap=6)
    weak = hard(0, 3, gap=6, contrast=50.0)
    assert np.ptp(weak) < 0.5 * np.ptp(plain)
    cast = hard(0, 3, gap=6, cast=0.5) / np.maximum(plain, 1)
    assert np.ptp(np.median(cast, (0, 1, 2))) > 0.1  # another gain for each colour
    exposure = hard(0, 3, gap=6, exposure=0.5)[:, 0].mean((1, 2)) / plain[:, 0].mean((1, 2))
    assert exposure.max() > 1.3 and exposure.min() < 0.8  # another gain for each frame
    noisy = hard(0, 3, gap=6, noise=20.0) - plain
    assert 12 < noisy.std() < 21


@pytest.mark.parametrize("knobs", [{"gap": -1}, {"contrast": 0.5}, {"noise": -1.0}])
def test_a_difficulty_below_the_easiest_is_refused(knobs):
    with pytest.raises(ValueError, match="expected a contrast of 1 or more, and no other knob below 0"):
        demo.Difficulty(**knobs)


def test_a_gap_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="a gap of 13 frames between poses of 6 needs 25 frames, not 24"):
        hard(0, gap=13)


def test_make_hard_demo_writes_a_folder_a_difficulty(tmp_path):
    folders = [
        pathlib.Path(demo.make_hard_demo(str(tmp_path), 8, 8, demo.Difficulty(gap=gap, cast=0.1), 16)) for gap in (0, 3)
    ]
    assert folders[1].name == "hard-demo-v1-8-8-16px-24f-gap3-contrast1-cast0.1-exposure0-noise4"
    videos = [sorted(folder.rglob("*.mp4")) for folder in folders]
    assert [len(found) for found in videos] == [16, 16]
    frames, _ = decode.decode_frames(str(videos[0][0]), lambda total: np.arange(total))
    assert frames.shape == (24, 16, 16, 3)
    assert videos[0][0].read_bytes() != videos[1][0].read_bytes()
