"""Temporary memory of meta-training, predicted from the plan of its meta-gradient."""

from typing import TYPE_CHECKING, Any

import jax

from reopt.optimizers.learned import LearnedOptimizer, create_learned
from reopt.pipeline.cost.counts import GATES, Size
from reopt.training.chunking import Plan, choose_plan, devices_for, temporaries

if TYPE_CHECKING:
    from reopt.pipeline.config import TrainingConfig

FLOAT = 4
STATES = {"gru": 1, "lstm": 2, "vanilla": 1}


def _shapes(size: Size) -> LearnedOptimizer:
    """An optimizer of the size, of shapes alone."""
    parts: Any = {"cell": size.cell, "units": size.units, "features": size.features}
    return jax.eval_shape(lambda: create_learned(jax.random.key(0), **parts))


def plan_of(training: "TrainingConfig", size: Size, num_steps: int) -> Plan:
    """The plan that meta-training takes on this machine's devices."""
    group = training.cotangent_clipping.group if training.cotangent_clipping else 1
    return choose_plan(
        _shapes(size),
        num_params=size.params,
        problems=size.problems,
        num_steps=num_steps,
        memory_mb=training.memory_mb,
        devices=len(devices_for(size.problems, group)),
        group=group,
    )


def meta_gradient_bytes(size: Size, num_steps: int, plan: Plan, devices: int = 1) -> float:
    """Temporary bytes of one meta-gradient, on all devices."""
    return temporaries(
        _shapes(size),
        num_params=size.params,
        problems=size.problems,
        num_steps=num_steps,
        plan=plan,
        devices=devices,
    )


def unroll_bytes(size: Size, num_steps: int) -> float:
    """Temporary bytes of a run that keeps its losses alone."""
    arrays = 2 * STATES[size.cell] + GATES[size.cell] + 1
    return FLOAT * (size.rows * size.units * arrays + size.problems * num_steps)
