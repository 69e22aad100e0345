"""dnr export: programs that run where this package is not, and say what the network says."""

import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax import cli
from dnr_jax.config import ConfigError, Network, load_config, registered
from dnr_jax.convert import litert_program as litert_module
from dnr_jax.convert import onnx_program as onnx_module
from dnr_jax.convert.export import export_litert, export_onnx, export_program, export_run, rounded, widened
from dnr_jax.convert.export_readme import readme
from dnr_jax.convert.source import read_source, template_of
from dnr_jax.data.clips.pipeline import load_clip
from dnr_jax.data.clips.sampling import Dense, Linspace, Segments, Window
from dnr_jax.models import create_model
from dnr_jax.models.blocks import stack_blocks, unstack_blocks
from dnr_jax.runs import devices
from dnr_jax.runs.folder import load_run
from dnr_jax.runs.inference import normalize
from dnr_jax.training import loop
from tests.marks import thorough
from tests.paths import REPOSITORY
from tests.training import tiny

needs_onnx = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("jax2onnx", "onnxruntime"))), reason="the extra 'onnx' is not installed"
)
needs_litert = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("ai_edge_litert", "jax2onnx"))) or shutil.which("onnx2tf") is None,
    reason="the extra 'litert' is not installed, or onnx2tf is not on PATH",
)

DEMO = str(REPOSITORY / "configs/demo.py")


@pytest.fixture(autouse=True)
def no_cache_setting(monkeypatch):
    monkeypatch.setattr(devices, "enable_compilation_cache", lambda: None)


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> pathlib.Path:
    return tiny.write_videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def workdir(videos, tmp_path_factory):
    """The folder of a run of the tiny network."""
    folder = tmp_path_factory.mktemp("run")
    mesh = devices.make_mesh(jax.devices()[:4])
    with tiny.known():
        loop.train(tiny.tiny_config(videos, batch_size=8, steps=2, eval_every=1), folder, mesh=mesh)
        yield folder


@pytest.fixture(scope="module")
def run(workdir):
    return load_run(workdir, devices.make_mesh(jax.devices()[:1]))


def expected(run, clips: np.ndarray, weights: str = "float32") -> np.ndarray:
    """The network's own probabilities of clips."""
    variables = jax.tree.map(jnp.asarray, jax.device_get(run.variables))
    if weights != "float32":
        variables = widened(rounded(variables, weights), variables)
    video = normalize(jnp.asarray(clips), run.config.data)
    return np.asarray(jax.nn.softmax(run.model.apply(variables, video, train=False)))


def noise(run, size: int) -> np.ndarray:
    return np.random.default_rng(size).integers(0, 256, (size, *run.config.data.clip_shape), np.uint8)


def run_alone(program: str, folder: pathlib.Path, absent: tuple[str, ...], *words: str) -> str:
    """Run a program in a folder, in a process that cannot import some packages; return what it prints."""
    without = f"import sys; sys.modules.update(dict.fromkeys({absent!r}))\n"  # None: an import fails
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-I", "-c", without + program, *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def programs(folder: pathlib.Path) -> list[str]:
    return re.findall(r"^```py\n(.*?)^```$", (folder / "README.md").read_text(), re.M | re.S)


def said(run, video: pathlib.Path) -> list[str]:
    """What the README's programs print of a video."""
    (scores,) = expected(run, load_clip(str(video), run.config.data, run.config.evaluation))
    return [f"{scores[i]:6.1%}  {run.classes[i]}" for i in np.argsort(-scores)]


