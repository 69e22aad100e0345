"""dnr serve as it is typed, with a server that serves nothing."""

import socket
import sys

import pytest

pytest.importorskip("uvicorn", reason="the extra 'serve' is not installed")

import uvicorn

from dnr_jax import cli
from dnr_jax.evaluation import predict
from dnr_jax.runs import devices
from dnr_jax.serve import command, service


@pytest.fixture(autouse=True)
def no_cache_setting(monkeypatch):
    monkeypatch.setattr(devices, "enable_compilation_cache", lambda: None)


@pytest.fixture
def started(monkeypatch) -> list:
    """Stub network, application and server; return what they were started with."""
    found = []
    monkeypatch.setattr(predict, "Predictor", lambda run, checkpoint: (run, checkpoint))
    monkeypatch.setattr(service, "create_app", lambda *settings: found.append(settings) or "app")

    def run(server: uvicorn.Server) -> None:
        found.append(server.config)
        server.started = True

    monkeypatch.setattr(uvicorn.Server, "run", run)
    monkeypatch.setattr(uvicorn.Config, "configure_logging", lambda config: None)  # it would keep this test's streams
    return found


def test_it_listens_on_this_machine_alone(started, capsys):
    assert cli.main(["serve", "runs/mine"]) == 0
    (predictor, limits, prefix), config = started
    assert predictor == ("runs/mine", "latest") and prefix == ""
    assert (config.host, config.port, limits.megabytes, limits.duration) == ("127.0.0.1", 8000, 100, 600)
    assert "no login" not in capsys.readouterr().out


def test_flags_are_handed_on(started, capsys):
    flags = "--checkpoint best --host 0.0.0.0 --port 9 --root-path /x --max-megabytes 1.5 --max-duration 2 --timeout 3"
    assert cli.main(["serve", "runs/mine", *flags.split(), "--max-requests", "4", "--readers", "5"]) == 0
    (predictor, limits, prefix), config = started
    assert predictor == ("runs/mine", "best") and prefix == "/x"
    assert (config.host, config.port, config.timeout_graceful_shutdown) == ("0.0.0.0", 9, 7)
    assert limits == service.Limits(megabytes=1.5, duration=2, seconds=3, waiting=4, readers=5)
    assert "0.0.0.0 can be reached from other machines, and there is no login" in capsys.readouterr().out


def test_a_port_that_is_taken_is_a_status(monkeypatch):
    async def app(scope: object, receive: object, send: object) -> None:
        raise AssertionError("nobody asks")

    monkeypatch.setattr(uvicorn.Config, "configure_logging", lambda config: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert command.listen("dnr serve", app, "127.0.0.1", taken.getsockname()[1], patience=1) == 2


@pytest.mark.parametrize(
    "flags", ["--port 70000", "--max-megabytes 0", "--timeout nan", "--timeout inf", "--max-requests 0", "--readers x"]
)
def test_numbers_out_of_range_are_refused(started, flags, capsys):
    with pytest.raises(SystemExit) as ended:
        cli._parser().parse_args(["serve", "runs/mine", *flags.split()])
    assert ended.value.code == 2 and flags.split()[1] in capsys.readouterr().err


def test_a_missing_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert cli.main(["serve", "runs/mine"]) == 2
    assert "pip install 'dnr-jax[serve]'" in capsys.readouterr().err
