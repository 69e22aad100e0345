"""Weights of any source, for a network of ours: files of other code bases, our own files, and folders of runs."""

import copy
import dataclasses
import fnmatch
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dnr_jax.config import ConfigError, ExperimentConfig, Network, from_json, to_dict, validate_network
from dnr_jax.convert.files import FOLDER_FILES, check_target, read_weight_file, write_weight_file
from dnr_jax.convert.matching import (
    GROUPS,
    ImportReport,
    Match,
    match,
    may_differ,
    parse_allow,
    recognize,
    renamed,
)
from dnr_jax.convert.relays import check_start, start_relays
from dnr_jax.convert.state_dict import StateDict, flat, named_naming, to_state_dict
from dnr_jax.dnr.statistics import Variables
from dnr_jax.models import create_model
from dnr_jax.models.blocks import predicting_norms, stack_blocks, unstack_blocks
from dnr_jax.models.complexity import abstract_variables
from dnr_jax.models.naming import OWN, ConversionError
from dnr_jax.runs.checkpoint import CHECKPOINTS_FOLDER
from dnr_jax.runs.devices import initializer_options, make_mesh
from dnr_jax.runs.folder import CONFIG_FILE, check_new, load_run, write_run

CONFIG_ENTRY, CLASSES_ENTRY, NAMING_ENTRY = "dnr_jax.config", "dnr_jax.classes", "dnr_jax.naming"
"""Entries of the text beside the arrays of our own safetensors files."""


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Weights as they were found.

    Attributes:
      name: the file or folder.
      state: arrays by name.
      naming: the code base, where the source says so; otherwise empty.
      ignored: other entries of the source.
      config: the experiment, where the source says so.
      classes: names of the classes, likewise.
      unread: why the experiment in it cannot be read, in brackets.
    """

    name: str
    state: StateDict
    naming: str = ""
    ignored: tuple[str, ...] = ()
    config: ExperimentConfig | None = None
    classes: tuple[str, ...] = ()
    unread: str = ""


def read_source(path: str | os.PathLike[str], checkpoint: str = "latest") -> Source:
    """Read weights.

    Args:
      path: the work directory of a training run, or a file of weights or a folder with one
        (:func:`dnr_jax.convert.read_weight_file`).
      checkpoint: ``latest`` or ``best``, of a work directory.

    Raises:
      ConfigError: where nothing can be read.
    """
    if _is_run(pathlib.Path(path)):
        run = load_run(pathlib.Path(path), make_mesh(), checkpoint)
        name = f"{path} ({checkpoint} checkpoint, step {run.step})"
        state = to_state_dict(run.variables, OWN)
        return Source(name, state, "own", (), run.config, run.classes)
    file = read_weight_file(path)
    config, unread = _read_config(file.metadata.get(CONFIG_ENTRY, ""))
    return Source(
        f"{path}:{file.entry}" if file.entry else str(path),
        file.state,
        file.metadata.get(NAMING_ENTRY, ""),
        file.ignored,
        config,
        tuple(json.loads(file.metadata.get(CLASSES_ENTRY, "[]"))),
        unread,
    )


def _read_config(text: str) -> tuple[ExperimentConfig | None, str]:
    """Return the experiment of a file of weights, or why it cannot be read: the weights are of use without it."""
    try:
        return (from_json(text) if text else None), ""
    except ConfigError as error:
        return None, f" ({error})"


def _is_run(path: pathlib.Path) -> bool:
    """Return whether a folder is a run's: those of exports have a configuration too, but a file of weights alone."""
    exported = any((path / name).is_file() for name in FOLDER_FILES) and not (path / CHECKPOINTS_FOLDER).is_dir()
    return (path / CONFIG_FILE).is_file() and not exported


def own_metadata(config: ExperimentConfig, classes: tuple[str, ...], naming: str) -> dict[str, str]:
    """Return the text beside the arrays of a safetensors file, from which :func:`read_source` knows what they are."""
    return {
        CONFIG_ENTRY: json.dumps(to_dict(config)),
        CLASSES_ENTRY: json.dumps(classes),
        NAMING_ENTRY: naming,
    }


@dataclasses.dataclass(frozen=True, eq=False)
class Start:
    """Weights that were found to fit a network.

    Attributes:
      report: what became of every array.
      apply: maps the network's variables, as initialised, to those that training starts from.
    """

    report: ImportReport
    apply: Callable[[Mapping[str, Any]], Variables]

    @property
    def complete(self) -> bool:
        """Whether nothing is left as initialised."""
        return not self.report.fresh


