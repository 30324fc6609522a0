"""Temporary memory of meta-training, predicted from the plan of its meta-gradient.

In arrays of (row, unit) float32 numbers, a block of L steps of a chunk of problems keeps L + 1 states and L times what
the cell saves; a segment of S steps adds its deltas, the states read out and, for a GRU, the reset states; one step
adds what it saves and its deltas.
"""

from typing import TYPE_CHECKING

from reopt.estimate.counts import GATES, Size
from reopt.training.chunked_gradient import Plan

if TYPE_CHECKING:
    from reopt.config import TrainingConfig

FLOAT = 4
STATES = {"gru": 1, "lstm": 2, "vanilla": 1}
SAVED = {"gru": 3, "lstm": 5, "vanilla": 1}
DELTAS = GATES


def plan_of(training: "TrainingConfig", size: Size, num_steps: int) -> Plan:
    """The plan that meta-training takes: the only place that knows how it is chosen."""
    del size, num_steps
    return Plan(segment=training.segment)


def weight_bytes(size: Size) -> float:
    """Of the recurrent weights, which are most."""
    return FLOAT * GATES[size.cell] * size.units**2


def meta_gradient_bytes(size: Size, num_steps: int, plan: Plan) -> float:
    """Temporary bytes of one meta-gradient."""
    cell, problems = size.cell, size.problems / plan.chunks
    length = -(-num_steps // plan.blocks)
    segment = min(plan.segment, length)
    kept = STATES[cell] * (length + 1) + SAVED[cell] * length
    together = segment * (DELTAS[cell] + 2 + (cell == "gru")) + SAVED[cell] + DELTAS[cell] + 1
    if plan.chunks > 1 and plan.blocks > 1:
        kept *= 2  # in a loop within a loop XLA holds the buffers twice
    starts = STATES[cell] * (plan.blocks - 1)
    path = problems * (length * (2 * size.params + 1) + num_steps + (plan.blocks - 1) * size.params)
    weights = weight_bytes(size) * (2 if plan.chunks > 1 or plan.blocks > 1 else 1)
    return FLOAT * (problems * size.params * size.units * (kept + together + starts) + path) + weights


def unroll_bytes(size: Size, num_steps: int) -> float:
    """Temporary bytes of a run that keeps its losses alone."""
    arrays = 2 * STATES[size.cell] + GATES[size.cell] + 1
    return FLOAT * (size.rows * size.units * arrays + size.problems * num_steps)
