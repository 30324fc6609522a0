"""Meta-training through windows of a population of agents (Lan, Mahmood, Yan and Xu 2023, arXiv 2302.01470).

A population of problems lives on from one outer step to the next. In an outer step each makes `window` updates, and the
loss after them is differentiated through these updates with respect to the optimizer's weights; agent i begins anew
when outer step mod `interval` is i mod `interval`, so that at any time there are agents of all ages.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from reopt.optimizers.joint import Inputs, Joint, State, layout_of
from reopt.systems.schema import Pipeline
from reopt.tasks.base import Problem, Task


class Population(NamedTuple):
    """Agents in the middle of their lives; `ages` counts the rollouts that each has used up."""

    problems: Problem
    params: Float[Array, "agent param"]
    state: State
    ages: Int[Array, " agent"]


def born(joint: Joint, task: Task, recipe: Pipeline, key: PRNGKeyArray) -> Population:
    """A population of newborn agents."""
    problems = task.sample_batch(key, recipe.agents)
    params = jax.vmap(task.initial_params)(problems)
    state = joint.start(layout_of(task), params)
    return Population(problems, params, state, jnp.zeros(recipe.agents, jnp.int32))


def begins_anew(recipe: Pipeline, at: Int[Array, ""]) -> Bool[Array, " agent"]:
    """Which agents are replaced by newborn ones before outer step `at`."""
    return jnp.arange(recipe.agents) % recipe.interval == at % recipe.interval


def estimate(
    joint: Joint,
    task: Task,
    recipe: Pipeline,
    population: Population,
    key: PRNGKeyArray,
    at: Int[Array, ""],
    num_steps: int,
) -> tuple[Float[Array, " agent"], Joint, Population]:
    """(losses after the window, gradient of their mean, the population an outer step on).

    `num_steps` is what the optimizer is told of the length of a life.
    """
    layout = layout_of(task)
    again = begins_anew(recipe, at)
    fresh = born(joint, task, recipe, key)
    problems, params, state, ages = jax.tree.map(
        lambda new, old: jnp.where(_leading(again, old), new, old), fresh, population
    )

    def losses_after(joint: Joint) -> tuple[Array, tuple[Array, Array, State]]:
        def body(carry: Any, step: Array) -> tuple[Any, None]:
            params, state = carry
            losses, gradients = jax.vmap(jax.value_and_grad(task.loss, argnums=1))(problems, params, ages + step)
            after, updates, _ = joint.step(layout, state, Inputs(gradients, params, losses, step, num_steps))
            return (params + updates, after), None

        (later, end), _ = jax.lax.scan(body, (params, state), jnp.arange(recipe.window))
        losses = jax.vmap(task.loss)(problems, later, ages + recipe.window)
        return jnp.mean(losses), (losses, later, end)

    gradient, (losses, params, state) = jax.grad(losses_after, has_aux=True)(joint)
    # The objective has used up a rollout of its own.
    return losses, gradient, Population(problems, params, state, ages + recipe.window + 1)


def _leading(which: Array, like: Array) -> Array:
    return which.reshape(-1, *[1] * (like.ndim - 1))
