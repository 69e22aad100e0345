import itertools
import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnr_jax.config import DataConfig, RandAugment
from dnr_jax.data.clips import augment, transforms


def clip(height, width, frames=2, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), np.uint8)


class ScriptedDraws:
    """Stands in for a generator; draws the given numbers in turn."""

    def __init__(self, *draws):
        self.draws = list(draws)

    def integers(self, high):
        assert self.draws[0] < high
        return self.draws.pop(0)

    def random(self):
        return self.draws.pop(0)


@pytest.mark.parametrize(
    "height, width, size, expected",
    [
        (256, 340, 256, (256, 340)),
        (240, 320, 256, (256, 341)),
        (320, 180, 100, (178, 100)),
        (720, 1280, 256, (256, 455)),
    ],
)
def test_resize_short_side_rounds_half_up_and_interpolates(height, width, size, expected):
    frames = clip(height, width)
    resized = transforms.resize_short_side(frames, size)
    assert resized.shape == (2, *expected, 3) and resized.dtype == np.uint8
    for before, after in zip(frames, resized, strict=True):
        np.testing.assert_array_equal(after, cv2.resize(before, expected[::-1], interpolation=cv2.INTER_LINEAR))


def test_resize_short_side_of_zero_keeps_the_frames():
    frames = clip(10, 12)
    np.testing.assert_array_equal(transforms.resize_short_side(frames, 0), frames)


# A 40 x 60 frame and the scales (1, .875, .75, .66) give sides 40, 35, 30, 26; the pairs at most a step apart are
# (40, 40), (40, 35), (35, 40), (35, 35), (35, 30), (30, 35), (30, 30), (30, 26), (26, 30), (26, 26).
MULTI_SCALE = [
    # pair, position, size, expected box y, x, height, width
    (0, 0, 16, (0, 0, 40, 40)),
    (1, 1, 16, (0, 24, 40, 35)),  # upper right: 4 * ((60 - 35) // 4)
    (5, 2, 16, (8, 0, 30, 35)),  # lower left: 4 * ((40 - 30) // 4)
    (9, 3, 16, (12, 32, 26, 26)),
    (9, 4, 16, (6, 16, 26, 26)),
    (6, 4, 32, (4, 14, 32, 32)),  # 30 is within 3 pixels of 32
    (8, 0, 29, (0, 0, 26, 29)),  # 26 is not within 3 pixels of 29, 30 is
]


@pytest.mark.parametrize("pair, position, size, box", MULTI_SCALE)
def test_multi_scale_crop_cuts_the_box_that_mmaction2_would(pair, position, size, box):
    frames = clip(40, 60)
    y, x, height, width = box
    cropped = transforms.multi_scale_crop(frames, size, ScriptedDraws(pair, position))
    for before, after in zip(frames, cropped, strict=True):
        region = before[y : y + height, x : x + width]
        np.testing.assert_array_equal(after, cv2.resize(region, (size, size), interpolation=cv2.INTER_LINEAR))


