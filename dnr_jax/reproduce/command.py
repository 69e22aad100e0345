"""``dnr reproduce``: what is listed, what is done, and what is said about it."""

import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import FrameType

from dnr_jax.config import ConfigError
from dnr_jax.reproduce import findings, report, results
from dnr_jax.reproduce.experiments import Run, runs_of, why_not
from dnr_jax.reproduce.queue import Job, with_starts, work
from dnr_jax.reproduce.tables import TABLES, Row, Table, find_rows, find_table


def select(tables: Sequence[str], row: str) -> list[tuple[Table, Row]]:
    """Return the rows that a command line names, with their tables; no table: all of them.

    Raises:
      ConfigError: where there is no such table or row, a row of no table is asked for, or another command makes it.
    """
    if row and not tables:
        raise ConfigError("--row needs --table, which says whose row it is")
    chosen = [find_table(key) for key in tables] or list(TABLES.values())
    if tables and (
        elsewhere := [f"Table {table.key} is made by {table.elsewhere}" for table in chosen if table.elsewhere]
    ):
        raise ConfigError("; ".join(elsewhere))
    return [(table, found) for table in chosen for found in find_rows(table, row)]


def jobs_of(selected: Sequence[tuple[Table, Row]], seeds: int, scale: str) -> list[Job]:
    """Return what is to be done for rows, each run once: table by table, and within a table seed by seed.

    Raises:
      ConfigError: where none of them has a run at this scale.
    """
    wanted = []
    for table in dict.fromkeys(table for table, _ in selected):
        rows = [row for other, row in selected if other is table]
        runs = [(run, row) for row in rows for run in runs_of(table, row, seeds, scale)]
        runs.sort(key=lambda entry: (entry[0].seed, entry[0].fold))
        wanted += [Job(run, row, _label(run, table, row)) for run, row in runs if _is_of(row, scale)]
    if not wanted:
        keys = ", ".join(dict.fromkeys(table.key for table, _ in selected))
        reasons = "; ".join(dict.fromkeys(row.skipped for _, row in selected if row.skipped and scale != "paper"))
        raise ConfigError(f"nothing of Table {keys} is done at the {scale} scale{reasons and f': {reasons}'}")
    return with_starts(wanted)


def _is_of(row: Row, scale: str) -> bool:
    return bool(row.config) if scale == "paper" else not row.skipped


def _label(run: Run, table: Table, row: Row) -> str:
    fold = f", fold {run.fold}" if run.fold else ""
    return f"table {table.key}, {row.name}: {run.data}{fold}, seed {run.seed}"


def listing(selected: Sequence[tuple[Table, Row]], seeds: int, scale: str, out: pathlib.Path, data: str) -> str:
    """Return what ``--list`` prints: rows with the paper's figures, what they need and how much of it is done."""
    done = results.by_key(results.read(out / results.RESULTS_FILE))
    lines, chosen = [], dict.fromkeys(table for table, _ in selected)
    for table in chosen:
        needs = f"; paper scale: {table.paper_data}" if table.paper_data else ""
        lines.append(f"\nTable {table.key}: {table.title}{needs}")
        for row in (row for other, row in selected if other is table):
            runs = runs_of(table, row, seeds, scale)
            problem = next((problem for run in runs if (problem := why_not(run, row, data))), "")
            hours = _hours_needed(runs[0], out) if scale == "paper" and not problem else ""
            lines.append(_row_line(row, runs, done, problem or hours))
    others = [table for table in TABLES.values() if table not in chosen]
    if all(table.elsewhere for table in others):  # no table was named, so that none is to be left out
        lines += [f"\nTable {table.key}: {table.title}; by {table.elsewhere}" for table in others]
    return "\n".join(lines).lstrip("\n")


def _row_line(row: Row, runs: Sequence[Run], done: Mapping[tuple[str, int], results.Result], note: str) -> str:
    finished = [done[key] for run in runs if (key := (run.fingerprint, run.seed)) in done]
    figures = "paper {:5.2f} {:5.2f}".format(*row.accuracy) if row.accuracy else row.read_as and f"paper {row.read_as}"
    mean = f"{100 * sum(result.top1 for result in finished) / len(finished):.1f}" if finished else ""
    count = f"{len(finished):>3} of {len(runs)} done"
    return f"  {row.name:<36} {figures:<17} {count} {mean:<5} {note}".rstrip()


def _hours_needed(run: Run, out: pathlib.Path) -> str:
    """Return how long a run of the paper's scale takes on these devices, by the steps that it has taken so far."""
    hours = results.measured_hours(out / "runs" / run.name)
    return (
        f"{hours:.0f} hours a run here" if hours else "hours not measured here: --budget 10m starts a run, which does"
    )


def reproduce(jobs: Sequence[Job], out: pathlib.Path, data: str, seconds: float | None, vmap: bool = False) -> int:
    """Do jobs and say what became of them; return the exit status.

    Raises:
      KeyboardInterrupt: after Ctrl-C, when a checkpoint has been written.
    """
    outcome = work(jobs, out, data, seconds, vmap)
    left = len({job.run.name for job in jobs} - _finished(out))
    print(f"\n{outcome.done} runs done here, {left} of {len(jobs)} left; results in {out / results.RESULTS_FILE}")
    if finished := results.read(out / results.RESULTS_FILE):
        print(f"tables and verdicts in {report.write(out / 'report', finished)[0]}")
    for failure in outcome.failed:
        print(f"  {failure}")
    if outcome.stopped == signal.SIGINT:
        raise KeyboardInterrupt
    if outcome.stopped and seconds is None:
        return 128 + outcome.stopped
    return 1 if outcome.failed else 0


def report_committed(docs: pathlib.Path = pathlib.Path("docs")) -> int:
    """Write what is made of the committed lines: the page of results, its pictures, and the pages of what follows.

    Returns the exit status.
    """
    found, sections = report.committed(docs)
    for path in [*report.write(docs, found, sections, report.PROJECT_HEAD), *findings.write(docs, found)]:
        print(f"wrote {path}")
    return 0


def _finished(out: pathlib.Path) -> set[str]:
    return {f"{result.fingerprint}-{result.seed}" for result in results.read(out / results.RESULTS_FILE)}


def in_processes(count: int, words: Sequence[str]) -> int:
    """Give the same command to several processes, which share the runs and a GPU and have every SIGTERM of this one.

    Returns:
      The largest exit status; that of a process which a signal ended is 128 and the signal, as shells have it.

    Raises:
      KeyboardInterrupt: after Ctrl-C, when each process has written its checkpoint.
    """
    command = [sys.executable, "-m", "dnr_jax", "reproduce", *words, "--jobs", "1"]
    # Otherwise the first one takes three quarters of the GPU's memory, and the others find too little.
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | os.environ
    workers = [subprocess.Popen(command, env=environment) for _ in range(count)]

    def pass_on(number: int, frame: FrameType | None) -> None:
        for worker in workers:
            worker.send_signal(number)

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        statuses = [worker.wait() for worker in workers]
        return max(status if status >= 0 else 128 - status for status in statuses)
    except KeyboardInterrupt:
        for worker in workers:  # each has had the signal too, and writes its checkpoint
            worker.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
