"""The config: every key typed, bounded and described, most with a default. Unknown keys are errors.

A config file is whole in itself: what it leaves out is as said here, and in no other file. The stages take their
section as a plain object; only commands read a file.
"""

import functools
import json
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Never

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from reopt.core.errors import ReoptError
from reopt.core.grades import FAILS, HOLDS, IN_PART, UNDETERMINED, Grade
from reopt.core.schema import Count, Finite, Fraction, NonNegative, Positive, Range, Section, Seed, Share
from reopt.examination.settings import Settings
from reopt.tasks.registry import task_module

MAX_BYTES = 1_000_000  # of a config file
MOST_ALIASES = 30
DEEPEST = 100  # blocks within blocks
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
ControlReading = Literal[
    "meta_objective",
    "alpha",
    "beta",
    "second_beta",
    "fixed_points",
    "pc1",
    "pc1_offset",
    "pc2_offset",
    "slope",
    "straightness",
]
Baseline = Literal["sgd", "momentum", "rmsprop", "adam", "adam_decay"]
RECIPE = ("features", "input_scale", "output_scale", "learning_rate")  # what a task's search decides
if TYPE_CHECKING:
    Searched = Never  # whoever trains with a value has had it filled in
else:
    Searched = Literal["searched"]  # instead of a value: the one that the task's search finds


def _each_once(items: list) -> list:
    if twice := [item for item, count in Counter(items).items() if count > 1]:
        raise ValueError(f"{twice[0]!r} stands there twice")
    return items


class ExponentialSchedule(Section):
    """rate(k) = learning_rate * factor^(k / every)."""

    kind: Literal["exponential"]
    factor: Annotated[float, Field(gt=0, le=1)] = Field(description="factor by which the rate falls")
    every: Count = Field(description="outer steps in which it falls by that factor")


class CosineSchedule(Section):
    """Linear warm-up, then half a cosine down to a fraction of the learning rate."""

    kind: Literal["cosine"]
    warmup_steps: Annotated[int, Field(ge=0, le=10_000_000)] = Field(
        default=50, description="outer steps of linear warm-up"
    )
    final_fraction: Share = Field(default=0.02, description="rate at the end, as a fraction of learning_rate")


class Clip(Section):
    """Clipping of the meta-gradient."""

    kind: Literal["element", "norm"] = Field(default="norm", description="clip each element, or the global norm")
    value: Positive = Field(default=1.0, description="largest absolute element, or largest norm")


class Validation(Section):
    """Validation of the averaged weights during meta-training, on problems that are always the same."""

    problems: Count = Field(default=256, description="number of held-out problems")
    every: Count = Field(default=50, description="outer steps between validations")
    seed: Seed = Field(default=0, description="seed of the validation problems")


class CotangentClippingConfig(Section):
    """Clipping of the backward pass: a problem's cotangent is cut to a multiple of the median of its group."""

    factor: Positive = Field(default=4.0, description="largest norm, in median norms of the group")
    group: Count = Field(default=16, description="problems that are compared; `problems` must be a multiple of it")


class FullEstimator(Section):
    """The meta-gradient through the whole unroll."""

    kind: Literal["full"]


class TruncatedEstimator(Section):
    """Truncated backpropagation: an outer step every `window` steps, and no gradient across its start."""

    kind: Literal["truncated"]
    window: Count = Field(description="steps of the unroll in an outer step")


class PersistentEstimator(Section):
    """Persistent evolution strategies (Vicol et al. 2021): truncated too, but not biased by it."""

    kind: Literal["pes"]
    window: Count = Field(description="steps of the unroll in an outer step")
    deviation: Positive = Field(description="standard deviation of the weights' perturbation")


