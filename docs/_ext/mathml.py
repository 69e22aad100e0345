"""Formulas as MathML, which browsers draw themselves: no script, and nothing to fetch from a network."""

import html
import re
import xml.etree.ElementTree as ET

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

_NAMESPACE = "http://www.w3.org/1998/Math/MathML"
_ENTITY = re.compile(r"&(?!(?:lt|gt|amp|quot);)\w+;")
"""What HTML knows, as a kind of space, and XML does not."""


def setup(app: Sphinx) -> dict[str, bool]:
    """Draw formulas in this way."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True}


def mathml(latex: str, as_block: bool = False) -> str:
    """Return a formula as MathML."""
    ET.register_namespace("", _NAMESPACE)
    text = latex2mathml.tex2mathml(latex, as_block=as_block)
    root = ET.fromstring(_ENTITY.sub(lambda entity: html.unescape(entity[0]), text))
    for element in list(root.iter(f"{{{_NAMESPACE}}}munderover")):
        base, below, above = element
        if above.tag.endswith("mo") and above.get("stretchy") == "false":  # docutils sets the index of an accented
            _index_of_accented(element, base, below, above)  # letter below the letter
    return ET.tostring(root, encoding="unicode")


def _index_of_accented(element: ET.Element, base: ET.Element, below: ET.Element, above: ET.Element) -> None:
    element.clear()
    element.tag = f"{{{_NAMESPACE}}}msub"
    accented = ET.SubElement(element, f"{{{_NAMESPACE}}}mover", accent="true")
    accented.extend([base, above])
    element.append(below)


def _inline(writer: HTML5Translator, node: nodes.math) -> None:
    writer.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def _block(writer: HTML5Translator, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="math">{mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode
