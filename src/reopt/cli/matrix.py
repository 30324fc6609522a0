"""`reopt matrix`: what an optimizer of matrices acts by, on singular values and through time."""

from pathlib import Path
from typing import Annotated

import typer

from reopt.cli.app import app
from reopt.cli.options import LogFile
from reopt.core.errors import ReoptError, shortened

LARGEST = 64  # rows or columns: thousands of steps of it are taken


@app.command()
def matrix(
    subject: Annotated[
        str,
        typer.Argument(
            help="An optax transformation: file.py:name or package.module:name, also called with plain values "
            "('optax:contrib.muon(0.02)')."
        ),
    ],
    shape: Annotated[
        tuple[int, int], typer.Option(min=2, max=LARGEST, help="Rows and columns of the matrix of parameters.")
    ] = (8, 6),
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the tables and the figure; default: none are written.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the probing gradients.")] = 0,
    log: LogFile = None,
) -> None:
    """What an optimizer acts by on a matrix of parameters: by element, by sums over the array, or by singular values.

    Of the last also the map of singular values and the momentum behind it. Writes symmetry.csv, spectral_map.csv,
    impulse.csv and the figure matrix to the folder, if one is given. Works in any folder.
    """
    from reopt.cli.progress import Reporter
    from reopt.core.foreign import foreign
    from reopt.examination.matrix import FILES, read_matrix
    from reopt.optimizers.base import Optimizer
    from reopt.optimizers.optax_bridge import as_optax
    from reopt.pipeline.slice import writable
    from reopt.pipeline.subjects import load_object, made, split_object

    if ":" not in subject:
        raise ReoptError(f"{shortened(subject)}: give file.py:name, package.module:name or a call of it")
    if out is not None:
        writable(*(out / file for file in (*FILES, "matrix.svg", "matrix.png")))
    found = made(load_object(subject), subject)
    if isinstance(found, Optimizer):
        found = as_optax(found)
    name = split_object(subject)[1]
    with Reporter(f"matrix {shortened(name)}", log) as report, foreign(f"{shortened(subject)} cannot take a step"):
        result = read_matrix(found, shape, name=name, seed=seed)
        sentences = result.sentences()
        if out is not None:
            result.write(out)
            report.say(f"written: {out / FILES[0]}")
    typer.echo("\n".join(sentences))