class TrainingConfig(Section):
    """Meta-training of one learned optimizer."""

    problem: dict[str, Any] = Field(default={}, description="the task's settings that are others while training")
    outer_steps: Count = Field(default=1000, description="number of meta-training steps")
    problems: Count = Field(default=64, description="fresh problems an outer step")
    learning_rate: Positive | Searched = Field(default=0.004, description="of the meta-optimizer, Adam")
    schedule: Annotated[ExponentialSchedule | CosineSchedule, Field(discriminator="kind")] = CosineSchedule(
        kind="cosine"
    )
    beta1: Fraction = Field(default=0.9, description="Adam's beta1")
    beta2: Fraction = Field(default=0.99, description="Adam's beta2")
    eps: Positive = Field(default=1e-8, description="Adam's epsilon")
    clip: Clip = Clip()
    l2_penalty: NonNegative = Field(default=0.0, description="times the norm (not squared) of all weights")
    estimator: Annotated[FullEstimator | TruncatedEstimator | PersistentEstimator, Field(discriminator="kind")] = (
        FullEstimator(kind="full")
    )
    cotangent_clipping: CotangentClippingConfig | None = Field(
        default=CotangentClippingConfig(),
        description="clipping of the backward pass, cotangent by cotangent; null is the exact meta-gradient",
    )
    average: Fraction = Field(
        default=0.99, description="decay of the exponential average of the weights; 0 is the last weights"
    )
    memory_mb: Positive = Field(
        default=150.0, description="budget for what the full meta-gradient keeps, in MB, over all devices"
    )
    validation: Validation = Validation()

    @model_validator(mode="after")
    def _warmup_fits(self) -> "TrainingConfig":
        if self.schedule.kind == "cosine" and self.schedule.warmup_steps >= self.outer_steps:
            raise ValueError("schedule.warmup_steps must be below outer_steps")
        return self

    @model_validator(mode="after")
    def _cotangents_are_clipped_in_the_full_gradient(self) -> "TrainingConfig":
        if self.cotangent_clipping and self.estimator.kind != "full":
            raise ValueError(
                f"cotangent_clipping must be null where estimator.kind is {self.estimator.kind}: it has no use there"
            )
        if self.estimator.kind == "truncated" and self.estimator.window < 2:
            raise ValueError("estimator.window must be 2 or more: a step's loss is taken before its update")
        return self

    @model_validator(mode="after")
    def _groups_are_whole(self) -> "TrainingConfig":
        if (clipping := self.cotangent_clipping) and self.problems % clipping.group:
            must = f"a multiple of cotangent_clipping.group, {clipping.group}"
            raise ValueError(f"problems is {self.problems}, but must be {must}")
        return self


class LearnedConfig(Section):
    """A learned optimizer: its architecture and its meta-training."""

    cell: Literal["gru", "lstm", "vanilla"] = "gru"
    units: Annotated[int, Field(ge=1, le=4096)] = Field(description="hidden units")
    features: Literal["raw", "log1p"] | Searched = Field(
        default="raw",
        description="raw: the gradient; log1p: (log(1 + |g|), sign g); searched: as the task's search finds",
    )
    input_scale: Positive | Searched = Field(default=1.0, description="times the gradient, before the features")
    output_scale: Positive | Searched = Field(default=0.1, description="times the readout")
    input_fan_in: Literal["units", "inputs"] = Field(
        default="units",
        description="input weights start with variance 1 / this number: units, as in the paper's code, or inputs",
    )
    seeds: Annotated[list[Seed], Field(min_length=1)] = Field(
        default=[0], description="meta-training seeds, a run each"
    )
    training: TrainingConfig = TrainingConfig()

    @property
    def searched(self) -> list[str]:
        """The values that are left to the task's search."""
        values = {name: getattr(self, name) for name in RECIPE[:3]} | {RECIPE[3]: self.training.learning_rate}
        return [name for name, value in values.items() if value == "searched"]

    def with_recipe(self, recipe: dict[str, Any]) -> "LearnedConfig":
        """The entry with what was searched filled in; `recipe` holds a value for each name in `RECIPE`."""
        found = {name: recipe[name] for name in self.searched}
        rate = found.pop("learning_rate", self.training.learning_rate)
        return self.model_copy(update=found | {"training": self.training.model_copy(update={"learning_rate": rate})})

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        return _each_once(seeds)


_HYPERPARAMETERS: dict[str, set[str]] = {
    "sgd": {"learning_rate"},
    "momentum": {"learning_rate", "momentum"},
    "rmsprop": {"learning_rate", "decay", "eps"},
    "adam": {"learning_rate", "beta1", "beta2", "eps"},
    "adam_decay": {"learning_rate", "beta1", "beta2", "eps", "half_life"},
}


def _log(low: float, high: float) -> Range:
    return Range(low=low, high=high, scale="log")


def _below_one(high: float) -> Range:
    return Range(low=0.0, high=high, scale="one_minus_log")


