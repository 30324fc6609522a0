"""What was read of an optimizer in its context, as a page."""

from collections.abc import Mapping

from reopt.examination.page import page
from reopt.figures.in_context import pictures
from reopt.figures.save import render
from reopt.mechanisms.base import Finding
from reopt.published.in_context import FILES, InContext

PAGE = "index.html"


def page_of(found: InContext, name: str, task: str, *, facts: Mapping[str, str], command: str | None = None) -> str:
    """All of it as one HTML page that needs no other file; `facts` say how it was made, `command` what makes it."""
    shown = {key: (render(figure, "svg"), caption) for key, (figure, caption) in pictures(found).items()}
    columns = (found.findings[column] for column in ("mechanism", "verdict", "why"))
    rows = [Finding(mechanism, verdict, why, []) for mechanism, verdict, why in zip(*columns, strict=True)]
    return page(name, task, rows, shown, facts=facts, command=command, tables=", ".join(FILES))
