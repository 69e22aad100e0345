"""Which array of a state dict goes where in a network, and the report of it.

Names decide, as a :class:`~dnr_jax.convert.state_dict.Naming` has them. Everything has to fit, both ways, but for what
a caller allows to differ. Kernels of image networks are inflated where the network has a temporal axis.
"""

import collections
import dataclasses
import fnmatch
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from dnr_jax.convert.state_dict import flat, named_naming, namings
from dnr_jax.dnr.functional import statistics_dtype
from dnr_jax.dnr.statistics import Variables
from dnr_jax.models.blocks import place_of_blocks
from dnr_jax.models.naming import OWN, ConversionError, Naming

GROUPS: Mapping[str, tuple[str, ...]] = {
    "head": ("head/*",),
    "relays": ("*/relay*",),
    "fast_pathway": ("backbone/fast_*", "backbone/lateral*"),
    "temporal": ("*/temporal/*", "backbone/difference_*", "backbone/conv1_temp/*", "backbone/*conv*/bias"),
}
"""Names for what may differ, as patterns of our paths. ``relays`` also covers the learned scales and shifts of a source
where the network predicts them; ``fast_pathway``, SlowFast's lateral connections; ``temporal`` is what TANet and TDN
add to a ResNet, with the biases of TDN's convolutions."""
_TWINS = (
    (re.compile(r"^backbone/(?:difference_conv|conv1_temp)/kernel$"), "backbone/conv1/kernel"),
    (re.compile(r"^backbone/difference_layer1/"), "backbone/layer1/"),
)
"""What TDN's second stem and second first stage start from where the source is a ResNet, which has one of each."""
_IGNORED = re.compile(r"(.*\.)?(num_batches_tracked|n_averaged|data_preprocessor\.(mean|std))")
"""Buffers that are no weights: torch's counters, and MMAction2's normalisation of the pixels."""
_WRAPPER = r"_(?:orig_mod|checkpoint_wrapped_module|fsdp_wrapped_module|forward_module)"
_WRAPPERS = re.compile(rf"^(?:(?:module|{_WRAPPER})\.)+|(?<=\.)(?:{_WRAPPER}\.)+")
"""What data parallelism, averaging, compilation, recomputation and sharding put before every name, the last three also
before those of a part of the network; ``module`` within a name may be a network's own."""


def parse_allow(text: str) -> tuple[str, ...]:
    """Return the entries of a list such as ``head,relays,backbone/norm1/*``.

    Raises:
      ConversionError: for an entry that is neither a group nor a pattern.
    """
    entries = tuple(entry for part in text.split(",") if (entry := part.strip()))
    for entry in entries:
        if entry not in GROUPS and not re.search(r"[*?/.]", entry):
            raise ConversionError(
                f"{entry!r} is not known as something that may differ; expected {', '.join(GROUPS)}, or a pattern of "
                "our paths or of the source's names, such as 'backbone/layer4/*' or 'aux_head.*'"
            )
    return entries


