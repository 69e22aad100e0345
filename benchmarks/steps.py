"""Steps of networks as compiled programs, and how they are timed: what the benchmarks here share.

Steps that are compared run in turn, one each, round after round, so that a machine whose speed drifts slows all alike.
A figure is the median over the rounds, a ratio the median of the ratios within a round.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dnr_jax.config import Network
from dnr_jax.models import create_model
from dnr_jax.models.complexity import abstract_variables, count_parameters
from dnr_jax.runs.devices import compiler_options


@dataclasses.dataclass
class Program:
    """A compiled step with its arguments.

    Attributes:
      start: starts the step and returns what it will give, for which nothing waits yet.
      temporary_bytes: of what it keeps meanwhile.
      total_bytes: with its arguments and results.
      flops: XLA's count.
      text_bytes: of the program before XLA optimises it.
    """

    start: Callable[[], Any]
    trace_seconds: float
    compile_seconds: float
    temporary_bytes: int
    total_bytes: int
    flops: float
    text_bytes: int

    def run(self) -> Any:
        """Take the step and wait for it."""
        return jax.block_until_ready(self.start())

    @property
    def ready_seconds(self) -> float:
        """How long it took until the program was ready."""
        return self.trace_seconds + self.compile_seconds


def compiled(function: Callable[..., Any], *args: Any) -> Program:
    """Trace and compile ``function`` for ``args``, each timed."""
    start = time.perf_counter()
    lowered = jax.jit(function, compiler_options=compiler_options(jax.default_backend())).lower(*args)
    traced = time.perf_counter()
    program = lowered.compile()
    finished = time.perf_counter()
    cost, memory = program.cost_analysis() or {}, program.memory_analysis()
    return Program(
        start=lambda: program(*args),
        trace_seconds=traced - start,
        compile_seconds=finished - traced,
        temporary_bytes=memory.temp_size_in_bytes,
        total_bytes=memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes,
        flops=cost.get("flops", float("nan")),
        text_bytes=len(lowered.as_text()),
    )


def drawn(shapes: Any) -> Any:
    """Return variables of these shapes, drawn on the host: compiling their initialisation takes longer than a step.

    Kernels are normal over the fan-out, means and biases zeros, scales and variances ones.
    """
    rng = np.random.default_rng(0)

    def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        if path[-1].key == "kernel":
            deviation = (2 / (math.prod(leaf.shape[:-2]) * leaf.shape[-1])) ** 0.5
            return jnp.asarray(rng.normal(0, deviation, leaf.shape), leaf.dtype)
        return jnp.full(leaf.shape, path[-1].key in ("scale", "var"), leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


class NetworkSteps:
    """A network's train step (forward, backward, SGD with momentum) and evaluation step.

    Attributes:
      variables: those that the steps start from.
    """

    def __init__(self, config: Network, video: jax.Array):
        """Initialise a network for ``video``, ``[N, T, H, W, 3]``."""
        self._model, self._video = create_model(config), video
        self._labels = jnp.zeros(video.shape[0], jnp.int32)
        self._optimizer = optax.sgd(0.01, momentum=0.9)
        self.variables = drawn(abstract_variables(self._model, video.shape[1:]))

    @functools.cached_property
    def train(self) -> Program:
        """The train step, compiled when it is first asked for; returns parameters, statistics, momentum and loss."""
        return compiled(*self.step("train"))

    @functools.cached_property
    def evaluate(self) -> Program:
        """The evaluation step, likewise; returns the scores."""
        return compiled(*self.step("eval"))

    def step(self, name: str) -> tuple[Any, ...]:
        """Return a function and its arguments.

        Args:
          name: ``eval`` returns the scores; ``forward`` loss and statistics in training mode; ``gradient`` gradients as
            well; ``train`` parameters, statistics, momentum and loss.
        """
        params, stats = self.variables["params"], self.variables.get("batch_stats", {})
        if name == "train":
            return self._train_step, params, stats, self._optimizer.init(params), self._video
        if name == "eval":
            return functools.partial(self._model.apply, train=False), self.variables, self._video
        return {"forward": self._loss, "gradient": self._gradient}[name], params, stats, self._video

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return count_parameters(self.variables)

    def _loss(self, params: Any, stats: Any, video: jax.Array) -> Any:
        logits, updates = self._model.apply(
            {"params": params, "batch_stats": stats},
            video,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(1)},
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, self._labels)
        return losses.mean(), updates.get("batch_stats", {})

    def _gradient(self, params: Any, stats: Any, video: jax.Array) -> Any:
        return jax.value_and_grad(self._loss, has_aux=True)(params, stats, video)

    def _train_step(self, params: Any, stats: Any, momentum: Any, video: jax.Array) -> Any:
        (loss, stats), grads = self._gradient(params, stats, video)
        updates, momentum = self._optimizer.update(grads, momentum, params)
        return optax.apply_updates(params, updates), stats, momentum, loss


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
"""How time is taken; ``cpu`` is that of this process's threads, which other work on the machine hardly changes."""


def timed(run: Callable[[], Any], clock: str = "wall") -> float:
    """Return the seconds one call takes."""
    start = CLOCKS[clock]()
    run()
    return CLOCKS[clock]() - start


def in_flight(start: Callable[[], Any], wait: Callable[[Any], Any], steps: int) -> Callable[[], Any]:
    """Return a call that starts so many steps one after the other and waits for the last of them.

    That is how a trainer uses an accelerator: the host gets a step ready while the device is at the one before.
    """

    def run() -> Any:
        for _ in range(steps):
            result = start()
        return wait(result)

    return run


def seconds_in_turn(runs: Sequence[Callable[[], Any]], rounds: int, clock: str = "wall") -> np.ndarray:
    """Return the seconds ``[rounds, len(runs)]`` of calls in turn, after one of each that does not count."""
    for run in runs:
        run()
    return np.array([[timed(run, clock) for run in runs] for _ in range(rounds)])


def matmul_peak(dtype: str, size: int = 2048, repeats: int = 5) -> float:
    """Return the most FLOP a second that products of square matrices of a dtype reached on the default device.

    The entries are random: with equal ones, an accelerator may need less power and run faster than it does with data.
    """
    x = jax.random.normal(jax.random.key(0), (size, size), dtype) / size**0.5
    chain = 4  # products one after the other, so that starting the program hardly counts

    @jax.jit
    def products(x: jax.Array) -> jax.Array:
        y = x
        for _ in range(chain):
            y = y @ x
        return y

    seconds = seconds_in_turn([lambda: jax.block_until_ready(products(x))], repeats)
    return chain * 2 * size**3 / float(seconds.min())
