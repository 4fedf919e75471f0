"""Citations: a link whose title is a key of the bibliography leads to its entry."""

from typing import Any

from bibliography import Style
from docutils import nodes
from pybtex.plugin import register_plugin
from sphinx.addnodes import pending_xref
from sphinxcontrib.bibtex.roles import CiteRole

NAME = "author_year_letter"  # of the style, for _config.yml


def in_document(app: Any, doctree: nodes.document) -> None:
    """Citations in place of the links that stand for them in other viewers."""
    for link in list(doctree.findall(nodes.reference)):
        key, text = link.get("reftitle"), link.astext()
        if key and text.startswith("["):
            link.replace_self(citation(app.env, doctree, key))


def citation(env: Any, doctree: nodes.document, key: str) -> nodes.Node:
    """What the role ``cite:p`` makes of a key."""
    names = {"refdomain": "cite", "reftype": "p", "reftarget": key}
    made = pending_xref("", **names, refdoc=env.docname, refwarn=True)
    made += nodes.inline("", key)
    role = CiteRole()
    role.target = key
    (made,), _ = role.result_nodes(doctree, env, made, True)
    return made


def setup(app: Any) -> None:
    """Make the style known by its name, and connect the rest."""
    register_plugin("pybtex.style.formatting", NAME, Style)
    app.connect("doctree-read", in_document)
