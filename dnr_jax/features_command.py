"""``dnr features``: a run's validation videos as points in the plane, on a page to look at."""

import argparse
import pathlib
from typing import Any

from dnr_jax import console
from dnr_jax.arguments import add_checkpoint, path_from, whole
from dnr_jax.config import ConfigError
from dnr_jax.progress import stage

FILE = "features.html"
_DESCRIPTION = """\
Draw a run's validation videos as points in the plane (t-SNE), which are neighbours where the network finds them alike:
coloured by class, those taken for another class with a ring, with the clip of the one under the pointer. Writes
features.html, one file that needs no network. Needs scikit-learn (pip install 'dnr-jax[features]').
"""


def add(commands: Any) -> None:
    """Add the command to those of ``dnr``."""
    parser = commands.add_parser(
        "features",
        help="draw which validation videos of a run the network finds alike",
        description=_DESCRIPTION,
        epilog=console.EXIT_STATUS,
    )
    parser.add_argument("workdir", type=path_from, metavar="RUN", help="work directory of a training run")
    parser.add_argument("--layer", default="", metavar="NAME", help="layer; default: what the head reads")
    parser.add_argument("--limit", type=whole(4), default=600, metavar="N", help="videos, evenly spaced (default: 600)")
    parser.add_argument("--root", type=path_from, metavar="FOLDER", help="where the videos are; default: as in the run")
    parser.add_argument("--out", default="", metavar="FOLDER", help="folder to write to; default: the run's")
    add_checkpoint(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the page; return the exit status.

    Raises:
      ConfigError: for whatever a person has to correct, before anything is compiled.
    """
    out = pathlib.Path(console.local_folder("--out", args.out) if args.out else args.workdir)
    with stage("importing"):
        import jax

        from dnr_jax.data.catalogue.records import why_not_writable
        from dnr_jax.evaluation.videos import open_data
        from dnr_jax.explain import Explainer, embedding
        from dnr_jax.explain.layers import find_layer
        from dnr_jax.explain.pictures import evenly
        from dnr_jax.report.features import clip_features
        from dnr_jax.runs.devices import make_mesh
        from dnr_jax.runs.folder import load_run

        embedding.check_installed()
        if problem := why_not_writable(out):
            raise ConfigError(f"{problem}; --out names another folder")
    with stage("loading the network"):
        explainer = Explainer(load_run(args.workdir, make_mesh(jax.local_devices()[:1]), args.checkpoint))
        try:
            find_layer(explainer.layers, args.layer)
        except ValueError as error:
            raise ConfigError(f"--layer: {error}; 'dnr explain RUN --list-layers' lists them") from error
    source = open_data(explainer.run, paths={"root": args.root})
    shown = evenly(len(source), args.limit)
    found = list(clip_features(explainer, source, shown, args.layer))
    if len(found) < 4:
        raise ConfigError(f"{len(found)} validation videos could be read; a picture of what is alike needs 4 or more")
    with stage("arranging the points"):
        positions = embedding.project([clip.features for clip in found])
    classes, points = explainer.run.classes, []
    for clip, (x, y) in zip(found, positions.tolist(), strict=True):
        label, predicted = classes[source.labels[clip.index]], classes[clip.predicted]
        points.append(embedding.Point(source.names[clip.index], label, predicted, x, y, clip.film))
    title = f"Validation videos of {explainer.run.workdir.name or explainer.run.workdir.resolve().name}"
    target = out / FILE
    target.write_text(embedding.page(title, points), encoding="utf-8")
    part = f" of {len(source)}" if len(shown) < len(source) else ""
    print(f"wrote {target}: {len(points)}{part} videos, {target.stat().st_size / 1e6:.1f} MB")
    return 0 if len(found) == len(shown) else 1
