"""Small tables in the shape of the pipeline's artifacts, from closed forms: no chance, so the same on any machine."""

import numpy as np
import pandas as pd

from reopt.figures.adaptation import Adaptation
from reopt.figures.clipping import Clipping
from reopt.figures.difference import Difference
from reopt.figures.linearized import Linearized
from reopt.figures.momentum import Momentum
from reopt.figures.performance import Performance
from reopt.figures.remainder import Remainder
from reopt.figures.schedule import Schedule
from reopt.figures.schematic import quadratic_schematic
from reopt.figures.tuning import Tuning

SUBJECT = "gru32-s0"
HIDDEN = 4
POLYAK = (3.759, 0.881)
RATES = {"sgd": 0.02, "momentum": 0.11, "rmsprop": 0.035, "adam": 0.07, "adam_decay": 0.085, "polyak": 0.12}
LEARNED = {"gru32-s0": 0.16, "gru32-s1": 0.13, "gru32-s2": 0.145}
OBJECTIVES = {
    "sgd": 0.298,
    "momentum": 0.047,
    "rmsprop": 0.198,
    "adam": 0.08,
    "adam_decay": 0.072,
    "polyak": 0.0464,
    "gru32-s0": 0.041,
    "gru32-s1": 0.055,
    "gru32-s2": 0.044,
}


def spread(count: int, offset: float = 0.0) -> np.ndarray:
    """`count` numbers in (0, 1) that look unordered: multiples of the golden ratio."""
    return (np.arange(1, count + 1) * 0.6180339887498949 + offset) % 1.0


def bell(count: int, offset: float = 0.0) -> np.ndarray:
    """The same, roughly normal (the logistic distribution's quantiles, scaled to unit deviation)."""
    unit = np.clip(spread(count, offset), 1e-3, 1 - 1e-3)
    return np.log(unit / (1 - unit)) * np.sqrt(3) / np.pi


def performance(subject: str = SUBJECT) -> Performance:
    step = np.arange(0, 201, 4)
    curves, rows = [], []
    for number, (name, rate) in enumerate({**RATES, **LEARNED}.items()):
        mean = 0.985 * np.exp(-rate * step) / (1 + 0.01 * step) + 0.015 * np.exp(-rate * step / 8)
        if name in ("momentum", "polyak"):
            mean = mean * (1 + 0.6 * np.exp(-step / 60) * np.sin(step / 7) ** 2)
        half = 0.12 * mean * (step > 0)
        curves.append(
            pd.DataFrame(
                {
                    "optimizer": name,
                    "step": step,
                    "mean": mean,
                    "low": mean - half,
                    "high": mean + half,
                    "median": 0.8 * mean,
                }
            )
        )
        objective = OBJECTIVES[name] * np.exp(0.5 * bell(60, 0.01 * number) - 0.125)
        rows.append(
            pd.DataFrame(
                {
                    "optimizer": name,
                    "task": "quadratic",
                    "seed": 0,
                    "problem": np.arange(60),
                    "meta_objective": objective,
                    "final_loss": objective / 50,
                }
            )
        )
    evaluation = pd.concat(rows, ignore_index=True)
    return Performance(subject, pd.concat(curves, ignore_index=True), evaluation, quadratic_schematic(113.0))


def pca(steps: int = 60, problems: int = 2, params: int = 5) -> dict[str, np.ndarray]:
    """States that spiral into the origin, one starting direction a parameter."""
    step = np.arange(steps)[:, None, None]
    unit = spread(problems * params).reshape(problems, params)
    size = np.exp(-step / 14) * (2 * unit - 1) * 6
    projected = np.stack(
        [size * np.cos(step / 9 + unit), 0.25 * size * np.sin(step / 5) + 0.4 * np.exp(-step / 20), 0.05 * size],
        axis=-1,
    )
    components = np.eye(3, HIDDEN)
    return {
        "mean": np.array([0.1, -0.2, 0.0, 0.3]),
        "components": components,
        "explained": np.array([0.951, 0.038, 0.006]),
        "projected": projected.astype(np.float32),
    }


