"""Subcommands of `reopt` that make one part of an examination, or hold it against what is known: for the rules."""

from pathlib import Path
from typing import Annotated

import typer

from reopt.cli.app import app
from reopt.cli.options import DEFAULT, ConfigFile, LogFile, OutFile, Subject, TaskName
from reopt.core.errors import ReoptError, shortened
from reopt.examination.parts import PARTS, earlier

_PARTS = ", ".join(PARTS)


@app.command(epilog=f"Parts, in this order: {_PARTS}.")
def analyse(
    part: Annotated[str, typer.Argument(help="Part of the examination, see below.")],
    subject: Subject,
    task: TaskName,
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")],
    stored: Annotated[
        Path | None, typer.Option("--from", help="Folder with the parts before this one; default: that of --out.")
    ] = None,
    config: ConfigFile = DEFAULT,
    log: LogFile = None,
) -> None:
    """Make one part of an examination (a recording, fixed points, update functions, ...) from the parts before it."""
    from reopt.cli.progress import Reporter
    from reopt.examination.examination import Examination
    from reopt.pipeline.slice import Slice, writable
    from reopt.pipeline.subjects import resolve

    if part not in PARTS:
        raise ReoptError(f"no part of an examination is called {part!r}; there are: {_PARTS}")
    read, made = Slice(config, part, task=task), PARTS[part]
    writable(*(out / file for file in made.files))
    target = read.task
    name, optimizer = resolve(subject, task=target, task_name=task, results=read.results)
    found = Examination(optimizer, target, read.settings, name=name, stored=stored or out, given=earlier(part))
    found.require(*made.needs)
    with Reporter(f"{part} {task} {name}", log) as report:
        found.make(part, out)
        for sentence in found.remarks(part):
            report.say(sentence)


@app.command()
def control(
    subject: Subject,
    task: TaskName,
    out: OutFile,
    examination: Annotated[
        Path, typer.Option("--examination", help="Folder in which `reopt analyse` has made fixed points and modes.")
    ],
    config: ConfigFile = DEFAULT,
    log: LogFile = None,
) -> None:
    """Hold readings of an optimizer against what is known of them beforehand (the config's analysis.controls)."""
    from reopt.cli.progress import Reporter
    from reopt.core.tables import write_table
    from reopt.examination.control import Known, control_table, readings
    from reopt.examination.examination import Examination
    from reopt.pipeline.slice import Slice, writable
    from reopt.pipeline.subjects import resolve

    read = Slice(config, "control", task=task)
    writable(out)
    name, optimizer = resolve(subject, task=read.task, task_name=task, results=read.results)
    family = name.rpartition("-s")[0]
    entries = [one for one in read["analysis.controls"] if (one.task, one.optimizer) == (task, family)]
    if not entries:
        raise ReoptError(f"{config}: analysis.controls has no entry for {shortened(family or name)} on {task}")
    found = Examination(optimizer, read.task, read.settings, name=name, stored=examination)
    found.require("points", "linearization")
    with Reporter(f"control {task} {name}", log) as report:
        values = readings(found, problems=entries[0].problems, seed=entries[0].seed)
        known = {key: Known(one.value, one.low, one.high) for key, one in entries[0].readings.items()}
        table = control_table(values, known)
        report.say(f"{int(table['agrees'].sum())} of {len(table)} readings agree with what is known")
    write_table(out, table)
