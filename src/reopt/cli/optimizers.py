"""`reopt optimizers`: the learned optimizers that travel with the package, and which suits what."""

from pathlib import Path
from typing import Annotated, Any

import typer

from reopt.cli.app import app


@app.command()
def optimizers(
    name: Annotated[str | None, typer.Argument(help="Show the card of this one, for instance mnist/gru16.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write the table (CSV), or the card (JSON), to a file.")
    ] = None,
) -> None:
    """List the shipped learned optimizers: for which gradients and steps each is, and how it compares.

    Any of them is a SUBJECT of the other commands, and what `reopt.load(NAME)` gives in Python. Gradients are those of
    the first step: 5%, 50% and 95% quantiles of their absolute values. Score: mean loss over a run relative to the
    initial loss, on held-out problems of the task, with its 95% interval; lower is better.
    """
    from dataclasses import asdict

    import pandas as pd

    from reopt.core.tables import write_json, write_table
    from reopt.pipeline.slice import writable
    from reopt.shipped.cards import card_named, cards

    if out is not None:
        writable(out)
    if name is not None:
        card = card_named(name)
        typer.echo(str(card))
        if out is not None:
            write_json(out, asdict(card))
        return
    rows = [_row(card) for card in cards().values()]
    if out is not None:
        write_table(out, pd.DataFrame(rows))
    _show(rows)


def _row(card: Any) -> dict[str, Any]:
    scope = card.scope
    return {
        "name": card.name,
        "steps": scope.steps,
        "parameters": scope.params,
        "gradients": f"{scope.low:.1g} / {scope.median:.1g} / {scope.high:.1g}",
        "score": str(card.score),
        "best baseline": f"{card.baseline.optimizer} {card.baseline}",
        "against it": card.verdict,
    }


def _show(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table(title="Shipped learned optimizers (reopt optimizers NAME shows a card)", title_justify="left")
    for column in rows[0]:
        shown.add_column(column, justify="right" if column in ("steps", "parameters") else "left")
    for row in rows:
        shown.add_row(*(str(value) for value in row.values()))
    console = Console()
    if not console.is_terminal:  # of a file or a pipe the lines may be as long as they are
        console = Console(width=200)
    console.print(shown)
