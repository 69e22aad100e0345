"""How the commands end, whatever happens in them."""

import contextlib
import errno
import io
import os
import signal
import subprocess
import sys

import pytest

from dnr_jax import cli, console, start
from dnr_jax.config import ConfigError, RunError
from dnr_jax.training.metrics import NonFiniteError
from tests.paths import REPOSITORY


def fail(error: BaseException):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ConfigError("no such field"), 2, "dnr x: no such field"),
        (NonFiniteError("the loss is nan"), 2, "dnr x: the loss is nan"),
        (RunError("the disk is full"), 1, "dnr x: the disk is full"),
        (KeyboardInterrupt(), 130, "dnr x: interrupted; the same command goes on"),
        (PermissionError(errno.EACCES, "Permission denied", "/runs"), 2, "dnr x: Permission denied: '/runs'"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "dnr x: No space left on device"),
    ],
)
def test_what_a_person_can_correct_is_one_line(error, status, message, capsys):
    assert console.run("dnr x", fail(error), "the same command goes on") == status
    assert capsys.readouterr() == ("", f"{message}\n")


@pytest.mark.parametrize("error", [ZeroDivisionError(), OSError("no number"), ValueError("a fault of ours")])
def test_faults_of_the_program_keep_their_traceback(error):
    with pytest.raises(type(error)):
        console.run("dnr x", fail(error))


def test_the_status_of_the_command_is_that_of_the_program():
    assert [console.run("dnr x", lambda status=status: status) for status in (None, 0, 1)] == [0, 0, 1]
    with pytest.raises(SystemExit):
        console.run("dnr x", fail(SystemExit(3)))


def test_a_reader_that_has_gone_is_no_fault():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe, contextlib.redirect_stdout(pipe):
        assert console.run("dnr x", lambda: print("jump")) == 141
        print("what Python flushes when it ends")


def test_names_are_printed_whatever_the_terminal_understands():
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), "ascii")) as terminal:
        console.run("dnr x", lambda: print("caf\xe9 \udcff"))
        assert terminal.buffer.getvalue() == b"caf\\xe9 \\udcff\n"


def test_versions_are_those_that_are_installed():
    assert console.version().startswith("dnr_jax 0.")
    assert "jax " in console.version()


def test_folders_are_told_from_files_and_buckets(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert console.local_folder("--out", "~/new folder/") == f"{tmp_path}/new folder"
    (tmp_path / "file").touch()
    for text, message in [
        ("", "--out is empty; expected a folder"),
        ("gs://bucket/run", "--out is gs://bucket/run; expected a folder on a local disk"),
        ("~/file", "file, a file; expected a folder"),
    ]:
        with pytest.raises(ConfigError, match=message):
            console.local_folder("--out", text)


def test_ctrl_c_while_a_command_imports_is_a_plain_end(tmp_path):
    """A module whose import interrupts its own process, as a person would."""
    (tmp_path / "slow_module.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    program = (  # which may have been started with SIGINT ignored, as background jobs of shells are
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from dnr_jax.start import import_quietly\nimport_quietly('slow_module', 'dnr')\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "dnr: interrupted\n")


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN])
def test_what_ctrl_c_does_is_as_before_once_a_command_is_imported(handler, monkeypatch):
    before = signal.signal(signal.SIGINT, handler)
    try:
        assert start.import_quietly("dnr_jax.console", "dnr") is console
        assert signal.getsignal(signal.SIGINT) is handler
        monkeypatch.setattr(cli, "main", lambda: 7)
        assert start.main() == 7
    finally:
        signal.signal(signal.SIGINT, before)
