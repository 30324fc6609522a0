"""The config: every key typed, bounded and described. Unknown and missing keys are errors.

A config file is whole in itself. The stages take their section as a plain object; only commands read a file.
"""

import json
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Never

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from reopt.errors import ReoptError
from reopt.settings import Count, Finite, Fraction, NonNegative, Positive, Section, Seed, Share
from reopt.tasks.registry import task_module

MAX_BYTES = 1_000_000  # of a config file
MOST_ALIASES = 30
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
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
    warmup_steps: Annotated[int, Field(ge=0, le=10_000_000)] = Field(description="outer steps of linear warm-up")
    final_fraction: Share = Field(description="rate at the end, as a fraction of learning_rate")


class Clip(Section):
    """Clipping of the meta-gradient."""

    kind: Literal["element", "norm"] = Field(description="clip each element, or the global norm")
    value: Positive = Field(description="largest absolute element, or largest norm")


class Validation(Section):
    """Validation of the averaged weights during meta-training, on problems that are always the same."""

    problems: Count = Field(description="number of held-out problems")
    every: Count = Field(description="outer steps between validations")
    seed: Seed = Field(description="seed of the validation problems")


class CalmConfig(Section):
    """Calming of the backward pass: a problem's cotangent is cut to a multiple of the median of its group."""

    factor: Positive = Field(description="largest norm, in median norms of the group")
    group: Count = Field(description="problems that are compared; `problems` must be a multiple of it")


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

    problem: dict[str, Any] = Field(description="the task's settings that are others while training, often none: {}")
    outer_steps: Count = Field(description="number of meta-training steps")
    problems: Count = Field(description="fresh problems an outer step")
    learning_rate: Positive | Searched = Field(description="of the meta-optimizer, Adam")
    schedule: Annotated[ExponentialSchedule | CosineSchedule, Field(discriminator="kind")]
    beta1: Fraction = Field(description="Adam's beta1")
    beta2: Fraction = Field(description="Adam's beta2")
    eps: Positive = Field(description="Adam's epsilon")
    clip: Clip
    l2_penalty: NonNegative = Field(description="times the norm (not squared) of all weights")
    estimator: Annotated[FullEstimator | TruncatedEstimator | PersistentEstimator, Field(discriminator="kind")]
    calm: CalmConfig | None = Field(description="calming of the backward pass; null is the exact meta-gradient")
    average: Fraction = Field(description="decay of the exponential average of the weights; 0 is the last weights")
    memory_mb: Positive = Field(description="budget for what the full meta-gradient keeps, in MB, over all devices")
    validation: Validation

    @model_validator(mode="after")
    def _warmup_fits(self) -> "TrainingConfig":
        if self.schedule.kind == "cosine" and self.schedule.warmup_steps >= self.outer_steps:
            raise ValueError("schedule.warmup_steps must be below outer_steps")
        return self

    @model_validator(mode="after")
    def _calm_is_of_the_full_gradient(self) -> "TrainingConfig":
        if self.calm and self.estimator.kind != "full":
            raise ValueError(f"calm must be null where estimator.kind is {self.estimator.kind}: it has no use there")
        if self.estimator.kind == "truncated" and self.estimator.window < 2:
            raise ValueError("estimator.window must be 2 or more: a step's loss is taken before its update")
        return self

    @model_validator(mode="after")
    def _groups_are_whole(self) -> "TrainingConfig":
        if self.calm and self.problems % self.calm.group:
            raise ValueError(f"problems is {self.problems}, but must be a multiple of calm.group, {self.calm.group}")
        return self


class LearnedConfig(Section):
    """A learned optimizer: its architecture and its meta-training."""

    cell: Literal["gru", "lstm", "vanilla"]
    units: Annotated[int, Field(ge=1, le=4096)] = Field(description="hidden units")
    features: Literal["raw", "log1p"] | Searched = Field(
        description="raw: the gradient; log1p: (log(1 + |g|), sign g); searched: as the task's search finds"
    )
    input_scale: Positive | Searched = Field(description="times the gradient, before the features")
    output_scale: Positive | Searched = Field(description="times the readout")
    seeds: Annotated[list[Seed], Field(min_length=1)] = Field(description="meta-training seeds, a run each")
    training: TrainingConfig

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


