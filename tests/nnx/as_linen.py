"""NNX modules called as Linen modules are, so that the same tests run over both."""

import dataclasses
from collections.abc import Callable
from typing import Any

from flax import nnx

from dnr_jax.nnx import from_linen, to_linen


@dataclasses.dataclass(frozen=True)
class AsLinen:
    """A module whose variables are given at each call."""

    make: Callable[..., nnx.Module]
    """Returns the module, given ``rngs``."""

    def module(self) -> nnx.Module:
        return self.make(rngs=nnx.Rngs(0))

    def init(self, key: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return to_linen(self.module())

    def apply(self, variables: Any, *args: Any, mutable: Any = False, method: str = "__call__", **kwargs: Any) -> Any:
        module = from_linen(self.module(), variables)
        found = getattr(module, method)(*args, **kwargs)
        if mutable is False:
            return found
        return found, {name: tree for name, tree in to_linen(module).items() if name in mutable}

    def initialize_carry(self, *args: Any) -> Any:
        return self.module().initialize_carry(*args)
