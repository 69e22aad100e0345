"""dnr convert, as it is typed."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax import cli
from dnr_jax.config import ConfigError, load_config
from dnr_jax.convert import namings, to_state_dict, write_weight_file
from dnr_jax.convert.source import fit_source, read_source, template_of
from dnr_jax.runs import devices
from dnr_jax.runs.checkpoint import Checkpoints
from dnr_jax.runs.folder import load_run
from dnr_jax.training import loop
from tests.paths import REPOSITORY
from tests.training import tiny

DEMO = str(REPOSITORY / "configs/demo.py")


@pytest.fixture(autouse=True)
def no_cache_setting(monkeypatch):
    monkeypatch.setattr(devices, "enable_compilation_cache", lambda: None)


def noise(tree):
    """Random variables; variances are positive."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(0.1, 1, leaf.shape), leaf.dtype), tree)


def baseline(path, naming: str = "torchvision", classes: int = 5):
    """A file of the demo's network with batch normalisation; returns what it holds."""
    config = load_config(f"{DEMO}:bn")
    config.model.num_classes = classes
    state = to_state_dict(noise(template_of(config)), namings()[naming])
    write_weight_file(path, state)
    return state


@pytest.mark.compat
def test_there_and_back_is_exact(tmp_path, capsys):
    state = baseline(tmp_path / "a.safetensors")
    names = [str(tmp_path / f"{letter}.safetensors") for letter in "abcd"]
    assert cli.main(["convert", names[0], names[1], "--config", f"{DEMO}:bn"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out == [
        f"weights of {names[0]} (torchvision): {len(state)} of {len(state)} arrays loaded",
        f"wrote {names[1]} (own)",
    ]
    assert read_source(names[1]).config.model.num_classes == 5  # read from the head
    assert cli.main(["convert", names[1], names[2], "--to", "mmaction2"]) == 0  # the file says which network it is
    assert cli.main(["convert", names[2], names[3], "--to", "torchvision"]) == 0
    returned = read_source(names[3]).state
    assert returned.keys() == state.keys()
    for key, array in state.items():
        np.testing.assert_array_equal(returned[key], array, strict=True)


def test_there_are_as_many_classes_as_the_source_has_unless_the_head_is_new(tmp_path, quick_compile, capsys):
    """A network of 5 classes, and a configuration of 3."""
    state = baseline(tmp_path / "a.safetensors")
    config = tmp_path / "three.py"
    config.write_text(pathlib.Path(DEMO).read_text().replace("num_classes=0", "num_classes=3"))
    arguments = [
        "convert",
        str(tmp_path / "a.safetensors"),
        str(tmp_path / "b.safetensors"),
        "--config",
        f"{config}:bn",
    ]
    assert cli.main(arguments) == 0
    written = read_source(tmp_path / "b.safetensors")
    assert written.config.model.num_classes == 5
    np.testing.assert_array_equal(written.state["head/fc/bias"], state["fc.bias"])
    assert cli.main([*arguments, "--allow", "head"]) == 0
    assert read_source(tmp_path / "b.safetensors").state["head/fc/bias"].shape == (3,)


def test_a_pytorch_checkpoint_is_written_for_torch(tmp_path):
    torch = pytest.importorskip("torch")
    state = baseline(tmp_path / "a.safetensors")
    target = str(tmp_path / "b.pth")
    assert (
        cli.main(["convert", str(tmp_path / "a.safetensors"), target, "--config", f"{DEMO}:bn", "--to", "mmaction2"])
        == 0
    )
    written = torch.load(target, weights_only=True)
    np.testing.assert_array_equal(written["backbone.conv1.conv.weight"].numpy(), state["conv1.weight"])


@pytest.mark.slow
def test_cells_that_the_source_lacks_are_initialised(tmp_path, quick_compile, capsys):
    state = baseline(tmp_path / "a.safetensors")
    arguments = ["convert", str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors"), "--config", DEMO]
    assert cli.main(arguments) == 2
    assert "missing: backbone/layer1/relay1" in capsys.readouterr().err.replace(
        "layer1.relay1", "backbone/layer1/relay1"
    )
    assert cli.main([*arguments, "--allow", "relays"]) == 0
    written = read_source(tmp_path / "b.safetensors").state
    np.testing.assert_array_equal(written["backbone/layer1/block0/norm1/mean"], state["layer1.0.bn1.running_mean"])
    squeeze = written["backbone/layer1/relay1/layer_0/input/squeeze/kernel"]
    assert 0 < np.abs(squeeze).max() <= 0.25  # torch's: uniform within 1 / sqrt(16)
    capsys.readouterr()
    assert cli.main([*arguments, "--allow", "relays", "--relays", "batch_norm"]) == 0
    assert "relays started at batch normalisation" in capsys.readouterr().out
    assert not read_source(tmp_path / "b.safetensors").state["backbone/layer1/relay1/layer_0/input/expand/kernel"].any()
    assert cli.main([*arguments, "--relays", "batch_norm"]) == 2
    assert "needs 'relays' in init.allow" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.safetensors", "b.safetensors"], "there is no file"),
        (["a.safetensors", "b.npz", "--config", DEMO], "cannot write"),
        (["a.safetensors", "b.safetensors"], "name a configuration with --config"),
        (["a.safetensors", "b.safetensors", "--config", f"{DEMO}:bn", "--to", "caffe"], "'caffe' is no code base"),
        (["a.safetensors", "b.safetensors", "--config", f"{DEMO}:bn", "--naming", "authors"], "not those that authors"),
        (["a.safetensors", "b.safetensors", "--config", f"{DEMO}:bn", "--allow", "haed"], "'haed' is not known"),
        (["a.safetensors", "--config", f"{DEMO}:bn"], "expected either a file to write or --workdir"),
        (["a.safetensors", "b.safetensors", "--workdir", "run"], "expected either a file to write or --workdir"),
        (["a.safetensors", "--workdir", ".", "--config", f"{DEMO}:bn"], "holds something already"),
        (["a.safetensors", "--workdir", "run", "--to", "authors"], "a run has no names of other code bases"),
        (["a.safetensors", "b.pth", "--label-map", "names.txt"], "only .safetensors and runs hold names of classes"),
        (["a.safetensors", "--workdir", "run", "--label-map", "none.txt"], "--label-map: "),
        (
            ["a.safetensors", "--workdir", "run", "--config", f"{DEMO}:bn", "--label-map", "names.txt"],
            "there are names of 2 classes, but the network tells 5 apart",
        ),
    ],
)
def test_what_a_person_has_to_correct_is_one_message(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    baseline("a.safetensors")
    pathlib.Path("names.txt").write_text("jump\nrun\n")
    assert cli.main(["convert", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not pathlib.Path("run").exists()


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """The folder of a run of the tiny network."""
    videos = tiny.write_videos(tmp_path_factory.mktemp("videos"))
    folder = tmp_path_factory.mktemp("run")
    mesh = devices.make_mesh(jax.devices()[:4])
    with tiny.known():
        loop.train(tiny.tiny_config(videos, batch_size=8, steps=2, eval_every=1), folder, mesh=mesh)
        yield folder


@pytest.mark.compat
def test_the_folder_of_a_run_is_converted(workdir, tmp_path):
    target = tmp_path / "a.safetensors"
    assert cli.main(["convert", str(workdir), str(target), "--checkpoint", "best"]) == 0
    found = read_source(target)
    assert found.classes == ("dark", "grey", "light")
    best = load_run(workdir, devices.make_mesh(), "best").variables
    np.testing.assert_array_equal(found.state["conv/kernel"], best["params"]["conv"]["kernel"])


@pytest.mark.compat
def test_weights_become_a_run_that_is_used_and_not_trained(tmp_path, capsys):
    baseline(tmp_path / "a.safetensors")
    (tmp_path / "names.txt").write_text("jump\nrun\nsit\nwalk\nwave\n")
    folder = tmp_path / "run"
    words = ["convert", str(tmp_path / "a.safetensors"), "--workdir", str(folder), "--config", f"{DEMO}:bn"]
    assert cli.main([*words, "--label-map", str(tmp_path / "names.txt")]) == 0
    assert f"wrote {folder}" in capsys.readouterr().out
    for checkpoint in ("latest", "best"):
        run = load_run(folder, devices.make_mesh(), checkpoint)
        assert (run.step, run.classes) == (0, ("jump", "run", "sit", "walk", "wave"))
        expected = noise(template_of(run.config))
        jax.tree.map(np.testing.assert_array_equal, dict(run.variables), dict(expected))
    with pytest.raises(ConfigError, match="no state of a training to go on with.*--config.init_from="):
        loop.train(run.config, folder)
    run.config.init.allow = ""
    assert fit_source(read_source(folder), run.config).complete


def test_a_run_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch, capsys):
    def full(self, variables, progress):
        raise OSError(28, "No space left on device")

    baseline(tmp_path / "a.safetensors")
    words = ["convert", str(tmp_path / "a.safetensors"), "--workdir", str(tmp_path / "run"), "--config", f"{DEMO}:bn"]
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save_variables", full)
        assert cli.main(words) == 1
    assert "cannot be written: No space left on device" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
    assert cli.main(words) == 0


def test_classes_without_names_are_called_by_number(tmp_path):
    baseline(tmp_path / "a.safetensors")
    words = ["convert", str(tmp_path / "a.safetensors"), "--workdir", str(tmp_path / "run"), "--config", f"{DEMO}:bn"]
    assert cli.main(words) == 0
    assert load_run(tmp_path / "run", devices.make_mesh()).classes == tuple("01234")


@pytest.mark.slow
def test_names_of_classes_do_not_outlive_their_classifier(tmp_path, quick_compile):
    baseline(tmp_path / "a.safetensors")
    (tmp_path / "names.txt").write_text("jump\nrun\nsit\nwalk\nwave\n")
    words = [str(tmp_path / "b.safetensors"), "--config", f"{DEMO}:bn"]
    named = ["convert", str(tmp_path / "a.safetensors"), *words, "--label-map", str(tmp_path / "names.txt")]
    assert cli.main(named) == 0
    assert read_source(tmp_path / "b.safetensors").classes == ("jump", "run", "sit", "walk", "wave")
    config = tmp_path / "three.py"
    config.write_text(pathlib.Path(DEMO).read_text().replace("num_classes=0", "num_classes=3"))
    new_head = ["convert", str(tmp_path / "b.safetensors"), str(tmp_path / "c.safetensors")]
    assert cli.main([*new_head, "--config", f"{config}:bn", "--allow", "head"]) == 0
    found = read_source(tmp_path / "c.safetensors")
    assert found.config.model.num_classes == 3 and not found.classes