@dataclasses.dataclass(frozen=True)
class ImportReport:
    """What became of every array of a source and of a network.

    Attributes:
      source: the file or folder.
      naming: name of the code base.
      loaded: the source's names by our paths.
      inflated: those of ``loaded`` (our paths) that were kernels without a temporal axis.
      missing: names that the source lacks, by our paths.
      unexpected: names of the source that the network has nothing for.
      mismatched: by our paths, a line about shapes that differ.
      fresh: paths that keep their initial values, as a caller allowed, and the entry that allowed it.
      dropped: names of the source that are not used, as a caller allowed, and the entry that allowed it.
      ignored: entries of the source that are no weights.
      started: paths of relays that start at scales and shifts of the source.
      remarks: lines about what was computed from the source.
      ambiguous: names of the source that become one name, by this name.
      broken: by our paths, a line about values that are not finite.
    """

    source: str
    naming: str
    loaded: Mapping[str, str]
    inflated: tuple[str, ...]
    missing: Mapping[str, str]
    unexpected: tuple[str, ...]
    mismatched: Mapping[str, str]
    fresh: Mapping[str, str]
    dropped: Mapping[str, str]
    ignored: tuple[str, ...]
    started: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    ambiguous: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    broken: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def problems(self) -> list[str]:
        """A line for each name that does not fit and was not allowed to differ."""
        lines = [f"missing: {key}; here {path}" for path, key in self.missing.items()]
        lines += [f"unexpected: {key}" for key in self.unexpected]
        lines += [f"ambiguous: {', '.join(keys)}; expected one {name}" for name, keys in self.ambiguous.items()]
        lines += [f"values: {line}" for line in self.broken.values()]
        return sorted(lines + [f"shape: {line}" for line in self.mismatched.values()])

    def check(self) -> None:
        """Raise ConversionError where anything does not fit; what can be done where all of that is in the head."""
        if problems := self.problems:
            lines = [f"{self.source} ({self.naming}) does not fit the network:", *problems]
            if self._only_head:
                lines.append("--config.init.allow=head (of dnr convert: --allow head) begins with a new classifier")
            raise ConversionError("\n  ".join(lines))

    @property
    def _only_head(self) -> bool:
        """Whether everything that does not fit is in the head, so that a new one is what is missing."""
        inside = [may_differ(("head",), path, "") for path in (*self.missing, *self.mismatched, *self.broken)]
        return all([*inside, *(may_differ(("head",), "", key) for key in self.unexpected)])

    def summary(self) -> str:
        """Return the report in few lines, as it is printed."""
        total = sum(map(len, (self.loaded, self.missing, self.mismatched, self.broken, self.fresh, self.started)))
        inflated = f", {len(self.inflated)} of them inflated from 2D" if self.inflated else ""
        lines = [f"weights of {self.source} ({self.naming}): {len(self.loaded)} of {total} arrays loaded{inflated}"]
        for what, names in (("left as initialised", self.fresh), ("not used", self.dropped)):
            if names:
                counts = collections.Counter(names.values())
                lines.append(f"{what}: " + ", ".join(f"{count} ({entry})" for entry, count in counts.items()))
        if self.ignored:
            lines.append(f"ignored: {', '.join(self.ignored)}")
        return "\n".join([*lines, *self.remarks])

    def __str__(self) -> str:
        """Return the summary and every name, as it is saved."""
        sections = {
            "does not fit": self.problems,
            "left as initialised": self.fresh,
            "started from scales and shifts": self.started,
            "not used": self.dropped,
            "inflated": self.inflated,
            "loaded": [f"{path} <- {key}" for path, key in self.loaded.items()],
        }
        lines = [f"\n{title}:\n  " + "\n  ".join(names) for title, names in sections.items() if names]
        return "\n".join([self.summary(), *lines])


@dataclasses.dataclass(frozen=True, eq=False)
class Match:
    """The arrays of a source that fit a network.

    Attributes:
      arrays: by collection and path, in our layout and the network's shapes.
      replaced: the source's scales and shifts of norms that predict theirs, by the paths that they would have here.
      report: what became of everything.
    """

    arrays: Mapping[tuple[str, str], np.ndarray]
    replaced: Mapping[str, np.ndarray]
    report: ImportReport

    def overlay(self, variables: Mapping[str, Any]) -> Variables:
        """Return ``variables`` with the arrays in their places, in the dtypes and placements of what was there."""
        filled: dict[str, dict[str, Any]] = {collection: {} for collection in variables}
        for (collection, path), leaf in flat(variables).items():
            array = self.arrays.get((collection, path))
            filled[collection][path] = leaf if array is None else _placed(array, leaf)
        return {c: traverse_util.unflatten_dict(leaves, sep="/") for c, leaves in filled.items()}


def _placed(array: np.ndarray, leaf: Any) -> Any:
    array = array.astype(leaf.dtype)
    sharding = getattr(leaf, "sharding", None)
    return jax.numpy.asarray(array) if sharding is None else jax.device_put(array, sharding)


