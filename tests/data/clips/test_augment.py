import colorsys
import itertools
import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from dnr_jax.data.clips import augment
from dnr_jax.data.clips.augment import OPERATIONS, SIGNED, ColorJitter

STEPS = ("brightness", "contrast", "saturation", "hue")
LEVELS = [0.0, 0.3, 0.7, 1.0]


def noise(height=24, width=31, frames=2, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), np.uint8)


def smooth(height=48, width=60, seed=0):
    """A frame without edges, in which interpolating more or less finely makes no difference of a grey level."""
    coarse = np.random.default_rng(seed).integers(60, 200, (3, 4, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def differ(actual, expected):
    return int(np.abs(actual.astype(int) - np.asarray(expected).astype(int)).max())


def literal_jitter(frame, jitter):
    """MMAction2's ColorJitter on one frame: float32 from step to step; the hue cuts to uint8 on the way."""
    image = frame.astype(np.float32)

    def grey(image):
        return 0.2989 * image[..., 0] + 0.587 * image[..., 1] + 0.114 * image[..., 2]

    for step in jitter.order:
        factor = getattr(jitter, step)
        if step == "brightness":
            image = image * factor
        elif step == "contrast":
            image = factor * image + (1 - factor) * np.mean(grey(image))
        elif step == "saturation":
            image = factor * image + (1 - factor) * grey(image)[..., None]
        elif factor:
            hsv = cv2.cvtColor(np.clip(image, 0, 255).astype(np.uint8), cv2.COLOR_RGB2HSV).astype(int)
            hsv[..., 0] = (hsv[..., 0] + int(factor * 255)) % 180
            image = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB).astype(np.float32)
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("change", [-0.5, -0.1, 0.3, 0.5])
def test_each_change_of_color_is_mmaction2s(step, change):
    jitter = ColorJitter(**{step: change if step == "hue" else 1 + change})
    frames = noise()
    assert differ(jitter(frames), np.stack([literal_jitter(frame, jitter) for frame in frames])) <= 1


@pytest.mark.parametrize("order", [*itertools.permutations(STEPS)])
def test_changes_of_color_follow_their_order(order):
    jitter = ColorJitter(0.7, 1.4, 0.6, 0.08, order)
    frames = noise()
    assert differ(jitter(frames), np.stack([literal_jitter(frame, jitter) for frame in frames])) <= 1


def test_no_change_of_color_changes_nothing():
    frames = noise()
    before = frames.copy()
    np.testing.assert_array_equal(ColorJitter()(frames), frames)
    ColorJitter(0.5, 0.5, 0.5, 0.2)(frames)
    np.testing.assert_array_equal(frames, before)


def test_the_hue_turns_and_value_stays():
    frame = np.full((1, 2, 2, 3), (200, 40, 40), np.uint8)
    turned = ColorJitter(hue=60 / 255)(frame)[0, 0, 0] / 255  # 60 steps of 2 degrees: red becomes green
    hue, saturation, value = colorsys.rgb_to_hsv(*turned)
    assert abs(hue - 1 / 3) < 0.01 and abs(saturation - 0.8) < 0.01 and value == 200 / 255


def test_a_color_jitter_is_drawn_within_its_strengths():
    rng = np.random.default_rng(0)
    draws = [augment.draw_color_jitter((0.4, 0.3, 0.2, 0.1), rng) for _ in range(500)]
    for step, strength, centre in zip(STEPS, (0.4, 0.3, 0.2, 0.1), (1, 1, 1, 0), strict=True):
        values = [getattr(draw, step) for draw in draws]
        assert centre - strength <= min(values) < centre - 0.95 * strength
        assert centre + strength >= max(values) > centre + 0.95 * strength
    assert {draw.order for draw in draws} == set(itertools.permutations(STEPS))
    still = augment.draw_color_jitter((0.0, 0.0, 0.0, 0.0), rng)
    np.testing.assert_array_equal(still(noise()), noise())


# The definitions of timm's increasing policy, which PySlowFast took over, in PIL.


def pil_enhance(kind):
    return lambda image, strength: kind(image).enhance(1 + 0.9 * strength)


def pil_affine(coefficients):
    def change(image, strength):
        return image.transform(
            image.size, Image.AFFINE, coefficients(strength, *image.size), Image.BILINEAR, fillcolor=(128, 128, 128)
        )

    return change


VALUES = {
    "autocontrast": lambda image, strength: ImageOps.autocontrast(image),
    "equalize": lambda image, strength: ImageOps.equalize(image),
    "invert": lambda image, strength: ImageOps.invert(image),
    "posterize": lambda image, strength: ImageOps.posterize(image, max(4 - int(4 * strength), 1)),
    "solarize": lambda image, strength: ImageOps.solarize(image, 256 - int(256 * strength)),
    "solarize_add": lambda image, strength: image.point(
        [min(255, value + int(110 * strength)) if value < 128 else value for value in range(256)] * 3
    ),
    "color": pil_enhance(ImageEnhance.Color),
    "contrast": pil_enhance(ImageEnhance.Contrast),
    "brightness": pil_enhance(ImageEnhance.Brightness),
    "sharpness": pil_enhance(ImageEnhance.Sharpness),
}
SHAPES = {
    "rotate": lambda image, strength: image.rotate(30 * strength, Image.BILINEAR, fillcolor=(128, 128, 128)),
    "shear_x": pil_affine(lambda strength, width, height: (1, 0.3 * strength, 0, 0, 1, 0)),
    "shear_y": pil_affine(lambda strength, width, height: (1, 0, 0, 0.3 * strength, 1, 0)),
    "translate_x": pil_affine(lambda strength, width, height: (1, 0, 0.45 * strength * width, 0, 1, 0)),
    "translate_y": pil_affine(lambda strength, width, height: (1, 0, 0, 0, 1, 0.45 * strength * height)),
}


def test_every_operation_has_a_reference():
    assert set(OPERATIONS) == VALUES.keys() | SHAPES.keys()
    assert SIGNED == SHAPES.keys() | {"color", "contrast", "brightness", "sharpness"}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("level", LEVELS)
def test_operations_on_values_are_pils_within_a_grey_level(name, level):
    narrow = noise(seed=1) // 3 + np.uint8(60)
    for frame in (*noise(), *narrow, smooth()):
        for strength in (level, -level) if name in SIGNED else (level,):
            changed = OPERATIONS[name](frame, strength)
            assert changed.dtype == np.uint8 and changed.shape == frame.shape
            assert differ(changed, VALUES[name](Image.fromarray(frame), strength)) <= 1


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("level", LEVELS)
def test_operations_on_shapes_are_pils_within_a_grey_level(name, level):
    """Where the frame reaches: at its edge OpenCV interpolates with the filling, PIL does not."""
    frame = smooth()
    for strength in (level, -level):
        changed = OPERATIONS[name](frame, strength)
        expected = np.asarray(SHAPES[name](Image.fromarray(frame), strength))
        reached = OPERATIONS[name](np.full_like(frame, 255), strength).min(axis=-1) == 255
        assert reached.mean() > 0.5
        assert differ(changed[reached], expected[reached]) <= 1
        outside = OPERATIONS[name](np.zeros_like(frame), strength).min(axis=-1) == 128
        np.testing.assert_array_equal(changed[outside], 128)
        np.testing.assert_array_equal(expected[outside], 128)


@pytest.mark.parametrize("name", SHAPES)
def test_operations_on_shapes_take_each_pixel_from_where_they_say(name):
    """Against bilinear interpolation pixel by pixel; OpenCV counts positions in 32nds of a pixel."""
    frame, strength = smooth(13, 17), 0.37
    turn, centre_x, centre_y = math.radians(30 * strength), 8, 6
    shear, shift_x, shift_y = 0.3 * strength, 0.45 * strength * 17, 0.45 * strength * 13
    changed = OPERATIONS[name](frame, strength)
    for y, x in itertools.product(range(13), range(17)):
        right, down = x - centre_x, y - centre_y
        source_x, source_y = {
            "rotate": (
                centre_x + math.cos(turn) * right - math.sin(turn) * down,
                centre_y + math.sin(turn) * right + math.cos(turn) * down,
            ),
            "shear_x": (x + shear * (y + 0.5), y),
            "shear_y": (x, y + shear * (x + 0.5)),
            "translate_x": (x + shift_x, y),
            "translate_y": (x, y + shift_y),
        }[name]
        left, top = math.floor(source_x), math.floor(source_y)
        if 0 <= left < 16 and 0 <= top < 12:
            part_x, part_y = source_x - left, source_y - top
            corners = frame[top : top + 2, left : left + 2].astype(float)
            rows = corners[:, 0] * (1 - part_x) + corners[:, 1] * part_x
            expected = rows[0] * (1 - part_y) + rows[1] * part_y
            slope = np.abs(np.diff(corners, axis=0)).max() + np.abs(np.diff(corners, axis=1)).max()
            assert np.abs(changed[y, x] - expected).max() <= 0.5 + slope / 32


def test_frames_of_one_color_have_nothing_to_stretch():
    frame = np.full((8, 8, 3), (7, 100, 250), np.uint8)
    for name in ("autocontrast", "equalize"):
        np.testing.assert_array_equal(OPERATIONS[name](frame, 1.0), frame)


def test_rand_augment_does_the_same_to_every_frame_in_turn():
    frames = noise(frames=3)
    draws = [("rotate", -0.5), ("posterize", 0.3), ("color", 0.8)]
    expected = []
    for frame in frames:
        for name, strength in draws:
            frame = OPERATIONS[name](frame, strength)
        expected.append(frame)
    np.testing.assert_array_equal(augment.rand_augment(frames, draws), expected)
    np.testing.assert_array_equal(augment.rand_augment(frames, []), frames)


def test_rand_augment_draws_operations_strengths_and_signs():
    rng = np.random.default_rng(0)
    drawn = [augment.draw_rand_augment(4, 7.0, 0.5, 0.5, rng) for _ in range(3000)]
    draws = list(itertools.chain(*drawn))
    assert abs(len(draws) / 12_000 - 0.5) < 0.02
    names, strengths = zip(*draws, strict=True)
    for name in OPERATIONS:
        assert abs(names.count(name) / len(names) - 1 / 15) < 0.015
        negative = np.mean([strength < 0 for other, strength in draws if other == name])
        assert abs(negative - 0.5) < 0.1 if name in SIGNED else negative == 0
    levels = 10 * np.abs(strengths)
    assert abs(levels.mean() - 7) < 0.05 and abs(levels.std() - 0.5) < 0.05
    assert any(len({name for name, _ in layers}) < len(layers) for layers in drawn)  # with replacement


@given(st.integers(0, 2**32 - 1), st.integers(0, 5), st.floats(0, 10), st.floats(0, 3))
def test_rand_augment_is_a_function_of_its_draws(seed, layers, magnitude, std):
    one, other = (augment.draw_rand_augment(layers, magnitude, std, 1.0, np.random.default_rng(seed)) for _ in range(2))
    assert one == other and len(one) == layers
    assert all(-1 <= strength <= 1 for _, strength in one)
    changed = augment.rand_augment(noise(9, 11), one)
    assert changed.shape == (2, 9, 11, 3) and changed.dtype == np.uint8
    np.testing.assert_array_equal(changed, augment.rand_augment(noise(9, 11), other))
