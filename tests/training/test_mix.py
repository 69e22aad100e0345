import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.config import TrainConfig
from dnr_jax.training.mix import Mixture, draw_mixture, mixed_labels

CLASSES = 5
SIZE = (12, 20)


def make_batch(size=6, seed=0):
    rng = np.random.default_rng(seed)
    video = rng.integers(0, 256, (size, 3, *SIZE, 3), np.uint8)
    return jnp.asarray(video), jax.nn.one_hot(jnp.asarray(rng.integers(0, CLASSES, size)), CLASSES)


@functools.cache
def drawer(size, **fields):
    config = TrainConfig(**fields)
    return jax.jit(lambda key, weight: draw_mixture(key, weight, size, config))


def labels_of(mixture, target):
    return mixed_labels(target, target[mixture.partner], mixture.label_share)


def draws(count, weight=None, size=SIZE, **fields):
    weight = jnp.ones(6) if weight is None else jnp.asarray(weight)
    return [drawer(size, **fields)(jax.random.key(seed), weight) for seed in range(count)]


@pytest.mark.parametrize("fields", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}])
def test_a_mixture_is_that_of_a_loop_over_clips(fields):
    video, target = make_batch()
    for mixture in draws(5, **fields):
        partner, share = np.asarray(mixture.partner), np.asarray(mixture.share)
        mixed, labels = np.asarray(mixture.video(video)), np.asarray(labels_of(mixture, target))
        for clip, other in enumerate(partner):
            of_other = share[clip][None, :, :, None]
            expected = (1 - of_other) * np.float32(video[clip]) + of_other * np.float32(video[other])
            np.testing.assert_allclose(mixed[clip], expected, atol=1e-4)
            mean = share[clip].astype(np.float64).mean()
            np.testing.assert_allclose(labels[clip], (1 - mean) * target[clip] + mean * target[other], atol=1e-6)


@pytest.mark.parametrize("fields", [{"mixup": 0.8}, {"cutmix": 1.0}])
def test_partners_are_a_permutation_so_that_the_mean_of_a_batch_stays(fields):
    video, target = make_batch()
    for mixture in draws(10, **fields):
        assert sorted(np.asarray(mixture.partner).tolist()) == list(range(6))
        np.testing.assert_allclose(np.mean(mixture.video(video), 0), np.mean(np.float32(video), 0), atol=1e-3)
        np.testing.assert_allclose(np.mean(labels_of(mixture, target), 0), np.mean(target, 0), atol=1e-6)
        np.testing.assert_allclose(np.sum(labels_of(mixture, target), 1), 1, atol=1e-6)


def test_mixup_has_one_share_of_a_beta_distribution():
    shares = np.array([np.asarray(mixture.share) for mixture in draws(400, mixup=0.4)])
    assert (shares == shares[:, :1, :1, :1]).all()
    drawn = shares[:, 0, 0, 0]
    # Beta(a, a) has the mean 1/2 and the variance 1 / (4 (2 a + 1)).
    assert abs(drawn.mean() - 0.5) < 0.05 and abs(drawn.var() - 1 / (4 * 1.8)) < 0.02


def literal_box(key, kept, size):
    """MMAction2's rand_bbox, with this module's draws."""
    sides = []
    for side, side_key in zip(size, jax.random.split(key), strict=True):
        cut = int(side * np.sqrt(np.float32(1) - kept))
        centre = int(jax.random.randint(side_key, (), 0, side))
        sides.append((min(max(centre - cut // 2, 0), side), min(max(centre + cut // 2, 0), side)))
    return sides


def test_cutmix_exchanges_a_box_of_the_share_of_the_label():
    for seed, mixture in enumerate(draws(40, cutmix=1.0)):
        keys = jax.random.split(jax.random.key(seed), 5)
        (top, bottom), (left, right) = literal_box(keys[2], np.asarray(jax.random.beta(keys[1], 1.0, 1.0)), SIZE)
        expected = np.zeros(SIZE, np.float32)
        expected[top:bottom, left:right] = 1
        np.testing.assert_array_equal(np.asarray(mixture.share), np.broadcast_to(expected, (6, *SIZE)))
        area = (bottom - top) * (right - left) / (SIZE[0] * SIZE[1])
        np.testing.assert_allclose(labels_of(mixture, jnp.eye(6)), blended(mixture.partner, area), atol=1e-6)


def blended(partner, share):
    return (1 - share) * np.eye(6) + share * np.eye(6)[np.asarray(partner)]


def test_cutmix_takes_whole_pixels_of_all_frames():
    video, _ = make_batch()
    mixture = Mixture(jnp.array([1, 2, 3, 4, 5, 0]), jnp.zeros((6, *SIZE)).at[:, 2:5, 3:9].set(1.0), jnp.zeros(6))
    expected = np.array(video, np.float32)
    expected[:, :, 2:5, 3:9] = np.roll(np.asarray(video), -1, axis=0)[:, :, 2:5, 3:9]
    np.testing.assert_array_equal(mixture.video(video), expected)


def is_cut(mixture):
    return set(np.unique(np.asarray(mixture.share))) <= {0.0, 1.0}


def test_both_take_turns_as_the_probability_says():
    both = draws(300, mixup=0.8, cutmix=1.0, cutmix_probability=0.25)
    assert abs(np.mean([is_cut(mixture) for mixture in both]) - 0.25) < 0.08
    assert all(is_cut(mixture) for mixture in draws(20, cutmix=1.0, cutmix_probability=0.0))
    assert not any(is_cut(mixture) for mixture in draws(20, mixup=0.8, cutmix_probability=1.0))


def test_batches_are_mixed_with_the_probability():
    mixed = [np.asarray(mixture.share).any() for mixture in draws(300, mixup=0.8, mix_probability=0.3)]
    assert abs(np.mean(mixed) - 0.3) < 0.08


def test_a_partner_that_could_not_be_decoded_has_no_share():
    for mixture in draws(10, weight=[1.0, 0.0, 1.0, 1.0, 0.0, 1.0], mixup=0.8):
        lost = np.isin(np.asarray(mixture.partner), [1, 4])
        assert not np.asarray(mixture.share)[lost].any() and np.asarray(mixture.share)[~lost].all()


def test_nothing_is_drawn_where_both_are_off():
    assert draw_mixture(jax.random.key(0), jnp.ones(4), SIZE, TrainConfig()) is None