@pytest.mark.compat
@pytest.mark.slow
def test_the_program_beside_an_exported_network_runs_without_this_package(workdir, run, videos, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["export", "--workdir", str(workdir), "--out", str(out)]) == 0
    names = ("weights.safetensors", "network.jax_export", "classes.txt", "config.json", "README.md")
    assert capsys.readouterr().out.split("\n")[:-1] == [f"wrote {out / name}" for name in names]
    assert (out / "classes.txt").read_text().split() == ["dark", "grey", "light"]
    (program,) = programs(out)
    check = """
assert network.platforms == ("cpu", "cuda", "tpu")
for size in (1, 3):
    np.save(f"{size}.npy", network.call(np.load(f"clips{size}.npy")))
"""
    for size in (1, 3):
        np.save(out / f"clips{size}.npy", noise(run, size))
    video = next((videos / "val/light").iterdir())
    printed = run_alone(program + check, out, ("dnr_jax", "flax", "grain", "cv2"), str(video))
    assert printed.splitlines() == said(run, video)
    for size in (1, 3):
        np.testing.assert_allclose(np.load(out / f"{size}.npy"), expected(run, noise(run, size)), rtol=1e-5, atol=1e-6)


@needs_onnx
@pytest.mark.slow
def test_the_onnx_program_runs_without_this_package_and_without_jax(workdir, run, videos, tmp_path):
    assert cli.main(["export", "--workdir", str(workdir), "--out", str(tmp_path), "--forms", "onnx"]) == 0
    assert not (tmp_path / "network.jax_export").exists()
    (program,) = programs(tmp_path)
    video = next((videos / "val/light").iterdir())
    np.save(tmp_path / "clips.npy", noise(run, 3))
    check = """
shapes = [(x.name, x.shape, x.type) for x in (*network.get_inputs(), *network.get_outputs())]
assert shapes == [("clips", ["batch", 4, 16, 16, 3], "tensor(uint8)"), ("probabilities", ["batch", 3], "tensor(float)")]
np.save("scores.npy", network.run(None, {"clips": np.load("clips.npy")})[0])
"""
    absent = ("dnr_jax", "jax", "jaxlib", "flax", "grain", "cv2", "jax2onnx")
    assert run_alone(program + check, tmp_path, absent, str(video)).splitlines() == said(run, video)
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), expected(run, noise(run, 3)), atol=1e-5)


@needs_litert
@pytest.mark.slow
def test_the_litert_program_runs_without_this_package_and_without_jax(workdir, run, videos, tmp_path):
    assert cli.main(["export", "--workdir", str(workdir), "--out", str(tmp_path), "--forms", "litert"]) == 0
    assert sorted(file.name for file in tmp_path.iterdir())[-2:] == ["network.tflite", "weights.safetensors"]
    (program,) = programs(tmp_path)
    video = next((videos / "val/light").iterdir())
    np.save(tmp_path / "clips.npy", noise(run, 3))
    check = """
clips = np.load("clips.npy")
network.resize_tensor_input(given["index"], clips.shape)
network.allocate_tensors()
network.set_tensor(given["index"], clips)
network.invoke()
np.save("scores.npy", network.get_tensor(result["index"]))
"""
    absent = ("dnr_jax", "jax", "jaxlib", "flax", "grain", "cv2", "jax2onnx", "onnxruntime")
    assert run_alone(program + check, tmp_path, absent, str(video)).splitlines() == said(run, video)
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), expected(run, noise(run, 3)), atol=1e-5)


def test_bfloat16_kernels_take_half_of_the_space_and_compute_as_rounded_ones(run):
    kernels = {"params": {"fc": {"kernel": np.ones((400, 3), np.float32), "scale": np.ones(3, np.float32)}}}
    narrow = rounded(kernels)["params"]["fc"]
    assert narrow["kernel"].dtype == jnp.bfloat16 and narrow["scale"].dtype == np.float32
    program = export_program(run.model, jax.device_get(run.variables), run.config, "bfloat16")
    clips = noise(run, 2)
    found = np.asarray(program.call(clips))
    np.testing.assert_allclose(found, expected(run, clips, "bfloat16"), rtol=1e-5, atol=1e-6)
    assert np.abs(found - expected(run, clips)).max() > 1e-6  # they are not the exact ones