def match(
    state: Mapping[str, np.ndarray],
    template: Mapping[str, Any],
    naming: Naming,
    *,
    allow: Sequence[str] = (),
    rename: Callable[[str], str] = str,
    labels: tuple[str, str] = ("the state dict", "by names"),
    ignored: Iterable[str] = (),
) -> Match:
    """Find the place of every array.

    Args:
      state: arrays under the code base's names, in its layouts.
      template: variables of the network, or their shapes (``jax.eval_shape`` of ``model.init``).
      naming: the code base.
      allow: what may differ: names of :data:`GROUPS`, or patterns (``fnmatch``) of our paths and of the source's names.
        What is allowed and missing, or of another shape, stays as it was initialised. Of several arrays that become
        one name, those that are allowed to differ are not used.
      rename: from the source's names to the naming's, where prefixes differ; see :func:`recognize`.
      labels: source and naming, for the report.
      ignored: entries of the source beside ``state``, for the report.

    Returns:
      What fits, and the report, whose ``check`` raises where something does not.

    Raises:
      ConversionError: for a network whose blocks are stacked, which no code base has names for.
    """
    _check_unstacked(template)
    buffers = collections.Counter(key.rpartition(".")[2] for key in state if _IGNORED.fullmatch(key))
    keys, ambiguous, dropped = renamed([key for key in state if not _IGNORED.fullmatch(key)], rename, allow)
    given = {name: (key, np.asarray(state[key])) for name, key in keys.items()}
    leaves, everything = flat(template), dict(given)
    new_head = _new_head(given, leaves, naming) if "head" in allow else ()
    arrays: dict[tuple[str, str], np.ndarray] = {}
    loaded: dict[str, str] = {}
    inflated: list[str] = []
    missing, mismatched, broken, fresh = {}, {}, {}, {}
    for (collection, path), leaf in leaves.items():
        name = _name(naming, path)
        key, found = given.pop(name, ("", None))
        fitted = None
        if found is not None and path not in new_head and _same_kind(found.dtype, leaf.dtype):
            fitted = _fit(naming.decode(found), tuple(leaf.shape))
        twin = _twin(path) if found is None and "temporal" in allow else ""
        if twin and (lent := everything.get(_name(naming, twin))):
            fitted = _fit_twin(naming.decode(lent[1]), tuple(leaf.shape))
            key, found = lent if fitted is not None else (key, found)
        infinite = 0 if fitted is None else int(np.sum(~np.isfinite(fitted)))
        if found is not None and fitted is not None and not infinite:
            arrays[collection, path] = fitted
            loaded[path] = key
            if fitted.ndim != found.ndim:
                inflated.append(path)
        elif entry := may_differ(allow, path, key or name):
            fresh[path] = entry
            if key:
                dropped[key] = entry
        elif found is None:
            missing[path] = name
        elif infinite:
            broken[path] = f"{key} has {infinite} of {found.size} that are not finite; here {path}"
        else:
            kinds = ("", "") if _same_kind(found.dtype, leaf.dtype) else (f"{found.dtype} ", f"{leaf.dtype} ")
            shape = tuple(leaf.shape)
            mismatched[path] = f"{key} is {kinds[0]}{found.shape}; here {path} is {kinds[1]}{shape}"
            if found.shape == shape and not kinds[0]:  # as a transposed kernel is
                mismatched[path] += f", which is {naming.encode(np.broadcast_to(0, shape)).shape} there"
    replaced = {}
    predicted = _predicted(naming, [path for _, path in leaves])
    unexpected = []
    for name, (key, found) in given.items():
        path = predicted.get(name, "")
        entry = "relays" if path and "relays" in allow else may_differ(allow, "", key)
        if entry:
            dropped[key] = entry
            if path:
                replaced[path] = naming.decode(found)
        else:
            unexpected.append(key)
    notes = (*(f"{count} {name}" for name, count in buffers.items()), *ignored)
    source, label = labels
    report = ImportReport(
        source,
        label,
        loaded,
        tuple(inflated),
        missing,
        tuple(unexpected),
        mismatched,
        fresh,
        dropped,
        notes,
        ambiguous=ambiguous,
        broken=broken,
    )
    return Match(arrays, replaced, report)


def _check_unstacked(template: Mapping[str, Any]) -> None:
    if stacked := [path for _, path in flat(template) if place_of_blocks(path.split("/")) is not None]:
        raise ConversionError(
            f"{stacked[0]}: the blocks of the network are stacked (scan_blocks), and other code bases name each; "
            "expected its variables by unstack_blocks, or those of the network with scan_blocks=False, which "
            "stack_blocks stacks again (both are in dnr_jax.models.blocks)"
        )


