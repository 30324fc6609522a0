"""An optimizer with a context, read where its runs are: at finite gradients, odd and even part of the update apart.

Where inputs enter by their sign or the logarithm of their size, an update has no slope at g = 0, and no reading that
divides by one means anything. So the gradient of one parameter at one step of a run is replaced by gradients s of both
signs, in the state that was met and with all others' gradients; what it is told of its problem is sensed again:

    odd(s) = [u(s) - u(-s)] / 2        the answer to the gradient; below 0 it goes downhill
    even(s) = [u(s) + u(-s)] / 2       what is done whatever its sign
    exponent = d log |odd| / d log s   1: in proportion, as linear methods; 0: blind to its size, as beyond a clip

Near zero means down to `NEAR` times the gradients met. A regular update has one slope there; else it is a "jump", a
"kink" (two slopes) or "steep" (slopes without end), and clipping is undetermined: what levels off is a share of no
slope. A gradient of the opposite sign and a little larger in that place says what couples to what: the shares of the
change of all updates of the step that fall on the parameter itself, on its array, and on other arrays. The memory of a
run is read at finite gradients too: one gradient of a run changes its sign, and the share of the change of updates that
comes in later steps is counted, over `LATER` steps, contexts held. What else the step follows is read by
`reopt.systems.conditioning`, and how linear accumulators are mixed by `reopt.systems.mixture`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int

from reopt.core.errors import ReoptError
from reopt.core.tables import rounded, write_table
from reopt.dynamics.precision import double_precision, to_double
from reopt.evaluation.keys import problem_key
from reopt.evaluation.unroll import batch_value_and_grad
from reopt.optimizers.joint import Inputs, Joint, JointRun, Layout, State, layout_of, run_joint
from reopt.systems.conditioning import exponents, read_conditioning, told_in
from reopt.systems.mixture import read_mixture
from reopt.systems.slices import Met
from reopt.systems.slices import met as met_at
from reopt.tasks.base import Task

FILES = ("verdicts.csv", "points.csv", "losses.csv", "mixture.csv", "conditioning.csv")
STEPS, SHARED = 8, 64  # steps at which it is looked, parameters at each
NEAR = 1e-6  # times the median gradient met
DECADES = 10.0
BESIDE = 1.05  # factor between gradients of which an exponent is made
AGREE = 0.01  # of slopes: then they are one
LATER = 50  # steps
REGULAR, JUMP, KINK, STEEP = "regular", "jump", "kink", "steep"
PRESENT, ABSENT, UNDETERMINED = "present", "absent", "undetermined"
FEW = 0.05  # share of the points that a verdict leaves out
LEVEL = 0.5  # exponent below which an update has levelled off
ROUNDING = 1e-9  # share of a change that falls on others
LAST_DIGITS = 1e-13  # of an update, in which programs differ
SOME = 0.1  # share of levelled points that is clipping
FOLLOWS = 1.01  # ratio of the longest to the shortest step over progress that is a schedule
ADAPTS = 0.05  # exponent of the answer to a gradient by the size of those before it


class InContext(NamedTuple):
    """`points` has a row a point: step, problem, param, gradient, at_zero, odd, even, exponent, even_share, downhill,
    on_itself, on_its_array, on_other_arrays; `losses` the mean over problems at each step; `findings` mechanism,
    verdict and why; `mixture` and `conditioning` the tables of `reopt.systems`."""

    points: pd.DataFrame
    losses: Float[np.ndarray, " step"]
    findings: pd.DataFrame
    mixture: pd.DataFrame
    conditioning: pd.DataFrame
    layout_known: bool = False  # whether the file itself says how its numbers are to be read

    def sentences(self) -> list[str]:
        """A line a verdict, and whether the loss falls, by which a file in the wrong layout is known."""
        first, last = float(self.losses[0]), float(self.losses[-1])
        doubtful = not (last < first or self.layout_known)
        end = ": it does not fall, so the file may be no optimizer in this layout" if doubtful else ""
        lines = [f"mean loss {first:.4g} at the first step, {last:.4g} at the last{end}"]
        rows = self.findings.itertuples(index=False)
        return lines + [f"{row.mechanism}: {row.verdict}; {row.why}" for row in rows]

    def write(self, out: Path) -> None:
        """`FILES` in the folder."""
        write_table(out / FILES[0], self.findings)
        write_table(out / FILES[1], rounded(self.points))
        write_table(out / FILES[2], rounded(pd.DataFrame({"step": np.arange(len(self.losses)), "loss": self.losses})))
        write_table(out / FILES[3], rounded(self.mixture))
        write_table(out / FILES[4], rounded(self.conditioning))


class Points(NamedTuple):
    """Parameters at steps of runs: the problem's state and what it was given there, each with an axis of 1 behind that
    of the points, and which parameter it is."""

    state: State
    inputs: Inputs
    param: Int[Array, " point"]


def points_of(met: list[Met], steps: np.ndarray, problems: np.ndarray, params: np.ndarray) -> Points:
    """Points whose steps rise; `met` has an entry for each of them, in that order."""
    parts = []
    for at, step in zip(met, np.unique(steps), strict=True):
        rows = problems[steps == step]
        state = jax.tree.map(lambda leaf, rows=rows: leaf[rows][:, None], at.state)
        given = jax.tree.map(lambda leaf, rows=rows: leaf[rows][:, None] if leaf.ndim else leaf, at.inputs)
        whole = {name: jnp.broadcast_to(getattr(given, name), rows.shape) for name in ("step", "num_steps")}
        parts.append((state, given._replace(**whole)))
    state, inputs = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
    return Points(state, inputs, jnp.asarray(params))


def _step(joint: Joint, layout: Layout, point: Points, gradient: Array) -> Float[Array, " param"]:
    """Updates of the whole problem with this gradient in the place of the point's."""
    pushed = point.inputs._replace(gradient=point.inputs.gradient.at[0, point.param].set(gradient))
    return joint.step(layout, point.state, pushed)[1][0]


