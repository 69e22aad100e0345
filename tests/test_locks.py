import json
import os
import threading

import pytest

from dnr_jax.locks import HeldError, hold


def test_a_lock_is_held_by_one_and_names_it(tmp_path):
    file = tmp_path / "x.lock"
    with hold(file):
        assert json.loads(file.read_text())["pid"] == os.getpid()
        with pytest.raises(HeldError, match=f"process {os.getpid()} on .*, since "), hold(file):
            pass
        file.write_text("")
        with pytest.raises(HeldError, match="^another process$"), hold(file):
            pass
    with hold(file):
        pass


def test_a_lock_is_waited_for(tmp_path):
    held, release = threading.Event(), threading.Event()

    def work() -> None:
        with hold(tmp_path / "x.lock"):
            held.set()
            release.wait(10)

    worker = threading.Thread(target=work)
    worker.start()
    assert held.wait(10)
    threading.Timer(0.1, release.set).start()
    with hold(tmp_path / "x.lock", wait=10):
        assert release.is_set()
    worker.join()


def test_a_folder_that_is_none_is_an_error(tmp_path):
    (tmp_path / "none").touch()
    with pytest.raises(OSError), hold(tmp_path / "none" / "x.lock"):
        pass