_ADAM = {
    **{"learning_rate": _log(1e-4, 300.0), "beta1": _below_one(0.99), "beta2": _below_one(0.9999)},
    **{"eps": _log(1e-8, 100.0)},
}
WIDE: dict[Baseline, dict[str, Range]] = {
    "sgd": {"learning_rate": _log(1e-4, 10.0)},
    "momentum": {"learning_rate": _log(1e-4, 30.0), "momentum": _below_one(0.999)},
    "rmsprop": {"learning_rate": _log(1e-4, 30.0), "decay": _below_one(0.9999), "eps": _log(1e-8, 10.0)},
    "adam": _ADAM,
    "adam_decay": _ADAM | {"half_life": _log(5.0, 2000.0)},
}
"""Ranges for a task of which nothing is known."""


class BaselinesConfig(Section):
    """Random search over the hyperparameters of the classical optimizers."""

    draws: Count = Field(default=1000, description="draws a baseline")
    early_stopping: Annotated[float, Field(ge=1)] = Field(
        default=3.0,
        description="a draw is dropped once it is sure to be worse than the best by this factor",
    )
    problems: Count = Field(default=64, description="tuning problems on which each draw is scored")
    seed: Seed = Field(default=0, description="seed of draws and tuning problems")
    ranges: dict[Baseline, dict[str, Range]] = Field(
        default=WIDE, description="range of each hyperparameter of each baseline"
    )

    @field_validator("ranges")
    @classmethod
    def _complete(cls, ranges: dict[str, dict[str, Range]]) -> dict[str, dict[str, Range]]:
        for name, given in ranges.items():
            needed = _HYPERPARAMETERS[name]
            if odd := sorted(needed ^ set(given)):
                wrong = "is missing" if odd[0] in needed else "is unknown"
                raise ValueError(f"{name} needs the keys {', '.join(sorted(needed))}, but {odd[0]!r} {wrong}")
        if missing := [name for name in ("momentum", "rmsprop") if name not in ranges]:
            raise ValueError(f"{missing[0]!r} is missing: it is examined beside the learned optimizers")
        return ranges


class EvaluationConfig(Section):
    """Judging optimizers on problems that served nothing else."""

    problems: Annotated[int, Field(ge=2, le=1_000_000)] = Field(default=1024, description="number of problems")
    seed: Seed = Field(default=1, description="seed of the problems")


class RecordConfig(Section):
    """Recording runs of the examined optimizers."""

    problems: Count = Field(
        default=Settings.problems, description="problems whose gradients and losses are kept (updates: of the first 64)"
    )
    state_problems: Count = Field(
        default=Settings.state_problems, description="the first of them, whose hidden states are kept too"
    )
    params: Count = Field(
        default=8, description="parameters of each problem that are kept, evenly spread; all if it has fewer"
    )
    seed: Seed = Settings.seed

    @model_validator(mode="after")
    def _fits(self) -> "RecordConfig":
        if self.state_problems > self.problems:
            raise ValueError("state_problems must be at most problems")
        return self


class SearchConfig(Section):
    """Random search for the values that optimizers of the task say are `searched`: the best in validation is taken."""

    optimizer: Name = Field(description="the optimizer that is trained with each candidate, by its name in the block")
    candidates: Count = Field(description="combinations tried, drawn without repetition")
    outer_steps: Count = Field(description="of each candidate's meta-training, otherwise that of the optimizer")
    seed: Seed = Field(description="of the draw of combinations and of each meta-training")
    features: Annotated[list[Literal["raw", "log1p"]], Field(min_length=1)]
    input_scale: Annotated[list[Positive], Field(min_length=1)]
    output_scale: Annotated[list[Positive], Field(min_length=1)]
    learning_rate: Annotated[list[Positive], Field(min_length=1)]

    @field_validator("features", "input_scale", "output_scale", "learning_rate")
    @classmethod
    def _distinct(cls, values: list) -> list:
        return _each_once(values)

    @model_validator(mode="after")
    def _enough(self) -> "SearchConfig":
        most = len(self.features) * len(self.input_scale) * len(self.output_scale) * len(self.learning_rate)
        if self.candidates > most:
            raise ValueError(f"candidates is {self.candidates}, but there are only {most} combinations")
        return self


class OwnConfig(Section):
    """Blocks that a task has of its own, whole; those it lacks are the config's."""

    baselines: BaselinesConfig | None = None
    evaluation: EvaluationConfig | None = None
    record: RecordConfig | None = Field(default=None, description="instead of analysis.record")


