"""Plain values in, self-contained HTML pages out: no page loads anything from anywhere.

Column names, categories and reasons come from strangers: Jinja escapes all of them, and images are
embedded as data URIs in `<img>`, where no script in an SVG can run. The one script is Baton's own, and
the page's policy names its hash, so that no other runs.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemBytecodeCache, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from baton.runtime.paths import TEMPLATES

if TYPE_CHECKING:
    from matplotlib.figure import Figure
from baton.formatting import number_text, percent_text

COMPILED = TEMPLATES.parent / "__pycache__"  # where Python keeps compiled modules, if it may write there
LONGEST = 200  # characters of a name or a cell
# MLflow shows a page in a sandbox of its own, where a link to a place of the page leads nowhere.
SCRIPT = """document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#"]');
  const place = link && document.getElementById(link.getAttribute("href").slice(1));
  if (place) { event.preventDefault(); place.scrollIntoView(); }
});"""


def render(template: str, **values: Any) -> str:
    """A template and its values → a page."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    return _template(template).render(**values, script=Markup(SCRIPT), script_hash=f"sha256-{digest}")


def figure_uri(figure: Figure) -> str:
    """A matplotlib figure → a PNG data URI of the same pixels as its artifact."""
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return data_uri("image/png", out.getvalue())


@cache
def _template(name: str) -> Template:
    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        bytecode_cache=FileSystemBytecodeCache(str(COMPILED)) if os.access(COMPILED, os.W_OK) else None,
    )
    environment.filters |= {"percent": percent_text, "number": number_text, "short": _short}
    return environment.get_template(name)


def _short(text: str) -> str:
    """A name or a cell → as much of it as somebody reads."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