@eqx.filter_jit
def _updates(joint: Joint, layout: Layout, points: Points, gradients: Array) -> Array:
    """Updates of each point's parameter under gradients in the place of its own: [point, gradient]."""

    def at(given: tuple[Points, Array]) -> Array:
        point, gradients = given
        return jax.vmap(lambda gradient: _step(joint, layout, point, gradient)[point.param])(gradients)

    return jax.lax.map(at, (points, gradients))


@eqx.filter_jit
def _changes(joint: Joint, layout: Layout, points: Points, gradients: Array) -> Array:
    """By how much all updates of the step change from the first to the second gradient, in size: that of the point's
    own parameter, of the others of its array, and of those of other arrays, [point, 3]."""
    array = jnp.asarray(np.repeat(np.arange(len(layout.sizes)), layout.sizes))

    def at(given: tuple[Points, Array]) -> Array:
        point, (low, high) = given
        one, other = _step(joint, layout, point, low), _step(joint, layout, point, high)
        change = jnp.abs(other - one)
        change = jnp.where(change <= LAST_DIGITS * (jnp.abs(one) + jnp.abs(other)), 0, change)
        here = array == array[point.param]
        others = jnp.arange(len(array)) != point.param
        parts = (~others, here & others, ~here)
        return jnp.stack([jnp.sum(jnp.where(part, change, 0)) for part in parts])

    return jax.lax.map(at, (points, gradients))


def near_zero(up: Float[np.ndarray, "point 3"], down: Float[np.ndarray, "point 3"], size: float) -> list[str]:
    """What each update function is like at 0, from u(s) and u(-s) at s = size, 10 size and 100 size.

    Regular: the slope from -s to s and those of either side agree within `AGREE`.
    """
    found = []
    for right, left in zip(up, down, strict=True):
        across = (right[0] - left[0]) / (2 * size)
        sides = [(right[2] - right[0]) / (99 * size), (left[0] - left[2]) / (99 * size)]
        largest = max(abs(across), *map(abs, sides))
        rounding = 1e-13 * max(np.abs(right).max(), np.abs(left).max()) / (AGREE * size)
        if max(abs(across - side) for side in sides) <= AGREE * largest + rounding:
            found.append(REGULAR)
            continue
        odd = 0.5 * (right - left)
        moved = max(abs(right[2] - right[0]), abs(left[2] - left[0]))
        if abs(odd[0]) > 2 * moved:
            found.append(JUMP)
            continue
        nearer = np.array([right[1] - right[0], left[0] - left[1]]) / (9 * size)
        farther = np.array([right[2] - right[1], left[1] - left[2]]) / (90 * size)
        even_only = np.max(np.abs(nearer - farther)) <= 5 * AGREE * np.max(np.abs(nearer))
        found.append(KINK if even_only else STEEP)
    return found


