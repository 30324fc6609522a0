"""What a config of published systems holds: tasks with their rivals, systems with their training, and claims."""

import importlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field

from reopt.core.schema import Count, NonNegative, Positive, Range, Section, Seed, Share
from reopt.tasks.base import Task

KindName = Literal["star", "velo", "hierarchical", "optim4rl"]
RivalName = Literal["momentum", "adam", "adam_decay", "sign", "nominal"]
Measure = Literal["objective", "last_tenth", "validation", "last_validation", "score", "last_score"]
Form = Literal["trained", "scaled"]
Choice = Literal["one", "each"]


class Unrolled(Section):
    """Meta-training through whole runs, by evolution strategies or by backpropagation."""

    estimator: Literal["es", "backpropagation"] = Field(
        default="es", description="of the meta-gradient: differences of objectives at moved weights, or the derivative"
    )
    outer_steps: Count = Field(default=400, description="meta-updates")
    problems: Count = Field(default=32, description="drawn for each of them")
    deviation: Positive = Field(default=0.02, description="es: of the weights, which are moved by it both ways")
    sign: bool = Field(default=False, description="es: only the sign of a difference counts")
    rate: Positive = Field(default=0.005, description="of the meta-optimizer, Adam")
    warm: Count = Field(default=10, description="outer steps until the rate is reached")
    final: Share = Field(default=0.05, description="share of the rate that a cosine leaves at the end")
    clip: Positive = Field(default=1.0, description="most that the meta-gradient's norm may be")
    held_out: bool = Field(default=False, description="the objective is the loss on held-out data")
    validation: Count = Field(default=128, description="problems on which weights are chosen")
    every: Count = Field(default=25, description="outer steps between two looks at them")


class Pipeline(Section):
    """Meta-training through windows of a population of agents of all ages (Lan et al. 2023)."""

    estimator: Literal["pipeline"]
    outer_steps: Count = Field(default=400, description="meta-updates")
    agents: Count = Field(default=32, description="in the population")
    interval: Count = Field(default=32, description="outer steps after which an agent begins anew")
    window: Count = Field(default=4, description="updates of each agent in an outer step")
    rate: Positive = Field(default=0.003, description="of the meta-optimizer, Adam")
    clip: Positive = Field(default=0.5, description="most that the meta-gradient's norm may be")
    validation: Count = Field(default=32, description="agents on which weights are chosen")
    every: Count = Field(default=25, description="outer steps between two looks at them")


class TaskEntry(Section):
    """What problems are drawn from, and the rivals that are tuned on it."""

    kind: Literal["family", "catch"] = Field(description="of the task")
    problem: dict[str, Any] = Field(default={}, description="settings of the task")
    num_steps: Count = Field(description="of a run")
    rivals: dict[RivalName, dict[str, Range]] = Field(description="settings by rival, and where each is drawn from")

    @property
    def task(self) -> Task:
        """The task itself."""
        module = importlib.import_module(f"reopt.systems.{self.kind}")  # a digest of sources holds both by name
        # From JSON, in which a pair is a list.
        return module.create(module.Settings.model_validate_json(json.dumps(self.problem)))


class SystemEntry(Section):
    """A system: what it is, where it is trained, and how."""

    kind: KindName = Field(description="which of the published optimizers")
    settings: dict[str, Any] = Field(default={}, description="of the optimizer; others are its defaults")
    task: str = Field(description="it is trained and judged on")
    measure: Measure = Field(description="it is judged by")
    seeds: list[Seed] = Field(min_length=1, description="a meta-training each")
    factors: list[Positive] = Field(
        default=[1.0], description="of its updates; the best on tuning problems is judged beside it as it was trained"
    )
    variant_of: str | None = Field(
        default=None, description="a system on the same task, in whose panel of the figure this one is a row"
    )
    training: Annotated[Unrolled | Pipeline, Field(discriminator="estimator")] = Field(description="how it is trained")


class Sample(Section):
    """Problems."""

    problems: Annotated[int, Field(ge=2, le=1_000_000, description="how many")]
    seed: Seed = Field(description="they are drawn from")


class Tuning(Sample):
    """Problems on which rivals are tuned, none of which is judged on."""

    draws: Count = Field(description="settings that are tried of each rival")
    first: Count = Field(default=32, description="problems on which all of them are tried")
    kept: Count = Field(default=32, description="draws that go on to all problems: so many of the best by each measure")


class Claim(Section):
    """A system is better than a rival or another system: the interval of the difference lies beyond `margin`."""

    statement: str = Field(description="in words")
    system: str = Field(description="that is said to be better")
    form: Form = Field(default="trained", description="as it was trained, or with the best factor of its updates")
    against: str = Field(description="a rival of its task, or another system on the same task")
    choice: Choice = Field(default="one", description="a rival's best setting for all problems, or for each by itself")
    margin: NonNegative = Field(default=0.0, description="by which it must be better, in units of the measure")


class SystemsConfig(Section):
    """The whole file."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64, description="of the folder of results")]
    tasks: dict[str, TaskEntry] = Field(description="by name")
    systems: dict[str, SystemEntry] = Field(description="by name")
    tuning: Tuning = Field(description="of rivals")
    judging: Sample = Field(description="of systems and rivals")
    reading: Sample = Field(
        default=Sample(problems=16, seed=2), description="on which systems that are no variants are read in context"
    )
    claims: dict[str, Claim] = Field(default={}, description="by their short names")
