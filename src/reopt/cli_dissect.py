"""`reopt dissect`: the full examination of any optimizer, from any folder."""

from typing import Annotated

import typer

from reopt.cli import DEFAULT, AnyConfig, AnyTask, LogFile, OutDir, Problems, Seed, Steps, Subject, app


@app.command()
def dissect(
    subject: Subject,
    task: AnyTask,
    out: OutDir,
    config: AnyConfig = None,
    steps: Steps = None,
    problems: Problems = 64,
    seed: Seed = 0,
    draws: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="Draws a baseline is tuned with, where none is tuned yet.")
    ] = 200,
    coupled: Annotated[
        bool, typer.Option("--coupled", help="Take an optax transformation that couples parameters, see below.")
    ] = False,
    log: LogFile = None,
) -> None:
    """Examine an optimizer: fixed points, modes, clipping, schedule, adaptation, and what they leave unexplained.

    Writes readings.csv (a row a reading, a verdict a mechanism), schedule.csv, evaluation.csv, fixed_points.npz, the
    figures, and index.html, one page with all of it, to the folder. SUBJECT may be any component-wise optax
    transformation; what decoupled weight decay takes away is said beside the readings. With --coupled it may also be
    one that couples parameters (a global norm, LAMB): the readings are then those of a problem with a single scalar
    parameter, and say so; the loss curves are true. Works in any folder.
    """
    from reopt.commands import writable
    from reopt.dissection.dissect import FILES
    from reopt.dissection.dissect import dissect as examine
    from reopt.dissection.setting import setting_of, tuned_rivals
    from reopt.progress import Reporter
    from reopt.subjects import resolve

    where = setting_of(task, config=config, steps=steps, default=DEFAULT)
    writable(*(out / file for file in FILES))
    name, optimizer = resolve(
        subject, task=where.task, task_name=where.name, results=where.results, decay=True, coupled=coupled
    )
    with Reporter(f"dissect {name}", log) as report:
        rivals = tuned_rivals(where, draws=draws, seed=seed, say=report.say)
        rivals.pop(name, None)
        result = examine(
            optimizer,
            where.task,
            name=name,
            task_name=where.name,
            num_steps=where.num_steps,
            problems=problems,
            seed=seed,
            rivals=rivals,
            say=report.say,
        )
        for finding in result.findings:
            report.say(f"{finding.mechanism}: {finding.verdict}; {finding.why}")
        result.write(out)
        report.say(f"written: {out / 'index.html'}")
