"""Maps are those of literal, slow programs, on a network whose gradients are written down."""

import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.explain import Explainer, Explanation, maps
from tests.explain.colours import MEAN, SIDE, WEIGHTS, T, colours_run, literal_scores, log_softmax


@pytest.fixture(scope="module")
def explainer() -> Explainer:
    return Explainer(colours_run(), batch_size=5)


@pytest.fixture(scope="module")
def clips() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, T, SIDE, SIDE, 3), np.uint8)


def stretched(coarse: np.ndarray) -> np.ndarray:
    """Stretch ``[T', H', W']`` to the clip, each axis by linear interpolation between the centres."""

    def along(line: np.ndarray, size: int) -> np.ndarray:
        return np.interp((np.arange(size) + 0.5) * len(line) / size - 0.5, np.arange(len(line)), line)

    for axis, size in enumerate((T, SIDE, SIDE)):
        coarse = np.apply_along_axis(along, axis, coarse, size)
    return coarse


@pytest.mark.parametrize("plus", [False, True])
@pytest.mark.parametrize("classes", [None, [2, 0]])
def test_maps_of_a_layer_are_the_papers(plus, classes, explainer, clips):
    found = explainer.grad_cam(clips, classes, "half", plus=plus)
    assert found.maps.shape == clips.shape[:4] and found.maps.dtype == np.float32
    for i, clip in enumerate(clips):
        scores, features, by_sum = literal_scores(clip)
        label = int(scores.argmax()) if classes is None else classes[i]
        assert found.classes[i] == label
        np.testing.assert_allclose(found.probabilities[i], np.exp(log_softmax(scores)), rtol=1e-3)
        coarse = np.zeros(features.shape[:3])
        for c in range(3):
            gradient = by_sum[label] * WEIGHTS[label, c]  # at every position
            weight = 0.0
            for _ in np.ndindex(*coarse.shape):
                below = 2 * gradient**2 + features[..., c].sum() * gradient**3
                weight += gradient**2 / below * max(gradient, 0) if plus else gradient
            coarse += weight * features[..., c]
        expected = stretched(np.maximum(coarse, 0))
        np.testing.assert_allclose(found.maps[i], expected / expected.max(), rtol=1e-3, atol=1e-4)


def test_maps_of_pathways_are_added():
    rng = np.random.default_rng(1)
    shapes = [(2, 4, 4, 4, 3), (2, 2, 2, 2, 5)]
    features, gradients = ([jnp.asarray(rng.normal(size=s), jnp.float32) for s in shapes] for _ in range(2))
    fields = {"weights": maps.grad_cam_weights, "shape": (4, 4, 4)}
    together = maps.class_activation(features, gradients, **fields)
    apart = [maps.class_activation([f], [g], **fields) for f, g in zip(features, gradients, strict=True)]
    np.testing.assert_allclose(together, apart[0] + apart[1], rtol=1e-5)
    weights = np.asarray(gradients[0]).sum((1, 2, 3))
    literal = [np.maximum(np.einsum("thwc,c->thw", *pair), 0) for pair in zip(features[0], weights, strict=True)]
    np.testing.assert_allclose(apart[0], literal, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("label", "window", "stride"), [(1, (2, 4, 4), (1, 3, 2)), (0, (3, 8, 3), (2, 1, 3))])
def test_occlusion_is_the_mean_fall_of_the_windows_that_hide_a_pixel(label, window, stride, explainer, clips):
    found = explainer.occlusion(clips[0], label, window, stride)
    whole = log_softmax(literal_scores(clips[0])[0])[label]
    starts = [sorted({*range(0, n - w + 1, s), n - w}) for n, w, s in zip((T, SIDE, SIDE), window, stride, strict=True)]
    falls = {}
    for t, h, w in np.ndindex(*map(len, starts)):
        corner = starts[0][t], starts[1][h], starts[2][w]
        hidden = clips[0].copy()
        for place in np.ndindex(*window):
            hidden[corner[0] + place[0], corner[1] + place[1], corner[2] + place[2]] = MEAN
        falls[corner] = whole - log_softmax(literal_scores(hidden)[0])[label]
    expected = np.zeros((T, SIDE, SIDE))
    for place in np.ndindex(*expected.shape):
        over = [
            fall
            for corner, fall in falls.items()
            if all(c <= p < c + w for c, p, w in zip(corner, place, window, strict=True))
        ]
        expected[place] = max(sum(over) / len(over), 0)
    assert found.maps.shape == (1, T, SIDE, SIDE)
    np.testing.assert_allclose(found.maps[0], expected / expected.max(), rtol=1e-2, atol=1e-3)


