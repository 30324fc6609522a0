"""Every optimizer and transformation that the installed optax gives out, by walking its public names."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import jax
import optax
import optax.contrib

RATE = 0.01


def _leaves(tree: Any) -> Any:
    return jax.tree.map(lambda _: True, tree)


# Arguments without a default, by name: all that any factory asks for.
_ARGUMENTS: dict[str, Any] = {
    "learning_rate": RATE,
    "base_optimizer": optax.sgd(RATE),
    "adv_optimizer": optax.sgd(RATE),
    "fast_optimizer": optax.sgd(RATE),
    "optimizer": optax.sgd(RATE),
    "inner": optax.sgd(RATE),
    "opt": optax.sgd(RATE),
    "tx": optax.sgd(RATE),
    "every_k_schedule": 2,
    "inner_factory": optax.sgd,
    "transforms": {"all": optax.sgd(RATE)},
    "param_labels": lambda params: jax.tree.map(lambda _: "all", params),
    "mask": _leaves,
    "freeze_mask": lambda params: jax.tree.map(lambda _: False, params),
    "should_transform_fn": lambda step, **extra: step % 2 == 0,
    "max_consecutive_errors": 5,
    "clipping": 0.1,
    "max_delta": 0.1,
    "threshold": 0.1,
    "max_norm": 0.1,
    "decay": 0.9,
    "eta": 0.01,
    "gamma": 0.55,
    "key": 0,
    "seed": 0,
    "step_size": -RATE,
    "step_size_fn": optax.cosine_decay_schedule(-RATE, 100),
    "sync_period": 5,
    "slow_step_size": 0.5,
    "max_backtracking_steps": 5,
    "max_linesearch_steps": 5,
    "measure_name": "size",
    "measure": optax.global_norm,
    "l2_norm_clip": 1.0,
    "noise_multiplier": 0.1,
}
_POSITIONAL: dict[str, tuple] = {  # factories whose arguments are no single values
    "chain": (optax.trace(0.9), optax.scale(-RATE)),
    "named_chain": (("momentum", optax.trace(0.9)), ("rate", optax.scale(-RATE))),
    "stateless": (lambda updates, params: jax.tree.map(lambda g: -RATE * g, updates),),
    "stateless_with_tree_map": (lambda update, param: -RATE * update,),
    "monitor": ({"size": optax.global_norm},),
}


def walk() -> Iterator[tuple[str, Any]]:
    """(name, transformation) of everything in `optax` and `optax.contrib` that makes a gradient transformation.

    Each is made with its defaults; what has none is filled in from a list. **Raises** `TypeError` where a factory
    asks for an argument that the list lacks, so that none is passed over.
    """
    for module in (optax, optax.contrib):
        for name in sorted(dir(module)):
            factory = getattr(module, name)
            if name.startswith("_") or not callable(factory) or (inspect.isclass(factory) and name != "MultiSteps"):
                continue
            label = f"{module.__name__}.{name}"
            try:
                made = _make(factory, name)
            except Exception as error:
                if _declared(factory):
                    raise TypeError(f"{label}: {error}") from error
                continue  # a loss, a schedule, a function of arrays
            if hasattr(made, "init") and hasattr(made, "update"):
                yield label, made


def _make(factory: Callable, name: str) -> Any:
    if name in _POSITIONAL:
        return factory(*_POSITIONAL[name])
    needed = [
        parameter.name
        for parameter in inspect.signature(factory).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    ]
    made = factory(**{argument: _ARGUMENTS[argument] for argument in needed})
    return made(RATE) if name.startswith("inject_") else made


def _declared(factory: Callable) -> bool:
    """Whether a factory is declared to give a gradient transformation."""
    if inspect.isclass(factory):
        return True
    try:
        given = inspect.signature(factory).return_annotation
    except (TypeError, ValueError):
        return False
    return "GradientTransformation" in str(given)