def test_int8_kernels_of_stacked_blocks_are_those_of_single_ones():
    """A block whose numbers are small keeps them beside one whose numbers are large."""
    kernels = jnp.linspace(-0.3, 0.3, 2 * 3 * 4).reshape(2, 3, 4), 100 * jnp.ones((2, 3, 4))
    single = {"params": {f"block{i + 1}": {"conv": {"kernel": kernel}} for i, kernel in enumerate(kernels)}}
    stacked = stack_blocks(single)
    found = rounded(stacked, "int8")
    assert found["params"]["blocks"]["block"]["conv"]["kernel"].scale.shape == (2, 4)
    expected = widened(rounded(single, "int8"), single)
    jax.tree.map(np.testing.assert_array_equal, unstack_blocks(widened(found, stacked)), expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=0.01), expected, single)


def test_int8_kernels_have_a_scale_for_each_output_channel(run):
    kernel = np.array([[1.0, -0.2, 0.0], [0.51, 0.1, 0.0]], np.float32)
    variables = {"params": {"fc": {"kernel": kernel, "bias": np.ones(3, np.float32)}}}
    narrow = rounded(variables, "int8")["params"]["fc"]
    np.testing.assert_array_equal(narrow["kernel"].values, [[127, -127, 0], [65, 64, 0]])
    assert narrow["kernel"].values.dtype == np.int8 and narrow["bias"].dtype == np.float32
    wide = widened(rounded(variables, "int8"), variables)["params"]["fc"]["kernel"]
    assert (np.abs(wide - kernel) <= np.abs(kernel).max(0) / 254 + 1e-7).all()
    clips = noise(run, 2)
    program = export_program(run.model, jax.device_get(run.variables), run.config, "int8")
    found = np.asarray(program.call(clips))
    np.testing.assert_allclose(found, expected(run, clips, "int8"), rtol=1e-5, atol=1e-6)
    assert np.abs(found - expected(run, clips)).max() > 1e-6  # they are not the exact ones


@pytest.mark.parametrize(
    ("form", "weights", "can"),
    [("onnx", "int8", "float32 and bfloat16"), ("litert", "int8", "float32"), ("litert", "bfloat16", "float32")],
)
def test_rounded_kernels_are_refused_where_a_form_has_none(run, tmp_path, form, weights, can):
    with pytest.raises(ConfigError, match=f"--weights {weights} is not of the form {form}, which takes {can}$"):
        export_run(run, tmp_path / "out", ("jax", form), weights)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_rounding_is_measured_on_the_validation_videos(workdir, tmp_path, capsys):
    arguments = ["export", "--workdir", str(workdir), "--out", str(tmp_path), "--weights", "bfloat16", "--measure"]
    assert cli.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()[-2:]
    assert re.fullmatch(r"float32 kernels: validation top-1 [\d.]+% \(\d/7 videos\), loss [\d.]+", lines[0])
    assert lines[1].startswith("bfloat16 kernels: validation top-1 ")
    assert "rounded to bfloat16" in (tmp_path / "README.md").read_text()