def read_points(
    joint: Joint,
    layout: Layout,
    run: JointRun,
    *,
    seed: int = 0,
    steps: int = STEPS,
    shared: int = SHARED,
    validate: Callable[[Array], Array] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Points of a run that was kept, and the mixture there; `validate` is the run's. Inside `double_precision`."""
    assert run.gradients is not None
    assert run.states is not None
    gradients = np.asarray(run.gradients)
    count, problems, params = gradients.shape
    rng = np.random.default_rng(seed)
    at = np.repeat(np.unique(np.linspace(min(1, count - 1), count - 1, steps).round().astype(int)), shared)
    which = (at, rng.integers(0, problems, at.size), rng.integers(0, params, at.size))
    met = gradients[which]
    usable = np.isfinite(met) & (met != 0)
    if not usable.any():
        raise ReoptError("no gradient of the run is finite and not 0: there is nothing to read")
    which, met = tuple(part[usable] for part in which), np.abs(met[usable])
    signed = gradients[which]
    near = NEAR * float(np.median(met))
    columns = [near, DECADES * near, DECADES**2 * near]
    sizes = np.stack([*(np.full_like(met, one) for one in columns), met / BESIDE, met, met * BESIDE], axis=-1)
    points = points_of([met_at(run, int(step), count, validate) for step in np.unique(which[0])], *which)
    found = np.asarray(_updates(joint, layout, points, jnp.asarray(np.concatenate([sizes, -sizes], axis=-1))))
    beside = jnp.asarray(signed[:, None] * np.array([1 / BESIDE, -BESIDE]))
    changes = np.asarray(_changes(joint, layout, points, beside))
    up, down = np.split(found, 2, axis=-1)
    odd, even = 0.5 * (up - down), 0.5 * (up + down)
    with np.errstate(divide="ignore", invalid="ignore"):
        exponent = (np.log(np.abs(odd[:, 5])) - np.log(np.abs(odd[:, 3]))) / (2 * np.log(BESIDE))
        share = np.abs(even[:, 4]) / (np.abs(even[:, 4]) + np.abs(odd[:, 4]))
        parts = changes / changes.sum(axis=1, keepdims=True)
    mixture = read_mixture(joint, layout, points.state, points.inputs, points.param, which[0])
    table = pd.DataFrame(
        {
            "step": which[0],
            "problem": which[1],
            "param": which[2],
            "gradient": signed,
            "at_zero": near_zero(up[:, :3], down[:, :3], near),
            "odd": odd[:, 4],
            "even": even[:, 4],
            "exponent": exponent,
            "even_share": share,
            "downhill": odd[:, 4] < 0,
            **dict(zip(("on_itself", "on_its_array", "on_other_arrays"), parts.T, strict=True)),
        }
    )
    return table, mixture


def read_follows(
    joint: Joint,
    layout: Layout,
    run: JointRun,
    steps: list[int],
    *,
    seed: int = 0,
    shared: int = SHARED,
    validate: Callable[[Array], Array] | None = None,
) -> pd.DataFrame:
    """The table of `read_conditioning` at some steps of a run that was kept. Inside `double_precision`."""
    told = told_in(run, validate)
    rng, tables = np.random.default_rng(seed), []
    for step in steps:
        gradients = np.asarray(told.gradients[step])
        usable = np.argwhere(np.isfinite(gradients) & (gradients != 0))
        if not len(usable):
            continue
        problems, params = usable[rng.integers(0, len(usable), shared)].T
        both = jnp.asarray(gradients[problems, params][:, None] * np.array([1.0, -1.0]))

        def odd(
            met: Met, step: int = step, problems: np.ndarray = problems, params: np.ndarray = params, both: Array = both
        ) -> np.ndarray:
            points = points_of([met], np.full(problems.shape, step), problems, params)
            up, down = np.asarray(_updates(joint, layout, points, both)).T
            return 0.5 * (up - down)

        tables.append(read_conditioning(joint, layout, told, step, odd, problems))
    if not tables:
        raise ReoptError("no gradient of the run is finite and not 0: there is nothing to read")
    return pd.concat(tables, ignore_index=True)


def read_memory(joint: Joint, run: JointRun, step: int) -> float:
    """Share of the answer to the sign of one gradient that comes in later steps; inside `double_precision`.

    It is counted to the end of the run, or for `LATER` steps: a lower bound of a longer memory.
    """
    assert run.gradients is not None
    assert run.states is not None
    end = min(step + LATER, run.gradients.shape[0])
    begun = run.states.own[step]
    contexts, gradients = jax.tree.map(lambda leaf: leaf[step:end], (run.contexts, run.gradients))

    @eqx.filter_jit
    def replay(joint: Joint, gradients: Array) -> Array:
        def body(state: Array, given: tuple[object, Array]) -> tuple[Array, Array]:
            return joint.one(given[0])(state, given[1])

        return jax.lax.scan(body, begun, (contexts, gradients))[1]

    change = np.abs(np.asarray(replay(joint, gradients.at[0].multiply(-1)) - replay(joint, gradients)))
    answered = change.reshape(len(change), -1).sum(axis=1)
    return float(answered[1:].sum() / answered.sum()) if answered.sum() > 0 else np.nan


def findings(points: pd.DataFrame, memory: float, conditioning: pd.DataFrame) -> pd.DataFrame:
    """Verdicts: mechanism, verdict, why. What divides by a slope at zero is undetermined where there is none."""
    kinds = points["at_zero"].value_counts(normalize=True)
    regular = float(kinds.get(REGULAR, 0.0))
    exponents = points["exponent"].dropna()
    at_work = f"at the gradients met the odd part goes as |g|^{exponents.median():.2g}" if len(exponents) else ""
    if regular < 1 - FEW or not len(exponents):
        named = ", ".join(f"{kind} at {share:.0%}" for kind, share in kinds.items() if kind != REGULAR)
        why = f"singular at zero gradient ({named} of the points), so that no slope there can level off; {at_work}"
        clipping = (UNDETERMINED, why if named else "no answer to the gradient could be read")
    else:
        levelled = float((exponents < LEVEL).mean())
        linear = float((np.abs(exponents - 1) < FEW).mean())
        verdict = PRESENT if levelled >= SOME else ABSENT if linear >= 1 - FEW else UNDETERMINED
        clipping = (verdict, f"the update has levelled off for {levelled:.1%} of the gradients met; {at_work}")
    over = float((points["even_share"] > 0.5).mean())
    drift = PRESENT if over > 0.5 else ABSENT if over < FEW else UNDETERMINED
    downhill = float(points["downhill"].mean())
    remembered = UNDETERMINED if not np.isfinite(memory) else PRESENT if memory > SOME else ABSENT
    rows = [
        ("clipping", *clipping),
        ("drift", drift, f"the even part is larger than the odd at {over:.1%} of the points"),
        ("descent", PRESENT if downhill > 1 - FEW else UNDETERMINED, f"the odd part goes downhill at {downhill:.1%}"),
        ("momentum", remembered, f"{memory:.1%} of the answer to one gradient's sign comes later, contexts held"),
        ("coupling", *_coupling(points)),
        ("schedule", *_schedule(conditioning)),
        ("adaptation", *_adaptation(conditioning)),
    ]
    return pd.DataFrame(rows, columns=["mechanism", "verdict", "why"])


def _schedule(conditioning: pd.DataFrame) -> tuple[str, str]:
    """Verdict and why: whether the step follows the time that the optimizer is told, all else as it was met."""
    told = conditioning[conditioning["input"] == "progress"]
    sizes = told.groupby(["step", "problem"])["size"].agg(["min", "max"]).dropna()
    ratio = float((sizes["max"] / sizes["min"]).median()) if len(sizes) else np.nan
    if not np.isfinite(ratio):
        return UNDETERMINED, "no step has a length that could be compared"
    unseen = "what its state counts by itself is not looked at"
    if ratio <= FOLLOWS:
        return UNDETERMINED, f"the time that it is told changes the usual step by {ratio - 1:.2g} of it; {unseen}"
    ends = [told[told["value"] == value]["size"].median() for value in (0.0, 1.0)]
    return PRESENT, (
        f"by the time that it is told alone steps differ by a factor of {ratio:.3g}, from {ends[0]:.3g} of the step met"
        f" at the start of the run to {ends[1]:.3g} at its end"
    )


def _adaptation(conditioning: pd.DataFrame) -> tuple[str, str]:
    """Verdict and why: whether the answer to a gradient follows the size of those before it."""
    found = exponents(conditioning).dropna()
    of = {name: float(rows["exponent"].median()) for name, rows in found.groupby("input")}
    if "earlier_gradients" not in of:
        return UNDETERMINED, "no answer to a gradient could be read"
    known = np.isfinite(of.get("gradients", np.nan))
    whole = f"; with all gradients of a run times s, steps go as s^{of['gradients']:.2g}" if known else ""
    earlier = conditioning[conditioning["input"] == "earlier_gradients"]["size"].dropna()
    if np.abs(earlier - 1).max() <= ROUNDING:
        return ABSENT, f"the answer to a gradient does not follow the size of those before it{whole}"
    exponent = of["earlier_gradients"]
    if np.isinf(exponent):  # an answer of 0: beyond a limit
        side = "larger" if exponent < 0 else "smaller"
        why = f"the answer to a gradient vanishes where those before it are {side}{whole}"
    else:
        why = f"the answer to a gradient goes as the size of those before it to the power {exponent:.2g}{whole}"
    return (PRESENT if abs(exponent) > ADAPTS else UNDETERMINED), why


def _coupling(points: pd.DataFrame) -> tuple[str, str]:
    """Verdict and why: what else than its own parameter's update a gradient changes in the same step."""
    known = points[["on_itself", "on_its_array", "on_other_arrays"]].dropna()
    if known.empty:
        return UNDETERMINED, "no update of any parameter follows the gradients met"
    if (1 - known["on_itself"]).max() <= ROUNDING:
        return ABSENT, "a gradient changes no other parameter's update in the same step"
    own, inside, beyond = known.mean()
    return PRESENT, (
        f"of what a gradient changes in the updates of its step {own:.1%} is its own parameter's, {inside:.1%} that of"
        f" others in its array, {beyond:.1%} in other arrays"
    )


def read_in_context(
    joint: Joint, task: Task, *, problems: int = 16, num_steps: int = 201, seed: int = 0, layout_known: bool = False
) -> InContext:
    """Run a `Joint` on held-out problems of `seed` in float64 and read it there.

    An optimizer that looks at losses on held-out data is told them where the task has such data.

    **Raises** `ReoptError` where the run leaves the finite numbers.
    """
    drawn = task.sample_batch(problem_key("evaluation", seed), problems)
    start = jax.vmap(task.initial_params)(drawn)
    with double_precision():
        drawn, joint = to_double(drawn), to_double(joint)  # type: ignore[arg-type,assignment]

        def both(params: Array, step: Array) -> tuple[Array, Array]:
            return batch_value_and_grad(task, drawn, params, step)

        validation = getattr(task, "validation", None) if joint.sees_validation else None
        validate = None if validation is None else lambda params: jax.vmap(validation)(drawn, params)
        first, layout = jnp.asarray(np.asarray(start, np.float64)), layout_of(task)
        run = run_joint(joint, layout, first, both, num_steps, keep=True, validate=validate)
        losses = np.asarray(run.losses).mean(axis=1)
        if not np.isfinite(losses).all():
            raise ReoptError(f"the run leaves the finite numbers at step {int(np.argmin(np.isfinite(losses)))}")
        points, mixture = read_points(joint, layout, run, seed=seed, validate=validate)
        middle = sorted({num_steps // 4, num_steps // 2})
        follows = read_follows(joint, layout, run, middle, seed=seed, validate=validate)
        remembered = [read_memory(joint, run, step) for step in middle]
        memory = float(np.nanmean(remembered)) if np.isfinite(remembered).any() else np.nan
    return InContext(points, losses, findings(points, memory, follows), mixture, follows, layout_known)