class Range(Section):
    """Where a hyperparameter is drawn from."""

    low: Finite
    high: Finite
    scale: Literal["log", "linear", "one_minus_log"] = Field(
        description="uniform in the logarithm, in the value, or in the logarithm of 1 - value"
    )

    @model_validator(mode="after")
    def _possible(self) -> "Range":
        if not self.low < self.high:
            raise ValueError("low must be below high")
        if self.scale == "log" and self.low <= 0:
            raise ValueError("low must be above 0 on a log scale")
        if self.scale == "one_minus_log" and not (self.low >= 0 and self.high < 1):
            raise ValueError("low and high must be in [0, 1) on a one_minus_log scale")
        return self


_HYPERPARAMETERS: dict[str, set[str]] = {
    "sgd": {"learning_rate"},
    "momentum": {"learning_rate", "momentum"},
    "rmsprop": {"learning_rate", "decay", "eps"},
    "adam": {"learning_rate", "beta1", "beta2", "eps"},
    "adam_decay": {"learning_rate", "beta1", "beta2", "eps", "half_life"},
}


class BaselinesConfig(Section):
    """Random search over the hyperparameters of the classical optimizers."""

    draws: Count = Field(description="draws a baseline")
    give_up: Annotated[float, Field(ge=1)] = Field(
        description="a draw is dropped once it is sure to be worse than the best by this factor"
    )
    problems: Count = Field(description="tuning problems on which each draw is scored")
    seed: Seed = Field(description="seed of draws and tuning problems")
    ranges: dict[Baseline, dict[str, Range]] = Field(description="range of each hyperparameter of each baseline")

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

    problems: Annotated[int, Field(ge=2, le=1_000_000)] = Field(description="number of problems")
    seed: Seed = Field(description="seed of the problems")


class RecordConfig(Section):
    """Recording runs of the examined optimizers."""

    problems: Count = Field(description="problems whose gradients, updates and losses are kept")
    state_problems: Count = Field(description="the first of them, whose hidden states are kept too")
    params: Count = Field(description="parameters of each problem that are kept, evenly spread; all if it has fewer")
    seed: Seed

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

    problem: dict[str, Any] = Field(description="the task's own settings, see its module in reopt.tasks")
    num_steps: Annotated[int, Field(ge=2, le=1_000_000)] = Field(description="optimizer steps of a run")
    own: OwnConfig = Field(description="blocks of its own: baselines, evaluation, record; often none: {}")
    search: SearchConfig | None = Field(description="search for recipes; null where no value is `searched`")
    shown: str = Field(description="the run that the figures show, OPTIMIZER-sSEED")
    optimizers: Annotated[dict[Name, LearnedConfig], Field(min_length=1)]

    @model_validator(mode="after")
    def _shown_is_there(self) -> "TaskConfig":
        runs = [f"{name}-s{seed}" for name, entry in self.optimizers.items() for seed in entry.seeds]
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

    visited_seeds: Count = Field(description="starts taken from visited states")
    perturbed_seeds: Count = Field(description="starts that are visited states with noise added")
    perturbation: Positive = Field(description="standard deviation of that noise, in that of the visited states")
    tolerance: Positive = Field(description="largest residual |h - F(h, 0)| of a fixed point")
    max_iterations: Count
    merge_distance: Positive = Field(description="points closer than this, in typical state norms, are one")
    seed: Seed


class ClippingConfig(Section):
    """Update functions: update against gradient, at chosen states."""

    grid: Annotated[int, Field(ge=11, le=100_000)] = Field(description="number of gradients on the grid")
    range_factor: Positive = Field(description="reach of the grid, in 99.9% quantiles of the gradients met")
    shifts: Annotated[list[Finite], Field(min_length=1, max_length=100)] = Field(
        description="shifts along modes and components, in standard deviations"
    )
    bins: Annotated[int, Field(ge=5, le=100_000)] = Field(description="bins of the gradient density")