def update(gradient: np.ndarray, offset: float = 0.0, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A softly clipped update and its slope: -(7 scale) tanh(g / 2) + offset."""
    return offset - 7 * scale * np.tanh(gradient / 2), -3.5 * scale / np.cosh(gradient / 2) ** 2


def gradient_grid(reach: float = 4.0) -> np.ndarray:
    positive = np.concatenate([np.linspace(0, 0.5, 21)[1:], np.geomspace(0.5, reach, 30)[1:]])
    return np.concatenate([-positive[::-1], [0.0], positive])


def update_functions() -> pd.DataFrame:
    gradient = gradient_grid()
    states = [("initial", 0.0, 0.3, 1.0), ("fixed_point", 0.0, 0.0, 0.9)]
    states += [("slow_mode", shift, 1.2 * shift, 0.9) for shift in (-2.0, -1.0, 1.0, 2.0)]
    states += [("pc2", shift, 0.4 * shift, 0.9) for shift in (-2.0, 2.0)]
    tables = []
    for place, shift, offset, scale in states:
        value, slope = update(gradient, offset, scale)
        tables.append(
            pd.DataFrame({"place": place, "shift": shift, "gradient": gradient, "update": value, "slope": slope})
        )
    return pd.concat(tables, ignore_index=True)


def clipping_summary() -> pd.DataFrame:
    threshold = 2 * np.arccosh(np.sqrt(2))  # where the slope of tanh(g / 2) is half of that at 0
    return pd.DataFrame(
        {
            "place": ["initial", "fixed_point", "slow_mode"],
            "shift": [0.0, 0.0, 1.0],
            "slope_at_zero": [-3.5, -3.15, -3.15],
            "threshold_positive": threshold,
            "threshold_negative": [threshold, np.nan, threshold],
            "asymmetry": 0.01,
            "hardness": 3.0,
            "fraction_beyond": [0.012, 0.012, 0.012],
            "saturation": 0.07,
        }
    )


def gradient_density() -> pd.DataFrame:
    tables = []
    for phase, width in (("all", 0.12), ("first10", 0.6)):
        edges = np.linspace(-4, 4, 42)
        centre = (edges[1:] + edges[:-1]) / 2
        density = np.exp(-np.abs(centre) / width) / (2 * width) + 1e-4
        tables.append(
            pd.DataFrame(
                {"scale": "linear", "left": edges[:-1], "right": edges[1:], "density": density, "phase": phase}
            )
        )
        edges = np.geomspace(1e-5, 10, 37)
        centre = np.log10(np.sqrt(edges[1:] * edges[:-1]) / width)
        density = np.exp(-0.5 * (centre / 0.8) ** 2) / 2.0
        tables.append(
            pd.DataFrame({"scale": "log", "left": edges[:-1], "right": edges[1:], "density": density, "phase": phase})
        )
    return pd.concat(tables, ignore_index=True)


def modes() -> pd.DataFrame:
    """A dominant real mode, a complex pair, and a disk of fast ones of both signs."""
    pairs, fast = 5, 8
    disk = 0.48 + 0.25 * np.sqrt(spread(pairs)) * np.exp(2.4j * spread(pairs, 0.5) + 0.3j)
    gains = 10.0 ** (-2.2 + 1.5 * spread(pairs)) * np.exp(3j * spread(pairs, 0.2))
    beta = np.concatenate([[0.905, 0.72 + 0.22j, 0.72 - 0.22j], disk, disk.conj(), 0.2 + 0.5 * spread(fast)])
    alpha = np.concatenate(
        [[3.55, 0.4 + 0.25j, 0.4 - 0.25j], gains, gains.conj(), 10.0 ** (-2.5 + 2 * spread(fast, 0.3))]
    )
    alpha[-fast::3] *= -1
    table = pd.DataFrame(
        {
            "beta_real": beta.real,
            "beta_imag": beta.imag,
            "alpha_real": alpha.real,
            "alpha_imag": alpha.imag,
            "magnitude": np.abs(beta),
            "timescale": -1 / np.log(np.abs(beta)),
            "participation": np.abs(alpha) / np.abs(alpha).sum(),
            "gain": np.abs(alpha / (1 - beta)) / np.abs(alpha / (1 - beta)).sum(),
        }
    )
    table = table.sort_values("magnitude", ascending=False, ignore_index=True)
    return table.rename_axis("mode").reset_index()


def impulse() -> pd.DataFrame:
    lag = np.arange(61)
    table = modes()
    beta, alpha = table["beta_real"] + 1j * table["beta_imag"], table["alpha_real"] + 1j * table["alpha_imag"]
    linear = -np.real((alpha.to_numpy()[:, None] * beta.to_numpy()[:, None] ** lag).sum(axis=0))
    return pd.DataFrame({"lag": lag, "response": linear * (1 + 0.03 * np.sin(lag)), "linear": linear})


def fixed_points() -> dict[str, np.ndarray]:
    return {
        "points": np.array([[0.1, 0.2, 0.0, 0.3], [2.1, 0.6, 0.0, 0.3]]),
        "residual": np.array([1e-12, 1e-11]),
        "spectral_radius": np.array([0.905, 1.02]),
        "unstable_directions": np.array([0, 1]),
        "members": np.array([60, 4]),
    }


def momentum(subject: str = SUBJECT) -> Momentum:
    return Momentum(subject, pca(), fixed_points(), update_functions(), modes(), impulse(), POLYAK)


def clipping(subject: str = SUBJECT) -> Clipping:
    return Clipping(subject, update_functions(), clipping_summary(), gradient_density())


def schedule_table(peak: float = 22.0, height: float = 3.0) -> pd.DataFrame:
    step = np.arange(0, 121)
    rate = 1.2 + height * (step / peak) * np.exp(1 - step / peak)
    distance = 3 * np.exp(-step / 15)
    return pd.DataFrame(
        {
            "step": step,
            "effective_learning_rate": rate,
            "offset": 0.1 * np.exp(-step / 10),
            "distance": distance,
            "pc1": distance * np.cos(step / 12),
            "pc2": 0.5 * distance * np.sin(step / 8),
            "pc3": 0.1 * distance,
        }
    )


def schedule(subject: str = SUBJECT) -> Schedule:
    table = schedule_table()
    rate = table["effective_learning_rate"]
    summary = {
        "shape": "warmup_then_decay",
        "peak_step": int(rate.idxmax()),
        "initial": float(rate.iloc[0]),
        "peak": float(rate.max()),
        "final": float(rate.iloc[-1]),
        "range": float(rate.max() / rate.min()),
    }
    others = {"gru32-s1": schedule_table(15, 2.2), "gru32-s2": schedule_table(30, 3.6)}
    return Schedule(subject, table, summary, pca(), others)


def adaptation_table(exponent: float = -0.6, knee: float = 0.05, unconverged: int = 1) -> pd.DataFrame:
    """Arms whose rate is 3.5 (1 + |g| / knee)^exponent, on an S-shaped curve; the largest did not converge."""
    size = np.geomspace(1e-3, 2, 14)
    gradient = np.concatenate([-size[::-1], [0.0], size])
    rate = 3.5 * (1 + np.abs(gradient) / knee) ** exponent
    turn = np.arcsinh(gradient / 0.03)
    arm = np.where(gradient < 0, "negative", np.where(gradient > 0, "positive", "zero"))
    converged = np.ones(len(gradient), dtype=bool)
    converged[len(gradient) - unconverged :] = False
    return pd.DataFrame(
        {
            "gradient": gradient,
            "arm": arm,
            "effective_learning_rate": 0.8 * rate,
            "effective_learning_rate_at_zero": rate,
            "mean_rate": 1.1 * rate,
            "residual": 1e-11,
            "spectral_radius": 0.9,
            "converged": converged,
            "pc1": turn,
            "pc2": np.tanh(turn) * 1.5 - 0.12 * turn,
            "pc3": 0.0,
            "time_constant": 9.5,
        }
    )


def adaptation(subject: str = SUBJECT) -> Adaptation:
    functions = []
    for held in (-0.1, 0.0, 0.01, 0.1, 1.0):
        value, slope = update(gradient_grid(), -4 * np.tanh(3 * held), (1 + abs(held) / 0.05) ** -0.6)
        functions.append(
            pd.DataFrame(
                {"gradient_held": held, "place": "arm", "gradient": gradient_grid(), "update": value, "slope": slope}
            )
        )
    summary = {"exponent": -0.58, "low": -0.62, "high": -0.54, "knee": 0.05, "symmetry": 0.01}
    return Adaptation(
        subject,
        adaptation_table(),
        pd.concat(functions, ignore_index=True),
        summary,
        pca(),
        adaptation_table(-1.0, 0.02),
        {"exponent": -1.0, "low": -1.01, "high": -0.99, "knee": 0.02},
        {"gru32-s1": adaptation_table(-0.5, 0.08), "gru32-s2": adaptation_table(-0.7, 0.03)},
    )


def conditions() -> pd.DataFrame:
    values = 10 ** (2.05 + 0.45 * bell(400).clip(-3, 3))
    return pd.DataFrame(
        {
            "problem": np.arange(400),
            "condition_number": values,
            "largest_eigenvalue": 0.9,
            "smallest_eigenvalue": 0.9 / values,
            "initial_loss": 180.0,
        }
    )


def training_run(floor: float, speed: float, skipped: tuple[int, ...]) -> pd.DataFrame:
    step = np.arange(400)
    mean = floor + (1 - floor) * np.exp(-step / speed)
    validation = np.where(step % 25 == 24, 0.95 * mean, np.nan)
    return pd.DataFrame(
        {
            "outer_step": step,
            "meta_objective": mean * np.exp(0.15 * bell(400, floor)),
            "meta_objective_median": 0.8 * mean,
            "gradient_norm": (0.02 + np.exp(-step / 40)) * np.exp(0.6 * bell(400, speed)),
            "skipped": np.isin(step, skipped),
            "validation": validation,
        }
    )


def training() -> dict[str, pd.DataFrame]:
    return {"gru32-s0": training_run(0.04, 30, (60, 61, 250)), "gru32-s1": training_run(0.05, 45, ())}


def tuning() -> dict[str, Tuning]:
    """Log-parabolic bowls with steep walls to the side of divergence; RMSProp's winner sits at an edge."""
    draws = 150
    rate = 10 ** (-2 + 4 * spread(draws))
    decay = 1 - 10 ** (-4 * spread(draws, 0.37))
    eps = 10 ** (-8 + 8 * spread(draws, 0.71) ** 1.5)
    made = {}
    for name, best, floor, others in (
        ("sgd", 1.9, 0.3, {}),
        ("momentum", 3.4, 0.047, {"momentum": (decay, [0.0, 0.9999, "one_minus_log"])}),
        ("rmsprop", 1.2, 0.2, {"decay": (decay, [0.0, 0.9999, "one_minus_log"]), "eps": (eps, [1e-8, 1.0, "log"])}),
    ):
        bowl = floor * 10 ** (0.6 * np.log10(rate / best) ** 2 + (0.2 if others else 0.0) * spread(draws, 0.13))
        score = np.where(rate > 8 * best, np.inf, bowl)
        table = pd.DataFrame(
            {
                "draw": np.arange(draws),
                "learning_rate": rate,
                **{key: value for key, (value, _) in others.items()},
                "meta_objective": score,
                "at_edge": "",
            }
        )
        top = int(np.argmin(score))
        winner = {
            "baseline": name,
            "diverged": int(np.isinf(score).sum()),
            "dropped": 0,
            "meta_objective": float(score[top]),
            "at_edge": ["eps"] if name == "rmsprop" else [],
            "hyperparameters": {key: float(table[key][top]) for key in ("learning_rate", *others)},
            "ranges": {**{key: span for key, (_, span) in others.items()}, "learning_rate": [0.01, 100.0, "log"]},
        }
        made[name] = Tuning(table, winner)
    return made


def linearized(subject: str = SUBJECT) -> Linearized:
    step = np.arange(0, 201, 2)
    learned = 0.98 * np.exp(-0.12 * step) + 0.02 * np.exp(-0.02 * step)
    curves = pd.DataFrame({"step": step, "learned": learned, "linearized": learned * (1.3 - 0.3 * np.exp(-step / 40))})
    size = 0.04 * np.exp(0.6 * bell(80))
    problems = pd.DataFrame(
        {"problem": np.arange(80), "learned": size, "linearized": 1.2 * size * np.exp(0.1 * bell(80, 0.4))}
    )
    problems.loc[7, "linearized"] = np.inf
    return Linearized(subject, curves, problems)


def difference() -> Difference:
    """Momentum beside Adam: a pulse fades from both, a constant gradient is normalised by one alone."""
    step = np.arange(60)
    grown = np.geomspace(1e-6, 1e6, 60)
    fades = 0.9**step
    panels = {
        "pulse": (0.1 * (step == 0), -0.01 * fades, -0.003 * fades * (1 + 0.02 * step)),
        "constant": (np.full(60, 0.1), -0.1 * (1 - fades), np.full(60, -0.03)),
        "ramp": (grown, -grown, -0.03 * grown / (grown + 1e-4)),
        "farthest": (0.1 * np.cos(step / 3), -0.04 * np.cos(step / 3 - 0.6), -0.03 * np.cos(step / 3 - 0.2)),
    }
    tables = [
        pd.DataFrame({"panel": panel, "step": step, "gradient": gradient, "a": a, "b": b})
        for panel, (gradient, a, b) in panels.items()
    ]
    return Difference("momentum", "adam", pd.concat(tables, ignore_index=True), "flips of sign")


def remainder(subject: str = SUBJECT) -> Remainder:
    """An update that rings and fades, explained but for a faster ripple."""
    step = np.arange(120)
    told = -0.3 * np.exp(-step / 30) * np.cos(step / 8)
    table = pd.DataFrame({"step": step, "true": told + 0.03 * np.exp(-step / 60) * np.sin(step), "explained": told})
    return Remainder(subject, table, 0.973)


def claims() -> pd.DataFrame:
    nan = np.nan
    rows = [
        (
            "T1",
            "quadratic",
            "gru32",
            "Learned optimizers beat tuned momentum, RMSProp and Adam",
            0.91,
            0.86,
            0.97,
            5,
            "ratio of meta-objectives below 1",
            "holds",
        ),
        (
            "T2",
            "quadratic",
            "gru32",
            "At zero gradient there is a single global fixed point",
            1.0,
            nan,
            nan,
            5,
            "one cluster, spectral radius < 1",
            "holds",
        ),
        (
            "T4",
            "quadratic",
            "gru32",
            "The dominant mode is Polyak's optimal momentum (α*, β*)",
            0.14,
            0.09,
            0.21,
            5,
            "relative distance at most 0.05",
            "fails",
        ),
        (
            "T10",
            "quadratic",
            "gru32",
            "The effective learning rate first rises for about 25 steps, then falls",
            22.0,
            17.0,
            31.0,
            5,
            "peak between steps 10 and 50",
            "holds",
        ),
        (
            "T11",
            "rosenbrock",
            "gru32",
            "There is no autonomous schedule",
            nan,
            nan,
            nan,
            nan,
            "task is not in the config",
            "not testable",
        ),
    ]
    names = ["claim", "task", "cell", "statement", "value", "low", "high", "seeds", "criterion", "verdict"]
    return pd.DataFrame(rows, columns=names)