class TaskConfig(Section):
    """A task, the horizon on it, and the optimizers that are meta-trained for it."""

    problem: dict[str, Any] = Field(default={}, description="the task's own settings, see its module in reopt.tasks")
    num_steps: Annotated[int, Field(ge=2, le=1_000_000)] = Field(description="optimizer steps of a run")
    own: OwnConfig = Field(default=OwnConfig(), description="blocks of its own: baselines, evaluation, record")
    search: SearchConfig | None = Field(
        default=None, description="search for recipes; null where no value is `searched`"
    )
    shown: str = Field(default="", description="the run that the figures show, OPTIMIZER-sSEED; by default the first")
    optimizers: Annotated[dict[Name, LearnedConfig], Field(min_length=1)]

    @model_validator(mode="after")
    def _shown_is_there(self) -> "TaskConfig":
        runs = [f"{name}-s{seed}" for name, entry in self.optimizers.items() for seed in entry.seeds]
        if "shown" not in self.model_fields_set:
            object.__setattr__(self, "shown", runs[0])  # what is frozen is not whole before this
        if self.shown not in runs:
            listed = ", ".join(runs[:10]) + (", ..." if len(runs) > 10 else "")
            raise ValueError(f"shown is {self.shown!r}, but must be one of {listed}")
        return self

    @model_validator(mode="after")
    def _search_is_possible(self) -> "TaskConfig":
        if self.search and self.search.optimizer not in self.optimizers:
            raise ValueError(f"search.optimizer is {self.search.optimizer!r}, but must be one of the optimizers")
        for name, entry in self.optimizers.items():
            if entry.searched and not self.search:
                raise ValueError(f"optimizers.{name} has a searched {entry.searched[0]}, but search is null")
        return self


class FixedPointConfig(Section):
    """Search for fixed points at zero gradient."""

    visited_seeds: Count = Field(default=Settings.visited_seeds, description="starts taken from visited states")
    perturbed_seeds: Count = Field(
        default=Settings.perturbed_seeds, description="starts that are visited states with noise added"
    )
    perturbation: Positive = Field(
        default=Settings.perturbation, description="standard deviation of that noise, in that of the visited states"
    )
    tolerance: Positive = Field(
        default=Settings.tolerance, description="largest residual |h - F(h, 0)| of a fixed point"
    )
    max_iterations: Count = Settings.max_iterations
    merge_distance: Positive = Field(
        default=Settings.merge_distance, description="points closer than this, in typical state norms, are one"
    )
    seed: Seed = Settings.search_seed


class ClippingConfig(Section):
    """Update functions: update against gradient, at chosen states."""

    grid: Annotated[int, Field(ge=11, le=100_000)] = Field(
        default=Settings.grid, description="number of gradients on the grid"
    )
    range_factor: Positive = Field(
        default=Settings.range_factor, description="reach of the grid, in 99.9% quantiles of the gradients met"
    )
    shifts: Annotated[list[Finite], Field(min_length=1, max_length=100)] = Field(
        default=list(Settings.shifts), description="shifts along modes and components, in standard deviations"
    )
    bins: Annotated[int, Field(ge=5, le=100_000)] = Field(
        default=Settings.bins, description="bins of the gradient density"
    )


class AdaptationConfig(Section):
    """Fixed points under constant gradients."""

    gradients: Annotated[int, Field(ge=5, le=100_000)] = Field(
        default=Settings.gradients, description="gradients on each arm, log-spaced"
    )
    low_quantile: Share = Field(
        default=Settings.low_quantile, description="smallest gradient held, as a quantile of the gradients met"
    )
    high_quantile: Share = Field(default=Settings.high_quantile, description="largest one")

    @model_validator(mode="after")
    def _ordered(self) -> "AdaptationConfig":
        if not self.low_quantile < self.high_quantile:
            raise ValueError("low_quantile must be below high_quantile")
        return self


class KnownConfig(Section):
    """A reading that is known from elsewhere."""

    value: Finite = Field(description="what is known of it")
    low: Finite = Field(description="smallest value that agrees with it")
    high: Finite = Field(description="largest one")

    @model_validator(mode="after")
    def _ordered(self) -> "KnownConfig":
        if not self.low <= self.high:
            raise ValueError("low must be at most high")
        return self


