"""``dnr app``: its arguments and what it does."""

import argparse
import os
import tempfile
from typing import TYPE_CHECKING, Any

from dnr_jax.arguments import add_checkpoint, path_from, whole
from dnr_jax.config import ConfigError
from dnr_jax.progress import stage
from dnr_jax.serve.command import add_limits, add_service, limits_of, listen

if TYPE_CHECKING:  # commands start before jax is imported
    from dnr_jax.app.similar import TrainingClips
    from dnr_jax.runs.folder import Run

PORT = 7860
"""Where Spaces of Hugging Face expect an application, too."""
_PATIENCE = 5
"""Seconds that pages which are open have to let go in, when the application ends."""
_ABOUT = """\
On the page somebody drops a video, or records one with the camera, and sees labels, labels over time, where in the
clip the network sees the best one (Grad-CAM), and the training clips that it finds most like it. Their features are
computed at the first start and kept in training_clips.npz in the folder of the run.

The page is on this machine alone. --host shows it to others, without a login and without encryption; nothing is sent
to anybody else. 'dnr export --space FOLDER' writes it for Hugging Face.
"""


def add_app(commands: Any) -> None:
    """Add ``dnr app`` to the subparsers of a command line."""
    app = commands.add_parser("app", help="show a page on which people try a trained network", epilog=_ABOUT)
    app.add_argument("workdir", type=path_from, metavar="RUN", help="work directory of a training run")
    add_checkpoint(app)
    add_service(app, PORT)
    app.add_argument(
        "--similar",
        type=whole(0),
        metavar="N",
        help="training clips among which similar ones are found (default: 300, or as many as are kept); 0: none",
    )
    app.add_argument(
        "--root", type=path_from, metavar="FOLDER", help="where the training videos are; default: as in the run"
    )
    add_limits(app)
    app.set_defaults(run=app_run)


def app_run(args: argparse.Namespace) -> int:
    """Show the page until the command is ended; returns the exit status."""
    with stage("importing"):
        try:
            import gradio  # noqa: F401
        except ImportError as error:
            raise ConfigError(f"dnr app needs gradio ({error}); pip install 'dnr-jax[app]'") from error
        from dnr_jax.app.answers import Answers
        from dnr_jax.app.page import create_app
        from dnr_jax.evaluation.predict import Predictor

    with stage("loading the network"):
        predictor = Predictor(args.workdir, checkpoint=args.checkpoint)
    clips, missing = find_clips(predictor.run, args.similar, args.root)
    limits = limits_of(args)
    with tempfile.TemporaryDirectory(prefix="dnr_app_") as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads
        with stage("compiling the network"):
            answers = Answers(predictor, limits, clips, missing)
        return listen("dnr app", create_app(answers, limits, args.root_path), args.host, args.port, _PATIENCE)


def find_clips(run: "Run", count: int | None, root: str | None) -> tuple["TrainingClips | None", str]:
    """Return clips of the training set, and what the page says where there are none.

    Args:
      run: the network.
      count: as :func:`dnr_jax.app.similar.training_clips` takes it.
      root: likewise.

    Raises:
      ConfigError: for a folder that was named and is not that of the training videos.
    """
    from dnr_jax.app.similar import training_clips
    from dnr_jax.explain.explainer import Explainer

    try:
        clips = training_clips(Explainer(run), count, root)
    except ConfigError as error:
        if root:
            raise
        print(f"without training clips: {error}", flush=True)
        return None, "The training videos are not where they were, so none of them can be shown."
    return clips, "" if clips or count == 0 else "None of the training videos can be read."
