"""Pages that read well on a forge and on the site alike: plain Markdown, without directives.

The list of links on an index page is its table of contents here, and a link that leaves ``docs/`` leads to the forge.
"""

import pathlib
import re

from sphinx.application import Sphinx

INDEXES = ("index", "tutorials", "howto", "reference", "explanation")
"""Pages whose lists of links are tables of contents."""
REST = "howto"
"""The room of pages that no list names yet."""
_ENTRY = re.compile(r"^- \[[^\]]*\]\(([\w/]+)\.md\)", re.MULTILINE)
_OUTSIDE = re.compile(r"\]\(\.\./([^)\s]*)\)")


def setup(app: Sphinx) -> dict[str, bool]:
    """Read every page through :func:`on_site`."""
    app.add_config_value("forge_url", "", "env")
    app.connect("source-read", _read)
    return {"parallel_read_safe": True}


def _read(app: Sphinx, name: str, source: list[str]) -> None:
    generated = sorted(page for page in app.env.found_docs if page.startswith("reference/"))
    source[0] = on_site(name, source[0], pathlib.Path(app.srcdir), generated, app.config.forge_url)


def on_site(name: str, text: str, folder: pathlib.Path, generated: list[str], url: str) -> str:
    """Return the text of a page as the site reads it.

    Args:
      name: of the page, without its suffix.
      text: as it stands on the forge.
      folder: of all pages.
      generated: the pages that the reference has in addition.
      url: of the repository.
    """
    text = _OUTSIDE.sub(rf"]({url}/blob/main/\1)", text)
    if name not in INDEXES:
        return text
    entries = _ENTRY.findall(text)
    if name == REST:
        entries += sorted(unlisted(folder))
    if name == "reference":
        docstrings = [page for page in generated if "api_" in page]
        entries = [*(page for page in generated if page not in docstrings), *entries, *docstrings]
    return f"{text}\n\n```{{toctree}}\n:hidden:\n\n" + "\n".join(entries) + "\n```\n"


def unlisted(folder: pathlib.Path) -> set[str]:
    """Return the pages of a folder that are in no list."""
    listed = {entry for index in INDEXES for entry in _ENTRY.findall((folder / f"{index}.md").read_text())}
    return {page.stem for page in folder.glob("*.md")} - listed - set(INDEXES)
