"""`reopt landscape`: the loss around an optimizer's path."""

from reopt.cli import DEFAULT, ConfigFile, LogFile, OutDir, Subject, TaskName, app


@app.command()
def landscape(subject: Subject, task: TaskName, out: OutDir, config: ConfigFile = DEFAULT, log: LogFile = None) -> None:
    """The loss of one evaluation problem on the plane of an optimizer's path, and the path on it.

    Writes landscape.csv (u, v, loss) and path.csv (step, u, v, distance, loss) to the folder.
    """
    from reopt.artifacts.tables import write_table
    from reopt.commands import Slice, writable
    from reopt.subjects import resolve
    from reopt.training.landscape import landscape as stage

    del log
    read = Slice(config, "landscape", task=task)
    writable(out / "landscape.csv", out / "path.csv")
    target = read.task
    _, optimizer = resolve(subject, task=target, task_name=task, results=read.results)
    result = stage(optimizer, target, read.block("evaluation").seed, read.num_steps)
    write_table(out / "landscape.csv", result.grid)
    write_table(out / "path.csv", result.path)
