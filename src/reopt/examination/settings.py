"""How an examination is made: sizes, seeds and tolerances, with defaults for an optimizer of which nothing is known."""

from dataclasses import dataclass

SHIFTS = (-2.0, -1.0, 1.0, 2.0)


@dataclass(frozen=True)
class Settings:
    """Settings of an `Examination`; the pipeline fills them from its config.

    **Runs:** `num_steps` steps on `problems` problems of `seed`; states are kept of `state_problems` of them, and of at
    most `max_params` parameters of each. **Fixed points:** starts from `visited_seeds` visited and `perturbed_seeds`
    perturbed states (noise of `perturbation` times their size), drawn with `search_seed`; a point is one whose residual
    is below `tolerance` after at most `max_iterations`; points closer than `merge_distance` of the typical state are
    one. **Update functions:** at states shifted by `shifts` standard deviations, on `grid` gradients up to
    `range_factor` 99.9% quantiles of those met; densities have `bins` bins. **Constant gradients:** `gradients` a sign,
    between the `low_quantile` and the `high_quantile` of those met. **Loss curves:** `evaluation_problems` problems of
    `evaluation_seed`.
    """

    num_steps: int = 201
    problems: int = 64
    state_problems: int = 4
    max_params: int = 64
    seed: int = 0
    visited_seeds: int = 200
    perturbed_seeds: int = 56
    perturbation: float = 0.5
    search_seed: int = 0
    tolerance: float = 1e-10
    max_iterations: int = 2048
    merge_distance: float = 1e-4
    shifts: tuple[float, ...] = SHIFTS
    grid: int = 201
    range_factor: float = 4.0
    bins: int = 60
    gradients: int = 25
    low_quantile: float = 0.3
    high_quantile: float = 0.999
    evaluation_problems: int = 256
    evaluation_seed: int = 0
