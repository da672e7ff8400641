"""The page of a report: its template, style sheet and policy, and what both kinds of report draw and cut alike."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from zerotune_trainer.reporting.charts import Chart, draw

REPORT_NAME = "report.html"
_STYLE_NAME = "report.css"
_SHOWN_CHARACTERS = 600
"""How much of a text is shown."""

_ENVIRONMENT = Environment(
    loader=PackageLoader("zerotune_trainer.reporting"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class DrawnChart:
    """A chart's heading and its SVG."""

    title: str
    svg: Markup


def render_page(template: str, charts: Iterable[Chart], **values: Any) -> bytes:
    """A report, with those of the charts that have anything to show."""
    style = Markup(_ENVIRONMENT.get_template(_STYLE_NAME).render())  # noqa: S704 our own file
    drawn = [DrawnChart(chart.title, svg) for chart in charts if (svg := draw(chart))]
    page = _ENVIRONMENT.get_template(template)
    return page.render(policy=_policy(style), style=style, charts=drawn, **values).encode()


def cut(text: str) -> str:
    """A text as far as it is shown."""
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]} ..."


def _policy(style: str) -> str:
    """The page's Content-Security-Policy: nothing is loaded, nothing runs, and only this style sheet applies. What a
    model, a record or a pod says stays text even where it would be taken for markup.
    """
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