def test_multi_scale_crop_does_not_snap_beyond_the_frame():
    frames = clip(40, 60)
    cropped = transforms.multi_scale_crop(frames, 42, ScriptedDraws(0, 3))
    expected = cv2.resize(frames[0, :, 16:58], (42, 42), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(cropped[0], expected)


@given(st.integers(4, 70), st.integers(4, 70), st.integers(4, 40), st.integers(0, 2**32 - 1))
def test_multi_scale_crop_fits_any_frame(height, width, size, seed):
    cropped = transforms.multi_scale_crop(clip(height, width), size, np.random.default_rng(seed))
    assert cropped.shape == (2, size, size, 3) and cropped.dtype == np.uint8


@pytest.mark.parametrize("height, width, y, x", [(10, 14, 3, 5), (9, 13, 2, 4), (4, 4, 0, 0)])
def test_center_crop(height, width, y, x):
    frames = clip(height, width)
    np.testing.assert_array_equal(transforms.center_crop(frames, 4), frames[:, y : y + 4, x : x + 4])


def test_crops_enlarge_frames_that_are_too_small():
    frames = clip(6, 9)
    enlarged = transforms.resize_short_side(frames, 12)
    assert enlarged.shape == (2, 12, 18, 3)
    np.testing.assert_array_equal(transforms.center_crop(frames, 12), enlarged[:, :, 3:15])
    np.testing.assert_array_equal(transforms.three_crops(frames, 12)[1], enlarged[:, :, 6:])


def test_three_crops_are_left_right_middle_or_top_bottom_middle():
    frames = clip(8, 15)
    crops = transforms.three_crops(frames, 8)
    # MMAction2: step (15 - 8) // 2 = 3, so the right crop starts at 6 and not at 7.
    for crop, x in zip(crops, (0, 6, 3), strict=True):
        np.testing.assert_array_equal(crop, frames[:, :, x : x + 8])
    upright = transforms.three_crops(frames.swapaxes(1, 2), 8)
    np.testing.assert_array_equal(upright, crops.swapaxes(2, 3))


def test_three_crops_smaller_than_the_short_side_are_centred_on_it():
    frames = clip(10, 16)
    for crop, x in zip(transforms.three_crops(frames, 6), (0, 10, 5), strict=True):
        np.testing.assert_array_equal(crop, frames[:, 2:8, x : x + 6])


def test_flip_mirrors_every_frame_and_leaves_its_input_alone():
    frames = clip(5, 7)
    before = frames.copy()
    np.testing.assert_array_equal(transforms.flip(frames), frames[:, :, ::-1])
    np.testing.assert_array_equal(transforms.flip(frames[:, 1:, 2:]), frames[:, 1:, :1:-1])
    np.testing.assert_array_equal(frames, before)


def test_train_transform_crops_then_flips_the_whole_clip():
    frames = clip(40, 60)
    transform = transforms.TrainTransform(short_side=40, crop_size=16)
    cropped = transforms.multi_scale_crop(frames, 16, ScriptedDraws(5, 2))
    np.testing.assert_array_equal(transform(frames, 0, ScriptedDraws(5, 2, 0.5))[0], cropped)
    np.testing.assert_array_equal(transform(frames, 0, ScriptedDraws(5, 2, 0.49))[0], cropped[:, :, ::-1])


def test_train_transform_without_augmentation_is_the_test_transform():
    frames = clip(40, 60)
    plain = transforms.TrainTransform(short_side=24, crop_size=16, crop=transforms.CenterCrop(), flip=False)
    np.testing.assert_array_equal(plain(frames, 0, ScriptedDraws())[0], transforms.TestTransform(24, 16)(frames)[0])


def test_train_transform_flips_half_of_the_clips():
    frames = clip(4, 4)
    transform = transforms.TrainTransform(short_side=0, crop_size=4, crop=transforms.CenterCrop())
    rng = np.random.default_rng(0)
    flipped = sum(np.array_equal(transform(frames, 0, rng)[0], frames[:, :, ::-1]) for _ in range(400))
    assert 160 < flipped < 240  # four standard deviations


def test_test_transform_resizes_then_crops():
    frames = clip(30, 40)
    resized = transforms.resize_short_side(frames, 20)
    np.testing.assert_array_equal(transforms.TestTransform(20, 16)(frames), transforms.center_crop(resized, 16)[None])
    np.testing.assert_array_equal(transforms.TestTransform(20, 16, 3)(frames), transforms.three_crops(resized, 16))
    np.testing.assert_array_equal(transforms.TestTransform(0, 16)(frames), transforms.center_crop(frames, 16)[None])


def test_test_transform_raises_the_short_side_to_the_crop():
    frames = clip(40, 60)
    np.testing.assert_array_equal(
        transforms.TestTransform(20, 30, 3)(frames),
        transforms.three_crops(transforms.resize_short_side(frames, 30), 30),
    )


def test_test_transform_rejects_other_numbers_of_crops():
    with pytest.raises(ValueError, match="crops is 5; expected 1 .*, 3 .* or 10"):
        transforms.TestTransform(20, 16, 5)


@given(
    st.integers(4, 70),
    st.integers(4, 70),
    st.integers(0, 2**32 - 1),
    st.sampled_from([(0.08, 1.0), (0.5, 0.5), (0.9, 1.0)]),
    st.sampled_from([(3 / 4, 4 / 3), (1.0, 1.0), (8.0, 9.0)]),
)
def test_random_resized_crop_cuts_the_box_that_mmaction2_would(height, width, seed, area, aspect):
    frames, rng = clip(height, width), np.random.default_rng(seed)
    cropped = transforms.random_resized_crop(frames, 9, np.random.default_rng(seed), area, aspect)
    ratios = [math.exp(draw) for draw in rng.uniform(math.log(aspect[0]), math.log(aspect[1]), size=10)]
    areas = [share * height * width for share in rng.uniform(*area, size=10)]
    for ratio, pixels in zip(ratios, areas, strict=True):
        box_width, box_height = max(round(math.sqrt(pixels * ratio)), 1), max(round(math.sqrt(pixels / ratio)), 1)
        if box_width <= width and box_height <= height:
            x = int(rng.integers(width - box_width + 1))
            y = int(rng.integers(height - box_height + 1))
            break
    else:
        box_width = box_height = min(height, width)
        x, y = (width - box_width) // 2, (height - box_height) // 2
    for before, after in zip(frames, cropped, strict=True):
        region = before[y : y + box_height, x : x + box_width]
        np.testing.assert_array_equal(after, cv2.resize(region, (9, 9), interpolation=cv2.INTER_LINEAR))


def test_random_resized_crop_draws_areas_and_ratios_in_their_ranges():
    # Every pixel holds its position, so the corners of a crop that is not resized tell the box.
    frames = np.zeros((1, 200, 200, 3), np.uint8)
    frames[0, ..., 0], frames[0, ..., 1] = np.arange(200)[:, None], np.arange(200)
    rng, shares, ratios = np.random.default_rng(0), [], []
    for _ in range(300):
        box = transforms.random_resized_crop(frames, 200, rng, (0.2, 0.8), (0.5, 2.0))[0].astype(int)
        height, width = np.ptp(box[..., 0]) + 1, np.ptp(box[..., 1]) + 1
        shares.append(height * width / 200**2)
        ratios.append(width / height)
    assert 0.19 < min(shares) < 0.25 and 0.7 < max(shares) < 0.81
    assert 0.48 < min(ratios) < 0.6 and 1.7 < max(ratios) < 2.1


def test_ten_crops_are_corners_and_centre_with_their_mirror_images():
    frames = clip(14, 19)
    # MMAction2: steps (14 - 8) // 4 = 1 and (19 - 8) // 4 = 2, so the last crops start at 4 and 8.
    boxes = [(0, 0), (0, 8), (4, 0), (4, 8), (2, 4)]
    crops = transforms.TestTransform(0, 8, 10)(frames)
    assert crops.shape == (10, 2, 8, 8, 3)
    for number, (y, x) in enumerate(boxes):
        expected = frames[:, y : y + 8, x : x + 8]
        np.testing.assert_array_equal(crops[2 * number], expected)
        np.testing.assert_array_equal(crops[2 * number + 1], expected[:, :, ::-1])


def test_classes_that_a_mirror_exchanges_are_found_by_their_names():
    classes = (
        "Turning the camera left",
        "Turning the camera right",
        "Pushing something from left to right",
        "Pushing something from right to left",
        "Pulling it right out",
        "Copyright",
        "turn_hand_clockwise",
        "Turn_hand_counterclockwise",
        "turn left",
    )
    assert transforms.mirrored_labels(classes) == (1, 0, 3, 2, 4, 5, 7, 6, 8)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 1)])
