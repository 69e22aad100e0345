"""The ``dnr`` command: evaluate, use and export trained networks, convert weights, and tell what a network costs.

Modules that take long to import are imported by the subcommand that needs them, so that ``dnr --help`` does not wait.
"""

import argparse
import re
import sys
from collections.abc import Sequence

from dnr_jax.config import ConfigError, with_views


def _views(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d*)x([13])", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not CLIPSxCROPS, such as 10x3 (crops: 1 or 3)")
    return int(match[1]), int(match[2])


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dnr", description="Video action recognition with DNR.")
    commands = parser.add_subparsers(dest="command", required=True)
    evaluate = commands.add_parser("evaluate", help="score the validation videos of a run")
    evaluate.add_argument("--batch-size", type=_positive, help="videos a step; default: as in the run's configuration")
    predict = commands.add_parser("predict", help="label video files")
    predict.add_argument("--top", type=_positive, default=5, help="labels a video (default: 5)")
    predict.add_argument("videos", nargs="+", metavar="VIDEO", help="video file of any format that FFmpeg reads")
    for command in (evaluate, predict):
        command.add_argument("--workdir", required=True, help="work directory of a training run")
        command.add_argument("--checkpoint", choices=("latest", "best"), default="latest")
        command.add_argument(
            "--views", type=_views, metavar="CLIPSxCROPS", help="views of a video, such as 10x3; default: as in the run"
        )
    profile = commands.add_parser("profile", help="parameters, multiply-accumulates, memory and latency of networks")
    what = profile.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", metavar="FILE[:ARGUMENT]", help="configuration whose network is profiled")
    what.add_argument("--all", action="store_true", help="all networks, on clips of 224 x 224 pixels")
    profile.add_argument("--size", type=_positive, metavar="PIXELS", help="height and width of the clip")
    profile.add_argument(
        "--repeats",
        type=_count,
        default=5,
        metavar="N",
        help="clips scored for the latency (default: 5); 0: counts only",
    )
    profile.add_argument("--markdown", action="store_true", help="print a Markdown table, with times as ratios only")
    convert = commands.add_parser("convert", help="turn weights of any source into a file of another code base")
    convert.add_argument("source", help="file of weights (.safetensors, .pth, .pt, .pyth), or work directory of a run")
    convert.add_argument("target", help="file to write: .safetensors, or .pth with torch installed")
    convert.add_argument("--config", metavar="FILE[:ARGUMENT]", help="the network; default: what the source says")
    convert.add_argument("--to", default="own", metavar="CODE", help="code base whose names are written (default: own)")
    convert.add_argument("--naming", default="", metavar="CODE", help="code base of the source; default: recognised")
    convert.add_argument("--allow", default="", metavar="LIST", help="what may differ, such as head,relays")
    convert.add_argument("--checkpoint", choices=("latest", "best"), default="latest", help="of a work directory")
    export = commands.add_parser("export", help="write a trained network as files that run without this package")
    export.add_argument("--workdir", required=True, help="work directory of a training run")
    export.add_argument("--out", required=True, metavar="FOLDER", help="folder to write")
    export.add_argument("--checkpoint", choices=("latest", "best"), default="latest")
    convert.set_defaults(run=_convert)
    export.set_defaults(run=_export)
    evaluate.set_defaults(run=_evaluate)
    profile.set_defaults(run=_profile)
    predict.set_defaults(run=_predict)
    return parser


def _evaluate(args: argparse.Namespace) -> int:
    from dnr_jax.data.sources import load_sources
    from dnr_jax.evaluation.evaluate import evaluate, undecoded_note, views
    from dnr_jax.evaluation.run import load_run
    from dnr_jax.training.devices import make_mesh

    mesh = make_mesh()
    run = load_run(args.workdir, mesh, args.checkpoint)
    config = run.config
    config.evaluation = with_views(config.evaluation, args.views)
    config.evaluation.batch_size = args.batch_size or config.evaluation.batch_size
    try:
        _, source = load_sources(config.data)
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(str(error)) from error
    report = evaluate(run.model, run.variables, source, config, mesh, progress=True)
    protocol = views(config.evaluation, config.data.crop_size)
    report.write(args.workdir, step=run.step, checkpoint=args.checkpoint, views=protocol)
    print(f"{args.checkpoint} checkpoint, step {run.step}, views {protocol}")
    print(f"top-5 {report.top5:.1%}, mean class accuracy {report.mean_class_accuracy:.1%}")
    if report.undecoded:
        print(undecoded_note(report.undecoded))
    print(report)
    return 0


def _predict(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from dnr_jax.evaluation.predict import predict

    failures = 0
    predictions = predict(args.workdir, args.videos, args.top, args.views, args.checkpoint)
    with tqdm(predictions, total=len(args.videos), unit="video", disable=len(args.videos) == 1, leave=False) as bar:
        for prediction in bar:
            failures += bool(prediction.error)
            # Written between two states of the progress bar, which stands on the same terminal.
            bar.write(str(prediction), file=sys.stderr if prediction.error else sys.stdout)
    return 1 if failures else 0


def _convert(args: argparse.Namespace) -> int:
    from dnr_jax.config import InitConfig, load_config
    from dnr_jax.convert.source import convert, read_source

    source = read_source(args.source, args.checkpoint)
    config = load_config(args.config) if args.config else source.config
    if config:
        config.init = InitConfig(naming=args.naming, allow=args.allow)
    print(convert(source, args.target, config, args.to).summary())
    print(f"wrote {args.target} ({args.to})")
    return 0


def _export(args: argparse.Namespace) -> int:
    from dnr_jax.evaluation.export import export_run
    from dnr_jax.evaluation.run import load_run
    from dnr_jax.training.devices import make_mesh

    for path in export_run(load_run(args.workdir, make_mesh(), args.checkpoint), args.out):
        print(f"wrote {path}")
    return 0


def _profile(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from dnr_jax.config import load_config, validate_network
    from dnr_jax.evaluation.profile import profile, table
    from dnr_jax.models.zoo import ZOO

    networks = [(name, network.config, network.clip_shape) for name, network in ZOO.items()]
    if args.config:
        config = load_config(args.config)
        validate_network(config)
        networks = [(config.model.name, config.model, config.data.clip_shape)]
    results = []
    for name, model, (frames, height, width, colors) in tqdm(networks, unit="network", disable=len(networks) == 1):
        shape = (frames, args.size or height, args.size or width, colors)
        results += profile(name, model, shape, args.repeats)
    print(table(results, args.markdown))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
      argv: arguments after the program's name; default: those of the process.

    Returns:
      The exit status: 0; 1 where a video could not be decoded; 2 for what a person has to correct.
    """
    args = _parser().parse_args(argv)
    from dnr_jax.training.devices import enable_compilation_cache

    enable_compilation_cache()
    try:
        return args.run(args)
    except ConfigError as error:
        print(f"dnr {args.command}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":  # python -m dnr_jax.cli, where the dnr script is not on the path
    sys.exit(main())
