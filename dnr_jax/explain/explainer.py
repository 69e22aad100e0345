"""Where in a clip a trained network sees a class: Grad-CAM, Grad-CAM++, occlusion, importance of frames."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from dnr_jax.dnr.statistics import Variables
from dnr_jax.explain import maps
from dnr_jax.explain.layers import Gradients, Layer, features, find_layer, find_layers, gradients
from dnr_jax.explain.maps import Window
from dnr_jax.runs.devices import compiler_options
from dnr_jax.runs.inference import normalize

if TYPE_CHECKING:  # what reads a run's folder needs packages that looking into a network does not
    from dnr_jax.runs.folder import Run

Classes = int | Sequence[int] | None


@dataclasses.dataclass(frozen=True, eq=False)
class Explanation:
    """Where ``N`` clips show a class, as a network sees it.

    Attributes:
      maps: float32 ``[N, T, H, W]``, from 0 to 1, which the highest value of each clip's map is; all 0 where nothing in
        the clip speaks for the class. Maps of different clips are on scales of their own.
      classes: int ``[N]``, which class.
      probabilities: float32 ``[N, K]``, of all classes.
    """

    maps: np.ndarray
    classes: np.ndarray
    probabilities: np.ndarray

    @property
    def frame_shares(self) -> np.ndarray:
        """Share of each frame in its clip's map, float32 ``[N, T]``; they add up to 1, or are 0 in an empty map."""
        mass = self.maps.sum(axis=(2, 3), dtype=np.float64)
        total = mass.sum(axis=1, keepdims=True)
        return np.divide(mass, total, out=np.zeros_like(mass), where=total > 0).astype(np.float32)