def test_a_crop_of_the_smallest_frames_is_a_frame(shape):
    frames = np.full((2, *shape, 3), 7, np.uint8)
    crops = [transforms.multi_scale_crop(frames, 4, np.random.default_rng(seed)) for seed in range(20)]
    np.testing.assert_array_equal(crops, np.full((20, 2, 4, 4, 3), 7))


@pytest.mark.parametrize(
    "pair",
    [
        ("SwipeLeft", "SwipeRight"),
        ("swipeleft", "swiperight"),
        ("swipe-left", "Swipe_RIGHT"),
        ("left2right", "right2left"),
        ("turn clockwise", "turn counter-clockwise"),
        ("TurnClockwise", "TurnAntiClockwise"),
        ("turn-anticlockwise", "turn_clockwise"),
        ("rotate_cw", "rotate_ccw"),
        ("upright, to the left", "upright, to the right"),
    ],
)
def test_a_pair_is_found_however_its_words_are_joined(pair):
    assert transforms.mirrored_labels(("up", *pair)) == (0, 2, 1)
    assert transforms.one_sided(("up", *pair)) == []


def test_a_class_without_a_side_is_its_own_mirror_image():
    """Also where another one has its name in other letters."""
    assert transforms.mirrored_labels(("Jump", "jump", "run", "upright", "cleft", "")) == (0, 1, 2, 3, 4, 5)
    assert transforms.mirrored_labels(("left", "Right", "right")) == (0, 1, 2)