def test_importance_of_frames_is_the_fall_without_each(explainer, clips):
    found = explainer.frame_importance(clips)
    for i, clip in enumerate(clips):
        whole = log_softmax(literal_scores(clip)[0])
        label = whole.argmax()
        falls = np.zeros(T)
        for t in range(T):
            hidden = clip.copy()
            hidden[t] = MEAN
            falls[t] = max(whole[label] - log_softmax(literal_scores(hidden)[0])[label], 0)
        np.testing.assert_allclose(found.frame_shares[i], falls / falls.sum(), rtol=1e-2, atol=1e-3)
        np.testing.assert_allclose(found.maps[i], np.broadcast_to(found.maps[i, :, :1, :1], (T, SIDE, SIDE)))


def test_hidden_parts_have_the_mean_colour_of_the_networks_order(explainer, clips):
    explainer.run.config.data.channel_order = "bgr"
    seen = []
    explainer._log_probabilities = lambda batch: seen.append(batch) or np.zeros((len(batch), 3))
    try:
        explainer.frame_importance(clips[0])
    finally:
        del explainer._log_probabilities
        explainer.run.config.data.channel_order = "rgb"
    assert (seen[1][2][2] == (120, 110, 100)).all() and (seen[1][2][1] == clips[0][1]).all()


def test_a_map_without_evidence_is_empty():
    values = np.stack([np.zeros((2, 2, 2)), -np.ones((2, 2, 2)), np.arange(8.0).reshape(2, 2, 2)])
    found = maps.scaled(values)
    assert not found[:2].any() and found[2].max() == 1 and found.dtype == np.float32
    shares = Explanation(found, np.zeros(3), np.zeros((3, 2))).frame_shares
    np.testing.assert_allclose(shares, [[0, 0], [0, 0], [6 / 28, 22 / 28]], rtol=1e-6)


def test_what_is_no_clip_class_or_layer_of_the_network_is_refused(explainer, clips):
    with pytest.raises(ValueError, match=r"uint8 \[T, H, W, 3\].* got float64"):
        explainer.grad_cam(clips / 255)
    with pytest.raises(ValueError, match=r"got uint8 \(4, 8, 8\)"):
        explainer.occlusion(clips[0, ..., 0])
    with pytest.raises(ValueError, match="clips of 4 frames; got 3"):
        explainer.scores(clips[:, :3])
    with pytest.raises(ValueError, match="numbers from 0 to 2; got 3"):
        explainer.grad_cam(clips, 3)
    with pytest.raises(ValueError, match="numbers from 0 to 2; got -1"):
        explainer.frame_importance(clips, -1)
    with pytest.raises(ValueError, match="expected a number, or 2 of them"):
        explainer.grad_cam(clips, [0, 1, 2])
    with pytest.raises(ValueError, match="there is no layer 'hal'; the nearest of 1 are half"):
        explainer.grad_cam(clips, layer="hal")
    with pytest.raises(ValueError, match=r"a window \(5, 1, 1\) every"):
        explainer.occlusion(clips, window=(5, 1, 1))
    for stride in ((0, 1, 1), (1, 2, 1)):
        with pytest.raises(ValueError, match=r"does not hide all of a clip of \(4, 8, 8\)"):
            explainer.occlusion(clips, window=(1, 1, 1), stride=stride)