def fit_source(source: Source, config: ExperimentConfig) -> Start:
    """Find the place of every array of a source in the network of an experiment; nothing is computed or compiled.

    Args:
      source: the weights.
      config: ``model`` and ``data`` describe the network, ``init`` what may differ.

    Raises:
      ConversionError: where the names are not known, or where something does not fit that ``config.init.allow`` does
        not allow to differ; it lists all of that.
      ConfigError: where ``config.init.relays`` asks for a start that the network or the source does not allow.
    """
    allow = parse_allow(config.init.allow)
    if config.init.relays == "batch_norm":
        check_start(config.model.norm, allow)
    template = template_of(config)
    try:
        recognition = recognize(source.state, template, config.init.naming or source.naming)
    except ConversionError as error:
        raise ConversionError(f"{source.name}: {error}") from error
    naming = named_naming(recognition.name)
    found = match(
        source.state,
        template,
        naming,
        allow=allow,
        rename=recognition.rename,
        labels=(source.name, recognition.name),
        ignored=source.ignored,
    )
    found.report.check()
    if config.init.relays == "batch_norm":
        keys, _, _ = renamed(source.state, recognition.rename, allow)
        found = _with_started_relays(found, template, config, lambda path: keys[naming.key(path)])
    return Start(found.report, lambda variables: _overlay(found, variables, config.model))


def fit_classes(source: Source, config: ExperimentConfig, shown: Sequence[str]) -> tuple[Start, tuple[str, ...]]:
    """Find the place of every array as :func:`fit_source` does, unless the classifier is one of other classes.

    Args:
      source: the weights.
      config: see :func:`fit_source`; a new head (``config.init.allow``) lets the classes differ.
      shown: names of the classes that the videos show.

    Returns:
      The start, and the names of its classifier's classes, in order: none where the source does not name them, or where
      the classifier starts anew.

    Raises:
      ConfigError: also where a class of ``shown`` is none of the classifier's.
    """
    start = fit_source(source, config)
    head = {key for path, key in start.report.loaded.items() if _in_head(path)}
    if not head or len(source.classes) != config.model.num_classes:
        return start, ()
    own = source.classes
    unknown = [name for name in shown if name not in own]
    if not unknown:
        return start, own
    if "head" in parse_allow(config.init.allow):
        others = {key: array for key, array in source.state.items() if key not in head}
        return fit_source(dataclasses.replace(source, state=others), config), ()
    shows, knows = (f"{', '.join(map(repr, names[:10]))}{', ...' * (len(names) > 10)}" for names in (unknown, own))
    raise ConfigError(
        f"init_from: the classifier of {source.name} is for other classes: the data shows {shows}, which is none of "
        f"its {len(own)}: {knows}. --config.init.allow=head begins with a new one"
    )


def classes_kept(source: Source, config: ExperimentConfig, shown: Sequence[str]) -> int:
    """Return how many classes a network has that leaves their number open and keeps the classifier of a source.

    Args:
      source: the weights.
      config: describes the network, whose own number of classes does not count, and in ``init`` what may differ.
      shown: names of the classes that the videos show.

    Returns:
      The number of the source's classes; 0 where it does not name all of ``shown``, or where the head may be new.
    """
    allow, paths = parse_allow(config.init.allow), (path for _, path in flat(_template_of_one_class(config)))
    may_be_new = any(may_differ(allow, path, "") for path in paths if may_differ(("head",), path, ""))
    return 0 if may_be_new or not set(shown) <= set(source.classes) else len(source.classes)


def _with_started_relays(
    found: Match, template: Mapping[str, Any], config: ExperimentConfig, key: Callable[[str], str]
) -> Match:
    """Start the relays at the source's scales and shifts; ``key`` gives the source's name for one of their paths."""
    shapes = {path: tuple(leaf.shape) for (_, path), leaf in flat(template).items()}
    places = predicting_norms(create_model(config.model.unscanned()), config.data.clip_shape)
    start = start_relays(found.arrays, found.replaced, shapes, config.model.norm, places)
    report, used = found.report, {key(path) for path in start.used}
    started = tuple(path for _, path in start.arrays if path in report.fresh)
    report = dataclasses.replace(
        report,
        fresh={path: entry for path, entry in report.fresh.items() if path not in started},
        dropped={name: entry for name, entry in report.dropped.items() if name not in used},
        started=started,
        remarks=(*report.remarks, start.summary),
    )
    return dataclasses.replace(found, arrays={**found.arrays, **start.arrays}, report=report)


def template_of(config: ExperimentConfig) -> Variables:
    """Return the shapes of a network's variables, with its blocks one by one where it scans them."""
    model = create_model(config.model.unscanned())
    return abstract_variables(model, config.data.clip_shape)


def _template_of_one_class(config: ExperimentConfig) -> Variables:
    """Return the shapes of a network's variables where it is not known yet how many classes there are."""
    return template_of(dataclasses.replace(config, model=dataclasses.replace(config.model, num_classes=1)))