def test_classes_with_a_side_and_no_counterpart_are_named():
    assert transforms.one_sided(("Turn Left", "go straight", "bright", "wave-right", "left")) == [
        "Turn Left",
        "wave-right",
        "left",
    ]


def test_the_pairs_of_something_something_are_mmaction2s(shared):
    classes = (shared / "annotations" / "sthv1" / "label_map.txt").read_text().splitlines()
    changed = {label: other for label, other in enumerate(transforms.mirrored_labels(classes)) if label != other}
    assert changed == {2: 4, 4: 2, 30: 41, 41: 30, 52: 66, 66: 52}


def test_the_label_changes_with_the_mirror_image_only():
    frames = clip(4, 4)
    data = DataConfig(short_side=0, crop_size=4, crop=transforms.CenterCrop())
    transform = transforms.TrainTransform.from_config(data, ("left", "right", "up"))
    for draw, label in itertools.product((0.2, 0.7), range(3)):
        changed, shown = transform(frames, label, ScriptedDraws(draw))
        np.testing.assert_array_equal(changed, frames[:, :, ::-1] if draw < 0.5 else frames)
        assert shown == ((1, 0, 2)[label] if draw < 0.5 else label)


def test_train_transform_crops_then_changes_shapes_and_colors():
    frames, rng = clip(40, 60), np.random.default_rng(5)
    data = DataConfig(
        crop_size=16,
        crop=transforms.RandomResizedCrop(area=(0.3, 0.6), aspect=(1.0, 1.5)),
        color_jitter=(0.4, 0.3, 0.2, 0.1),
        rand_augment=RandAugment(layers=2, probability=1.0),
    )
    changed, _ = transforms.TrainTransform.from_config(data, ("a",))(frames, 0, np.random.default_rng(5))
    expected = transforms.random_resized_crop(frames, 16, rng, (0.3, 0.6), (1.0, 1.5))
    expected = transforms.flip(expected) if rng.random() < 0.5 else expected
    expected = augment.rand_augment(expected, augment.draw_rand_augment(2, 7.0, 0.5, 1.0, rng))
    expected = augment.draw_color_jitter((0.4, 0.3, 0.2, 0.1), rng)(expected)
    np.testing.assert_array_equal(changed, expected)