class AdaptationConfig(Section):
    """Fixed points under constant gradients."""

    gradients: Annotated[int, Field(ge=5, le=100_000)] = Field(description="gradients on each arm, log-spaced")
    low_quantile: Share = Field(description="smallest gradient held, as a quantile of the gradients met")
    high_quantile: Share = Field(description="largest one")

    @model_validator(mode="after")
    def _ordered(self) -> "AdaptationConfig":
        if not self.low_quantile < self.high_quantile:
            raise ValueError("low_quantile must be below high_quantile")
        return self


class AnalysisConfig(Section):
    """The examination: recording, fixed points, mechanisms."""

    probes: list[Literal["momentum", "rmsprop"]] = Field(
        description="baselines examined beside the learned ones; rmsprop is needed by claim T15"
    )
    record: RecordConfig
    fixed_points: FixedPointConfig
    clipping: ClippingConfig
    adaptation: AdaptationConfig

    @field_validator("probes")
    @classmethod
    def _with_rmsprop(cls, probes: list[str]) -> list[str]:
        if "rmsprop" not in probes:
            raise ValueError("'rmsprop' is missing: claim T15 compares with it")
        return _each_once(probes)


class ClaimsConfig(Section):
    """Criteria of the claims, fixed before the runs."""

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = Field(description="level of the confidence intervals")
    polyak_tolerance: Positive = Field(description="T4: relative distance of the dominant mode to Polyak's")
    low_dimensional: Share = Field(description="T5: least share of variance of the first component")
    vertical_shift: Share = Field(description="T5: largest relative change of slope a shift in offset may bring")
    linear_explains: Share = Field(description="T3: least share of the log-loss drop that the linearisation keeps")
    slow_mode_share: Share = Field(description="T3: least share of the momentum gain in modes slower than 5 steps")
    asymmetry: Share = Field(description="T7, T14: largest relative deviation from odd symmetry")
    saturation: Share = Field(description="T7: largest slope at the largest gradient, over the slope at zero")
    beyond_threshold: Share = Field(description="T8: largest share of gradients beyond the threshold, 'mainly linear'")
    well_beyond: Share = Field(description="T8: least share of gradients beyond the threshold, 'well into saturation'")
    threshold_spread: Positive = Field(description="T9: largest relative spread of the threshold over states")
    schedule_peak: Annotated[list[Count], Field(min_length=2, max_length=2)] = Field(
        description="T10: steps between which the effective learning rate peaks"
    )
    schedule_rise: Positive = Field(
        description="T10: least rise of the effective learning rate before its peak; T11: least range of a schedule"
    )
    rank_correlation: Share = Field(description="T12, T13: least rank correlation with the gradient held")
    exponent_tolerance: Positive = Field(description="T15: largest distance of the exponent to RMSProp's")

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
    baselines: BaselinesConfig
    evaluation: EvaluationConfig
    analysis: AnalysisConfig
    claims: ClaimsConfig


class _StrictLoader(yaml.SafeLoader):
    """YAML in which keys are text and each stands once, and aliases are few: many of them can unfold without end."""

    aliases = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            self.aliases += 1
            if self.aliases > MOST_ALIASES:
                mark = self.peek_event().start_mark
                raise yaml.MarkedYAMLError(problem=f"more than {MOST_ALIASES} aliases", problem_mark=mark)
        return super().compose_node(parent, index)

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


def _follow(model: type[Section], location: tuple[str | int, ...]) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """(dotted key, schema of the block that it stands in, its own schema) of a location in pydantic's errors."""
    root = model.model_json_schema()

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


def load_config(path: Path | str) -> Config:
    """Read and check a config file. **Raises** `ReoptError`."""
    return parse_config(read_yaml(path), str(path))
