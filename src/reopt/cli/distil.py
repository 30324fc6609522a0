"""`reopt distil`: a learned optimizer as a rule of a few numbers, written out as code."""

from typing import Annotated

import typer

from reopt.cli.app import app
from reopt.cli.options import (
    DEFAULT,
    AnyConfig,
    AnyTask,
    Draws,
    LogFile,
    NoCache,
    OutDir,
    Problems,
    Seed,
    Steps,
    Subject,
)
from reopt.core.errors import ReoptError


@app.command()
def distil(
    subject: Subject,
    task: AnyTask,
    out: OutDir,
    parts: Annotated[
        str,
        typer.Option(help="Of the largest rule, with commas: gate, gain, clip, power, direct, schedule; default: all."),
    ] = "",
    outer_steps: Annotated[int, typer.Option(min=1, max=1_000_000, help="Of the meta-training of each rule.")] = 800,
    batch: Annotated[int, typer.Option(min=1, max=100_000, help="Problems of an outer step.")] = 64,
    networks: Annotated[
        bool, typer.Option("--networks/--no-networks", help="Also train GRUs of as few numbers, to compare.")
    ] = True,
    config: AnyConfig = None,
    steps: Steps = None,
    problems: Problems = None,
    seed: Seed = None,
    training_seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the training problems.")] = 0,
    draws: Draws = 200,
    no_cache: NoCache = False,
    log: LogFile = None,
) -> None:
    """Distil an optimizer: meta-train rules of fewer and fewer numbers to take its place, and say what each keeps.

    Writes rule.py (an optax transformation, numbers as literals, no import of reopt), rule_torch.py, distilled.json
    (the numbers of every rule), distilled.csv (a row an optimizer) and the figure distilled. Takes a
    quarter of an hour or more: each of up to seven rules is trained, and each part tried without. Works in any folder.
    """
    from reopt.cli.progress import Reporter
    from reopt.distillation.ladder import Recipe
    from reopt.distillation.run import FILES, NETWORKS
    from reopt.distillation.run import distil as stage
    from reopt.optimizers.rules import PARTS, numbers_of
    from reopt.pipeline.baseline_cache import cache_folder
    from reopt.pipeline.setting import setting_of, tuned_rivals
    from reopt.pipeline.slice import writable
    from reopt.pipeline.subjects import resolve
    from reopt.training.cotangent_clipping import CotangentClipping

    chosen = tuple(word.strip() for word in parts.split(",") if word.strip()) or tuple(PARTS)
    numbers_of(chosen)
    if len(set(chosen)) < len(chosen):
        raise ReoptError(f"--parts {parts}: a part stands twice")
    where = setting_of(
        task, config=config, steps=steps, problems=problems, seed=seed, default=DEFAULT, subjects=[subject]
    )
    writable(*(out / file for file in (*FILES, "distilled.svg", "distilled.png")))
    name, optimizer = resolve(subject, task=where.task, task_name=where.name, results=where.results)
    group = next(size for size in range(min(16, batch), 0, -1) if batch % size == 0)
    group = group if group >= 8 else batch  # the median of a few is that of none
    recipe = Recipe(outer_steps=outer_steps, problems=batch, clipping=CotangentClipping(4.0, group))
    with Reporter(f"distil {name}", log) as report:
        cache = None if no_cache else cache_folder()
        rivals = tuned_rivals(where, draws=draws, seed=0, say=report.say, cache=cache)
        result = stage(
            optimizer,
            where.task,
            where.settings,
            rivals=rivals,
            parts=chosen,
            recipe=recipe,
            networks=NETWORKS if networks else (),
            name=name,
            task_name=where.name,
            seed=training_seed,
            say=report.say,
            report=report,
        )
        result.write(out)
        report.say(f"written: {out / FILES[0]}")
    typer.echo(repr(result))