def test_what_cannot_be_exported_is_refused_and_nothing_is_written(workdir, run, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    with pytest.raises(
        ConfigError, match=r"there is no form 'tflite' to export; expected one or more of jax, onnx, litert"
    ):
        export_run(run, out, ("jax", "tflite"))
    with pytest.raises(ConfigError, match=r"weights cannot be 'int4'"):
        export_run(run, out, weights="int4")
    monkeypatch.setitem(sys.modules, "jax2onnx", None)  # as where it is not installed
    assert cli.main(["export", "--workdir", str(workdir), "--out", str(out), "--forms", "onnx"]) == 2
    assert "pip install 'dnr-jax[onnx]'" in capsys.readouterr().err
    assert cli.main(["export", "--workdir", str(workdir), "--out", str(out), "--measure"]) == 2
    assert "add --weights bfloat16" in capsys.readouterr().err
    assert not out.exists()


def test_programs_of_a_former_export_do_not_stay_beside_new_weights(run, tmp_path):
    for name in ("network.onnx", "network.tflite", "mine.txt"):
        (tmp_path / name).write_text("old")
    export_run(run, tmp_path)
    names = {"weights.safetensors", "network.jax_export", "classes.txt", "config.json", "README.md", "mine.txt"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_the_folder_of_a_run_is_none_for_an_export(run, tmp_path):
    """Its configuration may be another one's, and would be replaced."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.json").write_text("of a run")
    with pytest.raises(ConfigError, match=r"is the folder of a run, whose config.json and classes.txt would be "):
        export_run(run, tmp_path)
    assert (tmp_path / "config.json").read_text() == "of a run"
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints", "config.json"}


def test_weights_in_the_folder_of_a_run_are_not_taken_for_its_checkpoint(workdir, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(workdir, folder)
    (folder / "weights.safetensors").write_bytes(b"of an earlier export")
    with tiny.known():
        assert read_source(folder, "best").name.startswith(f"{folder} (best checkpoint, step ")


@needs_onnx
@pytest.mark.slow
def test_an_operator_that_the_converter_does_not_know_is_named():
    with pytest.raises(ConfigError, match="jax2onnx cannot convert this network: .*'pure_callback'"):
        onnx_module.onnx_program(lambda x: jax.pure_callback(np.sqrt, x, x), (3,))


@needs_onnx
def test_a_program_that_says_something_else_is_refused():
    program = onnx_module.onnx_program(lambda x: x.astype(jnp.float32) / 255, (3,))
    with pytest.raises(ConfigError, match="differs from this one by 1.0e-01; expected at most 0.0001"):
        onnx_module.check_program(program, lambda x: x.astype(jnp.float32) / 255 + 0.1, (3,))
    with pytest.raises(ConfigError, match="onnxruntime does not run the converted network"):
        onnx_module.check_program(program[:50], lambda x: x, (3,))


@needs_onnx
def test_products_with_a_matrix_are_said_as_such():
    def products(x: jax.Array) -> jax.Array:
        x = x.astype(jnp.float32)
        return x @ np.ones((4, 5), np.float32) + jnp.einsum("nij,kj->nki", x, np.ones((3, 4), np.float32))[..., :1]

    import onnx

    program = onnx.load_from_string(onnx_module.onnx_program(products, (3, 4)))  # compares as well
    kinds = [node.op_type for node in program.graph.node]
    assert "MatMul" in kinds and not {"ab,bc->ac", "abc,cd->abd"} & {
        node.attribute[0].s.decode() for node in program.graph.node if node.op_type == "Einsum"
    }


def test_litert_says_what_it_lacks(workdir, tmp_path, monkeypatch, capsys):
    arguments = ["export", "--workdir", str(workdir), "--out", str(tmp_path / "out"), "--forms", "jax,litert"]
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert cli.main(arguments) == 2
    assert "the program onnx2tf, 2.6 or later, which is not on PATH; it wants an environ" in capsys.readouterr().err
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert cli.main(arguments) == 2
    assert "pip install 'dnr-jax[litert]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (
            "echo no such operator >&2; exit 3",
            r"onnx2tf cannot convert this network \(exit status 3\): ...no such oper",
        ),
        ("echo done", r"onnx2tf cannot convert this network \(exit status 0\): ...done"),
    ],
)
def test_a_converter_that_writes_nothing_is_told(tmp_path, monkeypatch, script, says):
    (tmp_path / "onnx2tf").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "onnx2tf").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(litert_module, "check_installed", lambda: None)
    with pytest.raises(ConfigError, match=says):
        litert_module.litert_program(b"", lambda x: x, (3,))


@needs_litert
@pytest.mark.slow
def test_a_litert_program_that_says_something_else_is_refused():
    def score(x: jax.Array) -> jax.Array:
        return x.astype(jnp.float32) / 255

    program = litert_module.litert_program(onnx_module.onnx_program(score, (3,)), score, (3,))
    with pytest.raises(ConfigError, match="differs from this one by 1.0e-01; expected at most 0.0001"):
        litert_module.check_program(program, lambda x: score(x) + 0.1, (3,))
    with pytest.raises(ConfigError, match="LiteRT does not run the converted network: .*; --forms onnx may"):
        litert_module.check_program(program[:50], score, (3,))


@pytest.mark.parametrize("reduce", [jax.lax.max, jax.lax.add])
@pytest.mark.parametrize("window", [(1, 1, 3, 3, 1), (1, 2, 3, 2, 1)])
def test_pooling_over_few_axes_at_a_time_is_pooling(reduce, window):
    """Among them windows that begin in front of the array, and leave the last elements out."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 6, 5, 3)), jnp.float32)
    start = -jnp.inf if reduce is jax.lax.max else 0.0
    padding = ((0, 0), (0, 0), (1, 1), (1, -1), (0, 0))

    def pool(x: jax.Array) -> jax.Array:
        return jax.lax.reduce_window(x, np.float32(start), reduce, window, (1, 1, 2, 2, 1), padding)

    rewritten = onnx_module._simplified(jax.make_jaxpr(jax.jit(pool))(x))
    inner = [equation for equation in jax.make_jaxpr(rewritten)(x).eqns if "reduce_window" in str(equation.primitive)]
    assert inner and all(len(equation.params["window_dimensions"]) <= 3 for equation in inner)
    np.testing.assert_allclose(rewritten(x)[0], pool(x), rtol=1e-6)


@needs_onnx
def test_what_is_padded_is_put_together():
    """In front, behind, and by fewer elements than there are; with a batch of any size."""

    def pad(x: jax.Array) -> jax.Array:
        return jax.lax.pad(x.astype(jnp.float32), jnp.float32(7), ((0, 0, 0), (2, -1, 0), (-1, 3, 0)))

    x = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    (found,) = onnx_module._simplified(jax.make_jaxpr(pad)(x))(x)
    np.testing.assert_array_equal(found, pad(x))
    onnx_module.onnx_program(pad, (4, 3))  # compares as well


@pytest.mark.parametrize("layout", [("NWC", "WIO", "NWC"), ("NCW", "OIW", "CNW")])
def test_a_convolution_over_one_axis_is_one_over_two(layout):
    channels, side = layout[0].index("C"), layout[1].index("W")
    kernel = np.random.default_rng(0).normal(size=(3, 2, 6)).astype(np.float32)
    kernel = kernel if side == 0 else kernel.transpose(2, 1, 0)

    def convolve(x: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(
            *(x.astype(jnp.float32), kernel, (2,), [(1, 2)]),
            **{"rhs_dilation": (2,), "feature_group_count": 2, "dimension_numbers": layout},
        )

    x = np.random.default_rng(1).integers(0, 9, (2, 8, 4), np.uint8)
    x = x if channels == 2 else x.transpose(0, 2, 1)
    (found,) = onnx_module._simplified(jax.make_jaxpr(convolve)(x))(x)
    np.testing.assert_allclose(found, convolve(x), rtol=1e-6)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_that_is_written_out_is_the_scan(reverse):
    def scan(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.lax.scan(lambda carry, y: (2 * carry + y, carry - y), x[0], x, reverse=reverse, unroll=2)

    x = jnp.arange(12.0).reshape(4, 3)
    written_out = onnx_module._simplified(jax.make_jaxpr(scan)(x))
    assert "scan" not in str(jax.make_jaxpr(written_out)(x))
    for found, expected in zip(written_out(x), scan(x), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "sampler",
    [
        *(Segments(4), Segments(4, frames_per_segment=5)),
        *(Dense(num_frames=4, interval=3), Window(4, window=20), Linspace(num_frames=4, interval=3)),
    ],
)
@pytest.mark.parametrize("total", [6, 90])
def test_the_readme_takes_frames_like_those_of_the_run(sampler, total):
    """Where the video is long enough; one clip of a run's own may begin elsewhere."""
    config = load_config(DEMO)
    config.data.sampler = sampler
    text = readme(config, ("a", "b"), ["network.onnx"], "float32")
    lines = re.search(r"^span = .*?^picked = .*?$", text, re.M | re.S)[0]
    names = {"frames": range(total)}
    exec(lines, names)
    picked = np.array(names["picked"])
    assert len(picked) == sampler.clip_frames and picked.min() >= 0 and picked.max() < total
    if total == 90:
        own = sampler.test(type("Total", (int,), {"rate": 0.0})(total), 1)[0]
        assert np.abs(np.diff(picked) - np.diff(own)).max() <= 1


def shrunk(name: str, variant: str, monkeypatch):
    """The configuration of a small network of a family."""
    tiny.shrink_bninception(monkeypatch)
    config = load_config(DEMO)
    network = registered(Network)[name](num_classes=3, width=8, stem="small")
    if hasattr(network, "depth"):
        network.depth = 50 if name == "TANet" else 18
    network.norm.relay_distance = 2 if name == "SlowFast" else 4
    config.model = network.arms()[variant]
    config.data.sampler.num_frames, config.data.crop_size = 40 if name == "TDN" else 16, 16
    return config


@pytest.mark.parametrize("name", ["TSN", *thorough("SlowFast", "R2Plus1D", "BNInception", "TSM", "TANet", "TDN")])
@pytest.mark.parametrize("variant", ["dnr", "bn"])
def test_every_family_exports_for_any_batch(name, variant, monkeypatch):
    config = shrunk(name, variant, monkeypatch)
    variables = sensitive(template_of(config))
    program = export_program(create_model(config.model), variables, config)
    assert program.platforms == ("cpu", "cuda", "tpu")
    (given,) = program.in_avals
    (scores,) = program.out_avals
    assert str(given.shape) == f"(batch, {config.data.sampler.num_frames}, 16, 16, 3)" and given.dtype == np.uint8
    assert str(scores.shape) == "(batch, 3)" and scores.dtype == np.float32


def sensitive(tree):
    """Random variables, with which the scores of a network depend on its clips."""
    rng = np.random.default_rng(0)

    def fill(path, leaf):
        if path[-1].key in ("scale", "var"):
            return jnp.asarray(rng.uniform(0.8, 1.2, leaf.shape), leaf.dtype)
        return jnp.asarray(rng.normal(0, np.prod(leaf.shape[:-1]) ** -0.5, leaf.shape), leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, tree)


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize("name", ["TSN", "TANet", "SlowFast", "TDN"])
@pytest.mark.parametrize("variant", ["dnr", "bn"])
def test_networks_on_frames_and_on_clips_convert_to_onnx(name, variant, monkeypatch, quick_compile):
    """The comparison with the network's own probabilities is part of the conversion."""
    tiny.shrink_resnet18(monkeypatch)
    config = shrunk(name, variant, monkeypatch)
    assert export_onnx(sensitive(template_of(config)), config)


@needs_litert
@pytest.mark.slow
@pytest.mark.parametrize("name", ["SlowFast", "R2Plus1D"])
def test_networks_on_clips_convert_to_litert(name, monkeypatch, quick_compile):
    """The comparison with the network's own probabilities is part of the conversion."""
    tiny.shrink_resnet18(monkeypatch)
    config = shrunk(name, "dnr", monkeypatch)
    assert export_litert(sensitive(template_of(config)), config)


@needs_onnx
@pytest.mark.slow
def test_an_onnx_program_with_rounded_kernels_takes_half_of_the_space(monkeypatch, quick_compile):
    """It is compared with the network with rounded kernels, too."""
    tiny.shrink_resnet18(monkeypatch)
    config = shrunk("TSN", "bn", monkeypatch)
    config.model.width = 32
    variables = sensitive(template_of(config))
    whole, half = (len(export_onnx(variables, config, weights)) for weights in ("float32", "bfloat16"))
    assert half < 0.6 * whole
