"""Heads: from the features of a backbone to class scores."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dnr_jax.dnr.functional import statistics_dtype


class TSNHead(nn.Module):
    """Head of the Temporal Segment Network: spatial mean, segment consensus, dropout, linear.

    Attributes:
      num_classes: number of scores.
      dropout: share of features dropped in training.
      param_dtype: dtype of the parameters; pooling and the linear layer run in it or wider.
      frame_scores: score each frame, with a dropout of its own, and average the scores instead of the features, as
        MMAction2's ``TSMHead`` does. Without dropout the scores are the same.
      init_std: standard deviation of the classifier's initial weights (MMAction2: 0.01 in TSN, 0.001 in ``TSMHead``).
    """

    num_classes: int
    dropout: float = 0.4
    param_dtype: Any = jnp.float32
    frame_scores: bool = False
    init_std: float = 0.01

    @nn.compact
    def __call__(self, features: jax.Array, *, train: bool) -> jax.Array:
        """Map ``[N, T, H, W, C]`` to scores ``[N, num_classes]``; needs the ``dropout`` key in training."""
        wide = features.astype(statistics_dtype(features.dtype))
        frames = jnp.mean(wide, axis=(2, 3))
        scored = frames if self.frame_scores else jnp.mean(frames, axis=1)
        scores = classified(scored, self.num_classes, self.dropout, self.init_std, self.param_dtype, train)
        return jnp.mean(scores, axis=1) if self.frame_scores else scores


class PathwayHead(nn.Module):
    """Mean over time and space of each pathway, concatenation, dropout, linear.

    With one pathway MMAction2's ``I3DHead``, with two its ``SlowFastHead``.

    Attributes:
      num_classes: number of scores.
      dropout: share of features dropped in training.
      order: in which the pathways' features are concatenated; empty for the order in which they come.
      param_dtype: dtype of the parameters; pooling and the linear layer run in it or wider.
    """

    num_classes: int
    dropout: float = 0.5
    order: tuple[int, ...] = ()
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, pathways: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """Map features, each ``[N, T, H, W, C]`` of its own, to scores ``[N, num_classes]``.

        Needs the ``dropout`` key in training.
        """
        pooled = [jnp.mean(x.astype(statistics_dtype(x.dtype)), axis=(1, 2, 3)) for x in pathways]
        features = jnp.concatenate([pooled[i] for i in self.order or range(len(pooled))], axis=-1)
        # MMAction2 and PySlowFast draw the classifier's weights from N(0, 0.01).
        return classified(features, self.num_classes, self.dropout, 0.01, self.param_dtype, train)


def classified(
    features: jax.Array, num_classes: int, dropout: float, init_std: float, param_dtype: Any, train: bool
) -> jax.Array:
    """Map ``[..., C]`` to scores ``[..., num_classes]`` by dropout and a linear layer ``fc``; in a compact method."""
    kept = nn.Dropout(dropout, deterministic=not train)(features)
    init = nn.initializers.normal(init_std)
    return nn.Dense(num_classes, kernel_init=init, param_dtype=param_dtype, name="fc")(kept)
