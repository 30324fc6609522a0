"""`reopt causes`: what each mechanism of an optimizer is worth, by taking it away."""

from pathlib import Path
from typing import Annotated

import typer

from reopt.cli import DEFAULT, ConfigFile, LogFile, OutDir, Subject, TaskName, app
from reopt.cli_analysis import LinearFile, _open, _read


@app.command()
def causes(
    subject: Subject,
    task: TaskName,
    linearization: LinearFile,
    clipping: Annotated[Path, typer.Option("--clipping", help="clipping.csv of `reopt update-functions`.")],
    out: OutDir,
    momentum: Annotated[
        Path | None, typer.Option("--momentum", help="A tuned momentum (.json of `reopt tune`) to run beside it.")
    ] = None,
    config: ConfigFile = DEFAULT,
    log: LogFile = None,
) -> None:
    """Take momentum, clipping, schedule and adaptation away, in all combinations: what the meta-objective loses.

    Writes causes.csv (a row a combination) and worth.csv (what each mechanism is worth) to the folder.
    """
    from reopt.arithmetic import same_on_all_processors

    same_on_all_processors()
    from reopt.artifacts.tables import read_table, write_table
    from reopt.dynamics.linearization import Linearization
    from reopt.mechanisms import causes as stage
    from reopt.progress import Reporter
    from reopt.subjects import load_baseline

    files = ("causes.csv", "worth.csv")
    read, target, name, optimizer = _open(config, "causes", task, subject, *(out / file for file in files))
    settings = read.block("evaluation")
    linear = _read(linearization, Linearization, hidden=optimizer.state_size)
    table = read_table(clipping, ("place", "threshold_positive", "threshold_negative"))
    result = stage.causes(
        optimizer,
        linear,
        target,
        seed=settings.seed,
        num_steps=read.num_steps,
        problems=stage.num_problems(target, optimizer, settings.problems),
        threshold=stage.clipping_threshold(table),
        tuned_momentum=load_baseline(momentum) if momentum else None,
    )
    with Reporter(f"causes {task} {name}", log) as report:
        alone = result.worth[result.worth["quantity"] == "alone"]
        report.say("; ".join(f"without {row.mechanism} {row.value:+.3g}" for row in alone.itertuples()))
    write_table(out / "causes.csv", result.table)
    write_table(out / "worth.csv", result.worth)