class ControlConfig(Section):
    """A positive control: an optimizer of which readings are known beforehand."""

    task: Name = Field(description="its task")
    optimizer: Name = Field(description="its name in the task's block")
    problems: Annotated[int, Field(ge=2, le=1_000_000)] = Field(description="problems its meta-objective is read on")
    seed: Seed = Field(description="seed of these problems, and of the recorded ones")
    readings: dict[ControlReading, KnownConfig] = Field(description="what is known, by reading")


class AnalysisConfig(Section):
    """The examination: recording, fixed points, mechanisms."""

    analysed_baselines: list[Literal["momentum", "rmsprop"]] = Field(
        default=["momentum", "rmsprop"],
        description="baselines examined beside the learned ones; rmsprop is needed by claim T15",
    )
    record: RecordConfig = RecordConfig()
    fixed_points: FixedPointConfig = FixedPointConfig()
    clipping: ClippingConfig = ClippingConfig()
    adaptation: AdaptationConfig = AdaptationConfig()
    controls: list[ControlConfig] = Field(default=[], description="optimizers of which readings are known beforehand")

    @field_validator("analysed_baselines")
    @classmethod
    def _with_rmsprop(cls, analysed_baselines: list[str]) -> list[str]:
        if "rmsprop" not in analysed_baselines:
            raise ValueError("'rmsprop' is missing: claim T15 compares with it")
        return _each_once(analysed_baselines)


class AtLeast(Section):
    """Least values of an effect with which a claim holds, and holds in part."""

    holds: Finite
    in_part: Finite

    @model_validator(mode="after")
    def _ordered(self) -> "AtLeast":
        if self.in_part > self.holds:
            raise ValueError("in_part must be at most holds: a large value is what the claim says")
        return self

    def grade(self, value: float) -> Grade:
        """What a value says; one that is not a number says nothing."""
        return _graded(value, value >= self.holds, value >= self.in_part)

    def __str__(self) -> str:
        return f"at least {self.holds} (in part: {self.in_part})"


class AtMost(Section):
    """Largest values of an effect with which a claim holds, and holds in part."""

    holds: Finite
    in_part: Finite

    @model_validator(mode="after")
    def _ordered(self) -> "AtMost":
        if self.in_part < self.holds:
            raise ValueError("in_part must be at least holds: a small value is what the claim says")
        return self

    def grade(self, value: float) -> Grade:
        """What a value says; one that is not a number says nothing."""
        return _graded(value, value <= self.holds, value <= self.in_part)

    def __str__(self) -> str:
        return f"at most {self.holds} (in part: {self.in_part})"


def _graded(value: float, holds: bool, in_part: bool) -> Grade:
    if math.isnan(value):
        return UNDETERMINED
    return HOLDS if holds else IN_PART if in_part else FAILS


