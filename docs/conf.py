"""Settings of the documentation site: ``sphinx-build -n -W --keep-going docs FOLDER`` builds it, without a network."""

import os
import pathlib
import sys
import tomllib

DOCS = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS / "_ext"), str(DOCS.parent)]
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import dnr_jax  # noqa: E402

_project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())["project"]

project = "dnr_jax"
author = copyright = "The dnr_jax contributors"
version = release = dnr_jax.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "forge",
    "mathml",
    "names",
    "reference",
    "signatures",
]
exclude_patterns = ["_build", "_ext", "_static"]
nitpicky = True
suppress_warnings = ["ref.python"]  # several classes have a field of the same name, which is no broken reference
smartquotes = False  # two hyphens begin a flag
# Its files say what is where on a forge as well: what lies outside of docs/ is linked there.
forge_url = _project.get("urls", {}).get("Repository", "https://github.com/dnr-jax/dnr_jax")

myst_enable_extensions = ["attrs_inline", "dollarmath"]
myst_heading_anchors = 4  # as forges make them

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
# Types that have no page: aliases, and what jax calls jax.Array inside.
nitpick_ignore_regex = [
    ("py:(class|obj)", r"(typing\.|types\.)?(Annotated|Literal|Union|dict|tuple)(\[.*)?"),
    ("py:class", r"[\d.]+"),  # bounds in them
    ("py:class", r"jax\.jaxlib\._jax\.Array"),
    ("py:class", r"jaxtyping\..*|lambda"),  # shapes of arrays; conditions of fields
]
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"dnr_jax {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "source_repository": forge_url,
    "source_branch": "main",
    "source_directory": "docs/",
    "top_of_page_buttons": ["view"],
}
html_copy_source = False
html_last_updated_fmt = None
copybutton_exclude = ".linenos, .gp, .go"

# Links into the manuals of other libraries need the network, which continuous integration does without.
if os.environ.get("READTHEDOCS"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "jax": ("https://docs.jax.dev/en/latest", None),
        "flax": ("https://flax.readthedocs.io/en/latest", None),
    }