def renamed(
    keys: Iterable[str], rename: Callable[[str], str], allow: Sequence[str]
) -> tuple[dict[str, str], dict[str, tuple[str, ...]], dict[str, str]]:
    """Return the source's names by the naming's, of which each may stand for one array only.

    Args:
      keys: the source's names.
      rename: from these to the naming's.
      allow: see :func:`match`.

    Returns:
      One name of the source by each of the naming's; all of them where there are several; and those that are not used
      as ``allow`` says, with the entry that does.
    """
    found: dict[str, list[str]] = {}
    for key in keys:
        found.setdefault(rename(key), []).append(key)
    several = [key for same in found.values() if len(same) > 1 for key in same]
    dropped = {key: entry for key in several if (entry := may_differ(allow, "", key))}
    left = {name: [key for key in same if key not in dropped] for name, same in found.items()}
    ambiguous = {name: tuple(same) for name, same in left.items() if len(same) > 1}
    return {name: same[0] for name, same in left.items() if same}, ambiguous, dropped


def _same_kind(given: Any, ours: Any) -> bool:
    """Return whether both are floating-point dtypes, or none: whole numbers of quantised weights are no weights."""
    return jax.numpy.issubdtype(given, jax.numpy.floating) == jax.numpy.issubdtype(ours, jax.numpy.floating)


def _new_head(
    given: Mapping[str, tuple[str, np.ndarray]], leaves: Mapping[tuple[str, str], Any], naming: Naming
) -> list[str]:
    """Return the paths of the head where any of it does not fit: half a classifier is of no use."""
    head = {path: tuple(leaf.shape) for (_, path), leaf in leaves.items() if may_differ(("head",), path, "")}
    found = {path: given[name][1] for path in head if (name := _name(naming, path)) in given}
    fits = all(path in found and naming.decode(found[path]).shape == shape for path, shape in head.items())
    return [] if fits else list(head)


def _name(naming: Naming, path: str) -> str:
    """Return the naming's key, or for what has none a line that no source holds."""
    try:
        return naming.key(path)
    except ConversionError as error:
        return f"({error})"