class Explainer:
    """Explains what a trained network sees in clips.

    Clips are uint8 ``[T, H, W, 3]`` RGB as the network takes them (``T`` is its number of frames), or several,
    ``[N, T, H, W, 3]``. Classes are numbers, one for all clips or one a clip; None: the best class of each. Programs
    are compiled once for a shape of clips, and kept by the explainer.
    """

    def __init__(self, run: "Run", batch_size: int = 16):
        """Take a network.

        Args:
          run: of :func:`dnr_jax.runs.folder.load_run`.
          batch_size: clips that are scored at a time where parts of them are hidden.
        """
        self.run = run
        self.batch_size = batch_size
        options = compiler_options(jax.default_backend())
        self._score = jax.jit(self._scores, compiler_options=options)
        self._differentiate = jax.jit(self._differentiated, static_argnames="layers", compiler_options=options)
        self._pool = jax.jit(self._pooled, static_argnames="layer", compiler_options=options)

    @functools.cached_property
    def layers(self) -> Mapping[str, Layer]:
        """The layers that a map can be made of, by name, in the order of the network; the last is what its head reads.

        The names are paths of modules; nothing is compiled to find them.
        """
        clip = jax.ShapeDtypeStruct((1, *self.run.config.data.clip_shape), self._dtype)
        return find_layers(self.run.model, self.run.variables, clip)

    def scores(self, clips: np.ndarray) -> np.ndarray:
        """Return the probabilities of the classes, float32 ``[N, K]``."""
        return np.exp(self._log_probabilities(_batch(clips, self.run)))

    def features(self, clips: np.ndarray, layer: str = "") -> tuple[np.ndarray, np.ndarray]:
        """Return the features of a layer, averaged over time and space, and what the network makes of the clips.

        Args:
          clips: see the class.
          layer: by name; empty: what the head reads. Pathways are joined.

        Returns:
          Features float32 ``[N, C]``, and probabilities of the classes float32 ``[N, K]``.

        Raises:
          ValueError: for clips that are none of this network, and for a layer that there is not.
        """
        found = find_layer(self.layers, layer)
        pooled, probabilities = self._pool(self.run.variables, _batch(clips, self.run), layer=found)
        return np.asarray(pooled), np.asarray(probabilities)

    def grad_cam(self, clips: np.ndarray, classes: Classes = None, layer: str = "", plus: bool = False) -> Explanation:
        """Map the features that raise the score of a class, by Grad-CAM or Grad-CAM++.

        Args:
          clips: see the class.
          classes: likewise.
          layer: whose features; empty: those that the head reads. A layer in front of the last blocks has finer maps,
            of simpler features. Maps of several pathways are added.
          plus: Grad-CAM++, which shows several places of the same kind more evenly.

        Raises:
          ValueError: for clips or classes that are none of this network, and for a layer that there is not, naming the
            nearest ones.
        """
        (explanation,) = self.grad_cams(clips, [layer], classes, plus).values()
        return explanation

    def grad_cams(
        self, clips: np.ndarray, layers: Sequence[str], classes: Classes = None, plus: bool = False
    ) -> dict[str, Explanation]:
        """Return what :meth:`grad_cam` does for several layers, by their names, from one program."""
        found = tuple(find_layer(self.layers, layer) for layer in layers)
        clips = _batch(clips, self.run)
        wanted = self._wanted(classes, len(clips))
        weights = maps.grad_cam_pp_weights if plus else maps.grad_cam_weights
        at = self._differentiate(self.run.variables, clips, wanted, layers=found)
        chosen, probabilities = map(np.asarray, (at.classes, jax.nn.softmax(at.scores)))
        values = [
            maps.class_activation(*pair, weights=weights, shape=clips.shape[1:4])
            for pair in zip(at.features, at.gradients, strict=True)
        ]
        scaled = [maps.scaled(np.asarray(value)) for value in values]
        return {layer: Explanation(value, chosen, probabilities) for layer, value in zip(layers, scaled, strict=True)}

    def occlusion(
        self,
        clips: np.ndarray,
        classes: Classes = None,
        window: Window | None = None,
        stride: Window | None = None,
    ) -> Explanation:
        """Map what a class loses where a part of the clip is hidden (Zeiler and Fergus 2014, over space and time).

        A window of the clip's own mean colour is put everywhere in turn; the value of a pixel is the mean fall of the
        class's log-probability over the windows that hide it. (A window of a colour that the clip does not have, such
        as grey on a dark background, is an object itself.)

        Args:
          clips: see the class.
          classes: likewise.
          window: frames, rows and columns that are hidden at a time; default: a quarter of the clip's.
          stride: from one window to the next; default: half a window. The cost is one forward pass a window.

        Raises:
          ValueError: for clips or classes that are none of this network, and for a window that is larger than the clip,
            or a stride that is larger than the window.
        """
        clips = _batch(clips, self.run)
        shape = clips.shape[1:4]
        size = tuple(max(side // 4, 1) for side in shape) if window is None else window
        step = tuple(max(side // 2, 1) for side in size) if stride is None else stride
        if not all(1 <= every <= side <= whole for every, side, whole in zip(step, size, shape, strict=True)):
            raise ValueError(f"a window {size} every {step} does not hide all of a clip of {shape}")
        places = list(maps.windows(shape, size, step))
        return self._hiding(clips, classes, places)

    def frame_importance(self, clips: np.ndarray, classes: Classes = None) -> Explanation:
        """Map what a class loses where a frame is hidden: occlusion by whole frames, one at a time."""
        clips = _batch(clips, self.run)
        places = [(slice(t, t + 1), slice(None), slice(None)) for t in range(clips.shape[1])]
        return self._hiding(clips, classes, places)

    @property
    def _dtype(self) -> jnp.dtype:
        return jnp.dtype(self.run.config.model.dtype)

    def _scores(self, variables: Variables, clips: jax.Array) -> jax.Array:
        scores: Any = self.run.model.apply(variables, normalize(clips, self.run.config.data, self._dtype), train=False)
        return jax.nn.log_softmax(scores)

    def _differentiated(
        self, variables: Variables, clips: jax.Array, classes: jax.Array, *, layers: tuple[Layer, ...]
    ) -> Gradients:
        video = normalize(clips, self.run.config.data, self._dtype)
        return gradients(self.run.model, variables, video, classes, layers)

    def _pooled(self, variables: Variables, clips: jax.Array, *, layer: Layer) -> tuple[jax.Array, jax.Array]:
        video = normalize(clips, self.run.config.data, self._dtype)
        scores, found = features(self.run.model, variables, video, layer)
        pooled = [jnp.mean(x.astype(jnp.float32), axis=(1, 2, 3)) for x in found]
        return jnp.concatenate(pooled, axis=-1), jax.nn.softmax(scores)

    def _wanted(self, classes: Classes, clips: int) -> np.ndarray:
        """Return a class for each clip, -1 for the best one."""
        count = len(self.run.classes)
        numbers = np.asarray(-1 if classes is None else classes)
        if not np.issubdtype(numbers.dtype, np.integer) or numbers.shape not in ((), (clips,)):
            raise ValueError(f"classes: expected a number, or {clips} of them, one a clip; got {classes!r}")
        if classes is not None and (numbers.min() < 0 or numbers.max() >= count):
            raise ValueError(f"classes: expected numbers from 0 to {count - 1}; got {classes!r}")
        return np.broadcast_to(numbers, clips).astype(np.int32)

    def _log_probabilities(self, clips: np.ndarray) -> np.ndarray:
        return np.asarray(self._score(self.run.variables, clips))

    def _hiding(self, clips: np.ndarray, classes: Classes, places: Sequence[tuple[slice, slice, slice]]) -> Explanation:
        """Return the map of the falls of a class's log-probability, for windows that are hidden one at a time."""
        wanted = self._wanted(classes, len(clips))
        whole = self._log_probabilities(clips)
        chosen = np.where(wanted < 0, whole.argmax(axis=1), wanted)
        values = [
            maps.spread(whole[i, label] - self._hidden(clip, places)[:, label], places, clip.shape[:3])
            for i, (clip, label) in enumerate(zip(clips, chosen, strict=True))
        ]
        return Explanation(maps.scaled(np.stack(values)), chosen, np.exp(whole))

    def _hidden(self, clip: np.ndarray, places: Sequence[tuple[slice, slice, slice]]) -> np.ndarray:
        """Return log-probabilities ``[windows, K]`` of a clip with each window hidden."""
        found, colour = [], np.round(clip.mean(axis=(0, 1, 2))).astype(np.uint8)
        for start in range(0, len(places), self.batch_size):
            some = places[start : start + self.batch_size]
            batch = np.repeat(clip[None], self.batch_size, axis=0)  # one shape, one program
            for copy, place in zip(batch, some, strict=False):
                copy[place] = colour
            found.append(self._log_probabilities(batch)[: len(some)])
        return np.concatenate(found)


def _batch(clips: np.ndarray, run: "Run") -> np.ndarray:
    """Return clips ``[N, T, H, W, 3]``; raises ValueError where the network does not take them."""
    clips = np.asarray(clips)
    several = clips if clips.ndim == 5 else clips[None]
    frames = run.config.data.clip_shape[0]
    if clips.dtype != np.uint8 or several.ndim != 5 or several.shape[-1] != 3 or not len(several):
        raise ValueError(f"expected clips uint8 [T, H, W, 3] or [N, T, H, W, 3]; got {clips.dtype} {clips.shape}")
    if several.shape[1] != frames:
        raise ValueError(f"the network takes clips of {frames} frames; got {several.shape[1]}")
    return several
