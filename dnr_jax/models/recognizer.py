"""Recognisers: a backbone on frames and a head that turns its features into class scores."""

from typing import Any

import chex
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
        kept = nn.Dropout(self.dropout, deterministic=not train)(scored)
        scores = nn.Dense(
            self.num_classes,
            kernel_init=nn.initializers.normal(self.init_std),
            param_dtype=self.param_dtype,
            name="fc",
        )(kept)
        return jnp.mean(scores, axis=1) if self.frame_scores else scores


class Recognizer(nn.Module):
    """A backbone on clips, of frames one by one or over time and space, and a head that scores its features.

    Attributes:
      backbone: maps ``[N, T, H, W, 3]`` to the features that the head takes.
      head: maps those features to scores.
    """

    backbone: nn.Module
    head: nn.Module

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Score clips.

        Args:
          x: frames ``[N, T, H, W, 3]``, normalised.
          train: training mode: batch statistics and dropout. Needs ``mutable=["batch_stats"]`` and a ``dropout`` key.

        Returns:
          Scores before the softmax ``[N, num_classes]``, float32 or wider.

        Raises:
          AssertionError: where ``x`` has another shape, such as views that were not taken apart.
        """
        chex.assert_shape(x, (None, None, None, None, 3), custom_message="clips must be [N, T, H, W, 3]")
        return self.head(self.backbone(x, train=train), train=train)
