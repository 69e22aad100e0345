"""``dnr report``: the page of a run. ``dnr compare``: a table and curves of several."""

import argparse
import pathlib
import sys
from typing import Any

from dnr_jax.arguments import path_from
from dnr_jax.config import ConfigError
from dnr_jax.progress import stage


def add_report(commands: Any) -> None:
    """Add ``dnr report`` to the commands."""
    report = commands.add_parser("report", help="write the page of a run: what it gets right and wrong, and why")
    report.add_argument("runs", nargs="+", type=path_from, metavar="RUN", help="work directory of a training run")
    report.add_argument("--out", type=path_from, metavar="FILE", help="the page of one run; default: its report.html")
    report.set_defaults(run=_report)


def add_compare(commands: Any) -> None:
    """Add ``dnr compare`` to the commands."""
    compare = commands.add_parser("compare", help="compare runs: those that differ in their seed alone are one line")
    compare.add_argument(
        "runs",
        nargs="+",
        type=path_from,
        metavar="RUN",
        help="work directory of a run, or a folder that holds some",
    )
    compare.add_argument("--html", type=path_from, metavar="FILE", help="a page with the curves too")
    compare.add_argument("--csv", type=path_from, metavar="FILE", help="a table with a line a run")
    compare.set_defaults(run=_compare)


def _compare(args: argparse.Namespace) -> int:
    with stage("importing"):
        from dnr_jax.report import compare

    runs, left_out = compare.find_runs(args.runs)
    groups = compare.group_runs(runs)
    for reason in left_out:
        print(f"left out: {reason}", file=sys.stderr)
    print(compare.text(groups), flush=True)
    if args.html:
        compare.write_html(groups, args.html)
    if args.csv:
        compare.write_csv(groups, args.csv)
    return 0


def _report(args: argparse.Namespace) -> int:
    if args.out and len(args.runs) > 1:
        raise ConfigError(f"--out names one page, and there are {len(args.runs)} runs; leave it out")
    with stage("importing"):
        from dnr_jax.data.catalogue.records import why_not_writable
        from dnr_jax.runs.folder import read_config, run_folder

    folders = [run_folder(run) for run in args.runs]
    for folder in folders:  # a wrong name costs none of the others' time
        read_config(folder)
        if problem := why_not_writable(pathlib.Path(args.out).absolute().parent if args.out else folder):
            raise ConfigError(f"{problem}; --out names another file")
    for folder in folders:
        print(f"wrote {_write(folder, args.out or '')}", flush=True)
    return 0


def _write(folder: pathlib.Path, out: str) -> pathlib.Path:
    """Write the page of one run, which is scored before where it has not been; return the page's path."""
    from dnr_jax.evaluation.evaluate import read_report
    from dnr_jax.evaluation.outputs import read_numbers
    from dnr_jax.report.page import write_page
    from dnr_jax.runs.devices import make_mesh
    from dnr_jax.runs.folder import load_run, read_config

    details = read_numbers(folder)
    try:
        report = read_report(folder)
    except FileNotFoundError:  # of a run that goes on still, or of a former version
        report = None
    except ValueError as error:
        raise ConfigError(str(error)) from error
    try:
        with stage("loading the network"):
            run = load_run(folder, make_mesh(), details.get("checkpoint", "latest"))
    except ConfigError:
        if report is None:
            raise
        return write_page(report, read_config(folder), folder, path=out)
    if report is None or details.get("step") != run.step:
        report = _score(run)
    with stage("writing the page"):
        return write_page(report, run.config, folder, run, out)


def _score(run: Any) -> Any:
    """Return the report on the validation videos of a run; its files go into the folder where they can be written."""
    from dnr_jax.evaluation.evaluate import evaluate, views
    from dnr_jax.evaluation.videos import open_data
    from dnr_jax.report.recipe import versions
    from dnr_jax.runs.devices import make_mesh

    with stage("reading the data"):
        source = open_data(run)
    report = evaluate(run.model, run.variables, source, run.config, make_mesh(), progress=True)
    protocol = views(run.config.evaluation, run.config.data.crop_size)
    try:
        report.write(run.workdir, step=run.step, views=protocol, versions=versions(), fingerprint=source.fingerprint())
    except OSError as error:
        reason = f"{error.filename} cannot be written ({error.strerror or error})"
        print(f"dnr report: {reason}; the page is written all the same", file=sys.stderr)
    return report
