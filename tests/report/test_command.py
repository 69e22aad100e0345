"""``dnr report`` and the page at the end of a run."""

import json

import pytest

from dnr_jax import cli
from dnr_jax.data.catalogue.sources import video_source
from dnr_jax.explain import embedding
from dnr_jax.report import page
from dnr_jax.runs.folder import Run
from dnr_jax.training.report import WritePage
from tests.report.made import made_report, write_run
from tests.training.test_loggers import trainer_at
from tests.training.tiny import known, tiny_config


@pytest.fixture
def run(tmp_path):
    """A run without checkpoints, with scores."""
    with known():
        folder = write_run(tmp_path / "run", tiny_config(str(tmp_path)))
        made_report(6, 3).write(folder, step=40, views="1x1 of 16")
        yield folder


def test_the_command_writes_the_page_of_a_run(run, tmp_path, capsys):
    assert cli.main(["report", str(run), "--out", str(tmp_path / "page.html")]) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path / 'page.html'}\n"
    text = (tmp_path / "page.html").read_text()
    assert f"{made_report(6, 3).top1:.1%}" in text and "train.steps" in text


def test_a_folder_without_a_run_is_refused_before_any_page_is_written(run, tmp_path, capsys):
    assert cli.main(["report", str(run), str(tmp_path)]) == 2
    assert "holds no config.json" in capsys.readouterr().err
    assert not (run / "report.html").exists()
    assert cli.main(["report", str(run), str(run), "--out", "page.html"]) == 2
    (run / "scores.npz").write_bytes(b"half")
    assert cli.main(["report", str(run)]) == 2
    assert "scores.npz' is damaged" in capsys.readouterr().err
    (run / "scores.npz").unlink()
    assert cli.main(["report", str(run)]) == 2
    assert "holds no checkpoint yet" in capsys.readouterr().err


def test_where_nothing_can_be_written_nothing_is_computed(run, monkeypatch, capsys):
    monkeypatch.setattr(page, "write_page", None)
    monkeypatch.setattr(embedding, "check_installed", lambda: None)
    assert cli.main(["report", str(run), "--out", "/proc/none/page.html"]) == 2
    assert "nothing can be written to '/proc/none'" in capsys.readouterr().err
    assert cli.main(["features", str(run), "--out", "/proc/none"]) == 2
    assert "nothing can be written to '/proc/none'" in capsys.readouterr().err


def test_scores_that_cannot_be_kept_cost_the_page_nothing(run, tmp_path, monkeypatch, capsys):
    def fail(report: object, workdir: object, **details: object) -> None:
        raise OSError(30, "Read-only file system", f"{workdir}/scores.npz")

    report = made_report(6, 3)
    monkeypatch.setattr(
        "dnr_jax.runs.folder.load_run", lambda folder, *rest: Run(tiny_config(str(tmp_path)), (), None, {}, 41, folder)
    )
    monkeypatch.setattr("dnr_jax.evaluation.videos.open_data", lambda run: video_source("", ["a.mp4"], [0], ["a"]))
    monkeypatch.setattr("dnr_jax.evaluation.evaluate.evaluate", lambda *arguments, **settings: report)
    monkeypatch.setattr(type(report), "write", fail)
    monkeypatch.setattr(page, "write_page", lambda report, config, folder, run, out: out)
    assert cli.main(["report", str(run), "--out", str(tmp_path / "page.html")]) == 0
    assert f"{run}/scores.npz cannot be written (Read-only file system)" in capsys.readouterr().err


def test_a_report_that_fails_costs_the_run_nothing(tmp_path, monkeypatch, caplog):
    def fail(*arguments):
        raise ValueError("no room")

    monkeypatch.setattr(page, "write_page", fail)
    trainer = trainer_at(2)
    WritePage(tmp_path).end(trainer, made_report(4, 2))
    assert "report.html was not written (ValueError: no room); dnr report tries again" in caplog.text


def test_the_end_of_a_run_hands_over_its_network(tmp_path, monkeypatch):
    handed = []
    monkeypatch.setattr(page, "write_page", lambda *arguments: handed.append(arguments))
    report, trainer = made_report(4, 2), trainer_at(2)
    WritePage(tmp_path).end(trainer, report)
    ((given, config, folder, run),) = handed
    assert given is report and config is trainer.config and folder == tmp_path
    assert (run.classes, run.step, run.model) == (report.classes, 2, trainer.model)


@pytest.mark.slow
def test_a_trained_run_has_a_page_with_its_relays(workdir, videos):
    (workdir / "scores.npz").unlink()  # as of a former version: the videos are scored again
    assert cli.main(["report", str(workdir)]) == 0
    text = (workdir / "report.html").read_text()
    assert 'id="relays"' in text and "data:image/webp" in text
    assert "versions" in json.loads((workdir / "evaluation.json").read_text())