def _overlay(found: Match, variables: Mapping[str, Any], model: Network) -> Variables:
    if model == model.unscanned():
        return found.overlay(variables)
    placements = jax.tree.map(lambda leaf: leaf.sharding, dict(variables))
    return jax.device_put(stack_blocks(found.overlay(unstack_blocks(dict(variables)))), placements)


def classes_of(source: Source, config: ExperimentConfig) -> int:
    """Return the number of classes that the head of a source has, or 0 where it has none that fits the network's.

    Args:
      source: the weights.
      config: describes the network, whose own number of classes does not count.
    """
    template = _template_of_one_class(config)
    recognition = recognize(source.state, template, config.init.naming or source.naming)
    naming = named_naming(recognition.name)
    keys, _, _ = renamed(source.state, recognition.rename, parse_allow(config.init.allow))
    biases = [path for _, path in flat(template) if path.startswith("head/") and path.endswith("/bias")]
    sizes = {int(np.size(source.state[keys[naming.key(path)]])) for path in biases if naming.key(path) in keys}
    return sizes.pop() if len(sizes) == 1 else 0


def convert(
    source: Source,
    target: str | os.PathLike[str],
    config: ExperimentConfig | None = None,
    naming: str = "own",
    classes: Sequence[str] = (),
) -> ImportReport:
    """Write the weights of a source under the names of a code base.

    Args:
      source: the weights.
      target: file to write, ``.safetensors`` or one of PyTorch's.
      config: describes the network, and in ``init`` what may differ; None: the source's own. There are as many classes
        as the source's head has, unless a new ``head`` is allowed. What may differ and does is initialised with seed 0.
      naming: a name in :func:`dnr_jax.convert.namings`.
      classes: names of the classes; empty: those of the source, where its classifier is kept.

    Returns:
      What became of every array of the source.

    Raises:
      ConfigError: where the network is not known, the source does not fit it, there are more names of classes than
        classes, or fewer, or ``naming`` has no name for one of the network's variables.
    """
    names = named_naming(naming)
    check_target(target)
    filled = _fill(source, config, classes)
    metadata = own_metadata(filled.config, filled.classes, naming)
    write_weight_file(target, to_state_dict(filled.variables, names), metadata)
    return filled.report


def convert_to_run(
    source: Source,
    workdir: str | os.PathLike[str],
    config: ExperimentConfig | None = None,
    classes: Sequence[str] = (),
) -> tuple[pathlib.Path, ImportReport]:
    """Make the folder of a run of the weights of a source, which evaluates, predicts, serves and exports as runs do.

    Args:
      source: the weights.
      workdir: folder to make.
      config: as in :func:`convert`.
      classes: as in :func:`convert`; where the source has no names either, the numbers of the classes are their names.

    Returns:
      The folder, and what became of every array of the source.

    Raises:
      ConfigError: as :func:`convert` does, or where the folder holds something already.
      RunError: where the folder cannot be written.
    """
    check_new(workdir)  # before anything is computed
    filled = _fill(source, config, classes)
    names = filled.classes or tuple(map(str, range(filled.config.model.num_classes)))
    folder = write_run(workdir, filled.config, names, filled.variables, source.name, str(filled.report))
    return folder, filled.report


@dataclasses.dataclass(frozen=True, eq=False)
class _Filled:
    """An experiment whose network has the weights of a source."""

    config: ExperimentConfig
    variables: Variables
    classes: tuple[str, ...]
    report: ImportReport


def _fill(source: Source, config: ExperimentConfig | None, classes: Sequence[str]) -> _Filled:
    if config is None and source.config is None:
        raise ConfigError(
            f"{source.name} does not say which network it is for{source.unread}; name a configuration with --config"
        )
    config = copy.deepcopy(config or source.config)
    assert config is not None
    config.model = config.model.unscanned()  # other code bases name every block
    validate_network(config)
    if not config.model.num_classes or "head" not in parse_allow(config.init.allow):
        config.model.num_classes = classes_of(source, config) or config.model.num_classes
    count = config.model.num_classes
    if not count:
        raise ConfigError(
            f"model.num_classes: is 0, and {source.name} has no head that says how many classes there are"
        )
    if classes and len(classes) != count:
        raise ConfigError(f"there are names of {len(classes)} classes, but the network tells {count} apart")
    start = fit_source(source, config)
    if not classes and len(source.classes) == count and not any(_in_head(path) for path in start.report.fresh):
        classes = source.classes
    variables = template_of(config) if start.complete else _initialize(config)
    return _Filled(config, start.apply(variables), tuple(classes), start.report)


def _in_head(path: str) -> bool:
    return fnmatch.fnmatch(path, GROUPS["head"][0])


def _initialize(config: ExperimentConfig) -> Variables:
    clip = jnp.zeros((1, *config.data.clip_shape))
    options = initializer_options(jax.default_backend())
    init = jax.jit(create_model(config.model).init, static_argnames="train", compiler_options=options)
    return init(jax.random.key(0), clip, train=False)