class ClaimsConfig(Section):
    """Criteria of the claims, fixed before the runs.

    g50, g90, g99 and g99.9 are quantiles of the |gradients| met on the recorded problems.
    """

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = Field(
        default=0.95, description="level of the confidence intervals"
    )
    single_basin: Share = Field(
        default=0.9, description="T2: in part: least share of the starts that end in one stable point"
    )
    linear_explains: Share = Field(
        default=0.9, description="T3a: least share of the log-loss drop that the linearisation keeps"
    )
    linear_update: AtLeast = Field(
        default=AtLeast(holds=0.9, in_part=0.5),
        description="T3a: R² of the one-step linear update after a quarter of the run",
    )
    delayed_response: AtLeast = Field(
        default=AtLeast(holds=0.4, in_part=0.2), description="T3b: share of the pulse response at lags of 5 and more"
    )
    polyak_tolerance: AtMost = Field(
        default=AtMost(holds=0.15, in_part=0.4), description="T4: relative distance of the fitted mode to Polyak's"
    )
    one_mode: Share = Field(default=0.9, description="T4: least R² of one mode fitted to the pulse response")
    low_dimensional: AtLeast = Field(
        default=AtLeast(holds=0.9, in_part=0.8),
        description="T5a: share of variance; holds: of the first component, in part: of the first three",
    )
    vertical_shift: AtMost = Field(
        default=AtMost(holds=0.25, in_part=0.5),
        description="T5b: relative change of slope that a shift along PC1 brings",
    )
    vertical_offset: AtLeast = Field(
        default=AtLeast(holds=1.0, in_part=0.5), description="T5b: offset that it brings, in updates at g90"
    )
    saturation: Share = Field(
        default=0.5, description="T7a: largest slope of a saturated update, over the slope at zero"
    )
    asymmetry: AtMost = Field(
        default=AtMost(holds=0.15, in_part=0.3), description="T7b: relative deviation from odd symmetry within g99"
    )
    beyond_threshold: Share = Field(
        default=0.05, description="T8a: largest share of gradients beyond the half slope, 'mainly linear'"
    )
    well_beyond: AtLeast = Field(
        default=AtLeast(holds=0.2, in_part=0.05),
        description="T8b: share of gradients beyond the half slope until 90% of the loss is gone",
    )
    threshold_spread: AtMost = Field(
        default=AtMost(holds=1.5, in_part=2.5),
        description="T9: ratio of the quartiles of the half-slope gradient over states",
    )
    threshold_missing: Share = Field(
        default=0.25, description="T9: largest share of states without a half-slope gradient"
    )
    schedule_peak: Annotated[list[Count], Field(min_length=2, max_length=2)] = Field(
        default=[10, 50], description="T10a: steps between which the effective learning rate peaks"
    )
    schedule_rise: AtLeast = Field(
        default=AtLeast(holds=1.2, in_part=1.05),
        description="T10: rise of the effective learning rate before its peak; T11: range of a schedule (holds)",
    )
    schedule_fall: AtMost = Field(
        default=AtMost(holds=0.8, in_part=0.95), description="T10c: effective learning rate at the end, over its peak"
    )
    points_found: AtLeast = Field(
        default=AtLeast(holds=0.95, in_part=0.8),
        description="T12: share of the gradients within g99.9 with a fixed point",
    )
    opposite_arms: AtMost = Field(
        default=AtMost(holds=-0.3, in_part=0.0),
        description="T12: median cosine between the arms; holds, in part: below it",
    )
    largest_jump: Share = Field(
        default=0.35, description="T12: longest step along the curve that still holds, over its length"
    )
    rate_fall: Positive = Field(
        default=0.75, description="T13: largest rate at g99.9 over that at g50; holds: both arms, in part: one"
    )
    stable_points: AtLeast = Field(
        default=AtLeast(holds=1.0, in_part=0.9), description="T14a: share of the fixed points within g99.9 that attract"
    )
    arm_difference: AtMost = Field(
        default=AtMost(holds=0.15, in_part=0.35),
        description="T14b: median relative difference of the arms' rates above g50",
    )
    exponent: AtMost = Field(
        default=AtMost(holds=-0.5, in_part=-0.15), description="T15: log-log slope of rate against gradient beyond g90"
    )
    beyond_linear: AtLeast = Field(
        default=AtLeast(holds=0.5, in_part=0.1),
        description="L1: share of the gain over Polyak's momentum that no linear method has",
    )

    @field_validator("schedule_peak")
    @classmethod
    def _ordered(cls, peak: list[int]) -> list[int]:
        if peak[0] > peak[1]:
            raise ValueError("must be [first, last] with first <= last")
        return peak


class Config(Section):
    """A config file."""

    name: Name = Field(description="results go to results/NAME")
    tasks: Annotated[dict[Name, TaskConfig], Field(min_length=1)]
    baselines: BaselinesConfig = BaselinesConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    analysis: AnalysisConfig = AnalysisConfig()
    claims: ClaimsConfig = ClaimsConfig()


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, where PyYAML has it, is faster