def _fit(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the array in ``shape``, inflated where that has one axis more in front; None where it cannot be."""
    if array.shape == shape:
        return array
    if array.ndim == 4 and len(shape) == 5 and array.shape[:2] == shape[1:3] and array.shape[3] == shape[4]:
        return inflate(array, shape[0], shape[3])
    return None


def _twin(path: str) -> str:
    """Return the path whose weights ``path`` starts from in an image network; empty for none."""
    return next((pattern.sub(twin, path) for pattern, twin in _TWINS if pattern.match(path)), "")


def _fit_twin(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return a twin's array in ``shape``; a kernel of colours becomes one of differences, or None where it cannot be.

    Each channel of differences gets the mean over the colours, as in TDN's repository (Wang et al. 2016, "TSN").
    """
    if array.ndim == 4 and array.shape[2] != shape[2]:
        array = np.repeat(_wide(array).mean(axis=2, keepdims=True), shape[2], axis=2)
    return array if array.shape == shape else None


def inflate(kernel: np.ndarray, frames: int, channels: int) -> np.ndarray | None:
    """Turn a 2D kernel into a 3D one that gives a still video the features of the image.

    The kernel is repeated over time and divided by the number of frames (Carreira and Zisserman 2017, "I3D"). Input
    channels beyond the source's, such as those of SlowFast's lateral connections, get zeros, as in MMAction2.

    Args:
      kernel: ``[H, W, I, O]``.
      frames: temporal extent of the result.
      channels: its input channels.

    Returns:
      ``[frames, H, W, channels, O]`` in float32 or wider, or None where ``channels`` is less than ``I``.
    """
    more = channels - kernel.shape[2]
    if more < 0:
        return None
    padded = np.pad(_wide(kernel), ((0, 0), (0, 0), (0, more), (0, 0)))
    return np.repeat(padded[None] / np.asarray(frames, padded.dtype), frames, axis=0)


def _wide(array: np.ndarray) -> np.ndarray:
    """Return an array in float32 or wider: what is computed from weights of fewer bits is not rounded to theirs."""
    return array.astype(statistics_dtype(array.dtype), copy=False)


def may_differ(allow: Sequence[str], path: str, key: str) -> str:
    """Return the entry, of those of :func:`parse_allow`, that allows our ``path`` or the source's ``key`` to differ.

    Empty where none does; a name that is empty is matched by none.
    """
    for entry in allow:
        patterns = GROUPS.get(entry, (entry,))
        if any(fnmatch.fnmatchcase(name, pattern) for name in (path, key) for pattern in patterns if name):
            return entry
    return ""


def _predicted(naming: Naming, paths: Sequence[str]) -> dict[str, str]:
    """Return the names that the scale and shift of norms would have which predict them, and their paths."""
    present = set(paths)
    norms = (path.removesuffix("/mean") for path in paths if path.endswith("/mean"))
    absent = [norm for norm in norms if f"{norm}/scale" not in present]
    return {naming.key(path): path for norm in absent for path in (f"{norm}/scale", f"{norm}/bias")}


def from_state_dict(state: Mapping[str, np.ndarray], template: Mapping[str, Any], naming: Naming) -> Variables:
    """Import a state dict that has to fit in every name and shape.

    Args:
      state: arrays under the code base's names, in torch's layouts.
      template: variables of the network to fill, or their shapes (``jax.eval_shape`` of ``model.init``).
      naming: the code base.

    Returns:
      Variables of the template's structure and dtypes.

    Raises:
      ConversionError: where a name is missing, unexpected or there twice, or a shape differs; it lists all of them.
        Also for a template with stacked blocks (``scan_blocks``).
    """
    found = match(state, template, naming)
    found.report.check()
    return found.overlay(template)


@dataclasses.dataclass(frozen=True)
class Recognition:
    """The code base of a state dict.

    Attributes:
      name: in :func:`~dnr_jax.convert.namings`.
      strip: prefix of the names in the state dict that the naming does not have.
      add: prefix of the naming that the state dict does not have.
    """

    name: str
    strip: str = ""
    add: str = ""

    def rename(self, key: str) -> str:
        """Return the naming's key for one of the state dict's."""
        key = _WRAPPERS.sub("", key)
        return self.add + key.removeprefix(self.strip) if key.startswith(self.strip) else key


def recognize(state: Mapping[str, np.ndarray], template: Mapping[str, Any], naming: str = "") -> Recognition:
    """Tell from its names which code base a state dict is from.

    That is the one of whose names for the network's variables the most are in it. Names may have a prefix that the
    naming does not have, and may lack one that it has: ``module.``, ``backbone.``, ``base_model.``, whatever half of
    them share.

    Args:
      state: arrays by name.
      template: variables of the network, or their shapes.
      naming: a name in :func:`~dnr_jax.convert.namings`, where a person says which it is.

    Raises:
      ConversionError: where no code base's names are in it, or there is none called ``naming``.
    """
    known = {naming: named_naming(naming)} if naming else namings()
    given = {_WRAPPERS.sub("", key) for key in state if not _IGNORED.fullmatch(key)}
    paths = [path for _, path in flat(template)]
    best, hits = Recognition(naming), 0
    for name in known:
        wanted = {_name(known[name], path) for path in paths}
        for strip in _shared_prefixes(given):
            stripped = {key.removeprefix(strip) for key in given if key.startswith(strip)}
            for add in _shared_prefixes(wanted):
                found = sum(add + key in wanted for key in stripped)
                if found > hits:
                    best, hits = Recognition(name, strip, add), found
    if 10 * hits < len(paths):
        bases = naming or f"any code base known here ({', '.join(known)})"
        there, here = sorted(given)[:3], sorted(_name(known.get(naming, OWN), path) for path in paths)[:3]
        raise ConversionError(
            f"the names in it are not those that {bases} gives to this network's weights; there: "
            f"{', '.join(there)}, ...; wanted: {', '.join(here)}, ..."
        )
    return best


def _shared_prefixes(names: Iterable[str]) -> list[str]:
    """Return the prefixes up to a dot that at least half of the names have, the shortest first."""
    counts: collections.Counter[str] = collections.Counter()
    total = 0
    for name in names:
        parts = name.split(".")[:-1]
        counts.update(".".join(parts[: i + 1]) + "." for i in range(min(len(parts), 3)))
        total += 1
    return ["", *sorted((p for p, count in counts.items() if count >= math.ceil(total / 2)), key=len)]
