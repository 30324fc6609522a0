"""A task whose loss is multiplied by a number: nothing changes but the size of the gradients."""

from jaxtyping import Array, Float, Int, PRNGKeyArray

from reopt.tasks.base import Problem, Task


class Rescaled(Task):
    """The problems of `task`, with losses and gradients times `factor` (> 0).

    The meta-objective is the same for losses of any scale, so that whatever changes it is the optimizer's doing.
    """

    task: Task
    factor: Float[Array, ""]  # an array, so that one compiled run serves all factors

    @property
    def num_params(self) -> int:
        return self.task.num_params

    def sample(self, key: PRNGKeyArray) -> Problem:
        return self.task.sample(key)

    def initial_params(self, problem: Problem) -> Float[Array, " param"]:
        return self.task.initial_params(problem)

    def loss(self, problem: Problem, params: Float[Array, " param"], step: Int[Array, ""]) -> Float[Array, ""]:
        loss = self.task.loss(problem, params, step)
        return self.factor.astype(loss.dtype) * loss

    def optimum(self, problem: Problem) -> Float[Array, ""] | None:
        smallest = self.task.optimum(problem)
        return None if smallest is None else self.factor * smallest

    def accuracy(self, problem: Problem, params: Float[Array, " param"]) -> Float[Array, ""] | None:
        return self.task.accuracy(problem, params)

    def provenance(self) -> dict[str, str]:
        return self.task.provenance()