class _StrictLoader(_Loader):
    """YAML in which keys are text and each stands once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # `<<`, whose keys those of the block override
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(problem=f"key {key!r} is not text", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key!r} stands twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _refuse_what_unfolds(text: str) -> None:
    """Aliases are known and few, for many of them can unfold without end, and blocks are not in each other by the
    thousand, which no recursion survives. **Raises** `yaml.MarkedYAMLError`."""
    depth, aliases, anchors = 0, 0, set()
    for event in yaml.parse(text, Loader=_Loader):
        problem = ""
        if isinstance(event, yaml.AliasEvent):
            aliases += 1
            if aliases > MOST_ALIASES:
                problem = f"more than {MOST_ALIASES} aliases"
            elif event.anchor not in anchors:
                problem = f"found undefined alias {event.anchor!r}"
        elif isinstance(event, yaml.NodeEvent):
            anchors.add(event.anchor)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            problem = f"deeper than {DEEPEST} blocks"
        if problem:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def read_yaml(path: Path | str) -> dict[str, Any]:
    """The content of a config file, unchecked but for YAML itself. **Raises** `ReoptError`."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise ReoptError(f"{path} is not a file, but a config must be one")
        if path.stat().st_size > MAX_BYTES:
            raise ReoptError(f"{path} is too large for a config: at most {MAX_BYTES:,} bytes")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ReoptError(f"{path}: there is no such config file") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ReoptError(f"{path}: cannot be read: {reason}") from error
    try:
        _refuse_what_unfolds(text)
        content = yaml.load(text, Loader=_StrictLoader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ReoptError(f"{path}{line}: {error.problem or error.context}") from error
    except Exception as error:  # PyYAML raises whatever its constructors run into
        raise ReoptError(f"{path}: not YAML: {str(error) or type(error).__name__}") from error
    if not isinstance(content, dict):
        raise ReoptError(f"{path}: must hold keys and values, see config/laptop.yaml")
    return content


def allowed(schema: dict[str, Any]) -> str:
    """What a value may be, in words, from its JSON schema."""
    if "discriminator" in schema:
        return f"block of keys whose kind is {' or '.join(f'`{kind}`' for kind in schema['discriminator']['mapping'])}"
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{item}`" for item in schema["enum"])
    for kind in ("anyOf", "oneOf"):
        if kind in schema:
            return " or ".join(allowed(item) for item in schema[kind])
    words = {"number": "number", "integer": "whole number", "string": "text", "object": "block of keys"}
    text = words.get(schema.get("type", ""), schema.get("type", ""))
    if "pattern" in schema:
        text = f"{text} matching `{schema['pattern']}`"
    if schema.get("type") == "array":
        text = f"list of {allowed(schema.get('items', {}))}"
    bounds = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    numbers = {word: schema[word] for word in bounds if word in schema}
    limits = [f"{bounds[word]} {n:,}" if isinstance(n, int) else f"{bounds[word]} {n:g}" for word, n in numbers.items()]
    return f"{text} {', '.join(limits)}".strip()


@functools.cache
def _schema(model: type[Section]) -> dict[str, Any]:
    """The JSON schema of a model, which takes longer to make than a config to check."""
    return model.model_json_schema()


def _follow(model: type[Section], location: tuple[str | int, ...]) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """(dotted key, schema of the block that it stands in, its own schema) of a location in pydantic's errors."""
    root = _schema(model)

    def resolve(schema: dict[str, Any]) -> dict[str, Any]:
        if "anyOf" in schema:  # a block, or null: its keys are those of the block
            options = [resolve(one) for one in schema["anyOf"]]
            keys = {name: inner for one in options for name, inner in one.get("properties", {}).items()}
            return schema | {"anyOf": options, "properties": keys}
        if "$ref" not in schema:
            return schema
        return root["$defs"][schema["$ref"].rpartition("/")[2]] | {k: v for k, v in schema.items() if k != "$ref"}

    keys, block, schema = [], {}, root
    for part in location:
        choices = schema.get("discriminator", {}).get("mapping", {})
        if part in choices:  # the kind that a union was read as; it is no key of the file
            schema = resolve({"$ref": choices[part]})
        elif "anyOf" in schema and not schema["properties"]:
            continue  # one of several kinds of value; it is no key of the file either
        elif part != "[key]":
            keys.append(str(part))
            named = [schema.get("properties", {}).get(part), *schema.get("patternProperties", {}).values()]
            inner: dict[str, Any] = next(
                (one for one in [*named, schema.get("additionalProperties"), schema.get("items")] if one), {}
            )
            block, schema = schema, resolve(inner)
    return ".".join(keys), block, schema


def _explain(error: ValidationError, model: type[Section], prefix: str = "") -> str:
    """The first problem in one line: key, what is wrong, what is allowed."""
    problems = error.errors(include_url=False)
    kind, found = problems[0]["type"], problems[0].get("input")
    key, block, schema = _follow(model, problems[0]["loc"])
    meaning = f" ({schema['description'].splitlines()[0].rstrip('.')})" if "description" in schema else ""
    message = problems[0]["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if kind.startswith("union_tag"):
        key, found = f"{key}.kind", found.get("kind") if isinstance(found, dict) else found
        schema = {"enum": list(schema["discriminator"]["mapping"])}
    if kind == "extra_forbidden":
        text = f"unknown key; known here are {', '.join(block.get('properties', {}))}"
    elif kind in ("missing", "union_tag_not_found"):
        text = f"missing key; allowed: {allowed(schema)}{meaning}"
    elif problems[0]["loc"][-1:] == ("[key]",):
        text = f"not allowed as a name: {message}"
    elif kind in ("value_error", "too_short", "too_long"):
        text = message
    else:
        text = f"{_short(found)} is not allowed; allowed: {allowed(schema)}{meaning}{_number_hint(found, kind)}"
    places = {_follow(model, problem["loc"])[0] for problem in problems}  # a value of several kinds has a problem each
    more = len(places) - 1
    return f"{(prefix + key).rstrip('.')}: {' '.join(text.split())}" + (f" (and {more} more)" if more else "")


def _short(found: Any) -> str:
    """A value as it stands in the file, cut to a readable length."""
    if isinstance(found, dict | list):
        return "a list" if isinstance(found, list) else "a block of keys"
    text = json.dumps(found) if found is None or isinstance(found, bool) else repr(found)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _number_hint(found: Any, kind: str) -> str:
    """What to write for a number that YAML reads as text, as it does 1e-8, because it lacks the point."""
    if not isinstance(found, str) or kind not in ("float_type", "int_type"):
        return ""
    try:
        number = float(found)
    except ValueError:
        return ""
    if not math.isfinite(number):
        return ""
    written = str(int(number)) if kind == "int_type" and number.is_integer() else repr(number)
    if "e" in written and "." not in written:
        written = written.replace("e", ".0e")
    return f"; write {written}, without quotes"


def parse_config(content: dict[str, Any], origin: str) -> Config:
    """Check the content of a config file. **Raises** `ReoptError` in one line that names file, key and remedy."""
    try:
        config = Config.model_validate(content)
    except ValidationError as error:
        raise ReoptError(f"{origin}: {_explain(error, Config)}") from error
    for name, task in config.tasks.items():
        _check_own(task.own, f"{origin}: tasks.{name}.own")
        try:
            settings = task_module(name).Settings
        except ReoptError as error:
            raise ReoptError(f"{origin}: tasks.{name}: {error}") from error
        try:
            settings.model_validate(task.problem)
        except ValidationError as error:
            raise ReoptError(f"{origin}: {_explain(error, settings, f'tasks.{name}.problem.')}") from error
        for optimizer, entry in task.optimizers.items():
            try:
                settings.model_validate(task.problem | entry.training.problem)
            except ValidationError as error:
                where = f"tasks.{name}.optimizers.{optimizer}.training.problem."
                raise ReoptError(f"{origin}: {_explain(error, settings, where)}") from error
    return config


def _check_own(own: OwnConfig, where: str) -> None:
    """A task's own blocks leave nothing out: it would be as said here, not as in the config's block of that name."""
    for block in ("baselines", "evaluation", "record"):
        given = getattr(own, block)
        left_out = (
            [] if given is None else [key for key in type(given).model_fields if key not in given.model_fields_set]
        )
        if left_out:
            model: type[Section] = type(given)
            schema = _schema(model)["properties"][left_out[0]]
            needed = f"missing key; allowed: {allowed(schema)}; a block of a task's own is whole"
            raise ReoptError(f"{where}.{block}.{left_out[0]}: {needed}")


def filled(content: dict[str, Any], origin: str) -> dict[str, Any]:
    """The content of a config file, and the default of each key that it leaves out; what it says stays as it is.

    Keys that are null by default stay out. **Raises** `ReoptError` as `parse_config` does.
    """
    return _filled(content, parse_config(content, origin).model_dump(mode="json", exclude_none=True))


def _filled(content: Any, whole: Any) -> Any:
    if not isinstance(content, dict) or not isinstance(whole, dict):
        return content
    return {key: _filled(value, whole.get(key)) for key, value in content.items()} | {
        key: value for key, value in whole.items() if key not in content
    }


def read_filled(path: Path | str) -> dict[str, Any]:
    """The content of a config file with its defaults filled in. **Raises** `ReoptError`."""
    return filled(read_yaml(path), str(path))


def load_config(path: Path | str) -> Config:
    """Read and check a config file. **Raises** `ReoptError`."""
    return parse_config(read_yaml(path), str(path))
