"""The documentation site is built without a warning, and shows what the program itself says."""

import dataclasses
import os
import pathlib
import subprocess
import sys
import zlib

import nbformat
import pytest

import dnr_jax
from dnr_jax import cli, train_command
from dnr_jax.config import ExperimentConfig, Network, list_configs, registered
from tests.paths import REPOSITORY

DOCS = REPOSITORY / "docs"
BADGE = "https://colab.research.google.com/github/dnr-jax/dnr_jax/blob/main/colabs/"


@pytest.fixture(scope="module")
def extensions():
    """The site's own extensions, as Sphinx imports them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS / "_ext")
        import forge
        import mathml
        import signatures

        yield {"forge": forge, "mathml": mathml, "signatures": signatures}


def test_lists_of_links_are_tables_of_contents_and_other_links_lead_to_the_forge(extensions, tmp_path):
    pages = {
        "index": "- [A](howto.md)\n",
        "howto": "- [B](b.md): b\n",
        "tutorials": "",
        "reference": "",
        "explanation": "",
    }
    for name, text in pages.items() | {("b", "# B\n"), ("new", "# New\n")}:
        (tmp_path / f"{name}.md").write_text(text)
    on_site = extensions["forge"].on_site
    text = on_site("howto", pages["howto"], tmp_path, [], "https://x")
    assert text.endswith("```{toctree}\n:hidden:\n\nb\nnew\n```\n")  # a page that no list names is found all the same
    generated = ["reference/api_x", "reference/commands"]
    assert "\n\nreference/commands\nreference/api_x\n```" in on_site("reference", "", tmp_path, generated, "https://x")
    page = "[the code](../dnr_jax/cli.py), [here](b.md#part), [there](https://y)"
    moved = page.replace("../", "https://x/blob/main/")
    assert on_site("b", page, tmp_path, [], "https://x") == moved


def test_the_index_of_an_accented_letter_stands_beside_it(extensions):
    formula = extensions["mathml"].mathml(r"\bar{x}_t \quad i_t")
    assert "munderover" not in formula and formula.count("<msub>") == 2
    assert '<mover accent="true">' in formula


def test_signatures_of_classes_show_names_and_defaults(extensions):
    text = extensions["signatures"].signature(dnr_jax.CrossLayerDNR)
    assert "relay_distance=" in text and "base=BatchNorm()" in text
    assert "Annotated" not in text and "parent" not in text
    assert "norm=DNRSpec()" in extensions["signatures"].signature(registered(Network)["TSN"])


@pytest.mark.parametrize("page", ["README.md", "colabs/README.md", "docs/tutorials.md"])
def test_a_badge_opens_every_notebook(page):
    text = (REPOSITORY / page).read_text()
    for notebook in (REPOSITORY / "colabs").glob("*.ipynb"):
        assert f"({BADGE}{notebook.name})" in text, notebook.name
        assert nbformat.read(notebook, as_version=4).cells[0].source.startswith("# ")


def read_inventory(path: pathlib.Path) -> set[tuple[str, str]]:
    """Return kind and name of all that the site documents."""
    _, _, _, _, packed = path.read_bytes().split(b"\n", 4)
    lines = (line.split(" ") for line in zlib.decompress(packed).decode().splitlines())
    return {(words[next(i for i, word in enumerate(words) if ":" in word)], words[0]) for words in lines}


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_lacks_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-n", "-W", "--keep-going", "-q", DOCS, tmp_path / "site"],
        cwd=tmp_path,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "MPLCONFIGDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-5000:]

    found = read_inventory(tmp_path / "site" / "objects.inv")
    fields = {name for kind, name in found if kind == "std:confval"}
    assert {f"data.{field.name}" for field in dataclasses.fields(ExperimentConfig().data)} <= fields
    for name, network in registered(Network).items():
        assert {f"{name}.{field.name}" for field in dataclasses.fields(network)} <= fields
    documented = {name.rpartition(".")[2] for kind, name in found if kind.startswith("py:")}
    assert set(dnr_jax.__all__) <= documented
    commands = (tmp_path / "site" / "reference" / "commands.html").read_text()
    for command in cli._parser()._subparsers._group_actions[0].choices:
        assert f'id="dnr-{command}"' in commands
    assert all(f"--{flag}" in commands for flag in train_command._own_flags())
    configuration = (tmp_path / "site" / "reference" / "configuration.html").read_text()
    assert all(f">{name}<" in configuration for name in list_configs())
    # Nothing is fetched from elsewhere when a page is read, but for the badges of Colab.
    page = (tmp_path / "site" / "method.html").read_text()
    assert "<math" in page and 'src="http' not in page
