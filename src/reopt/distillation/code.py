"""A rule written out as code that needs nothing of this project: an optax transformation, and a `torch.optim` class.

The numbers are literals, and both files hold the same equations, of the parts that the rule has.
"""

import re
import textwrap

import numpy as np

from reopt.optimizers.rules import KNOTS, TINY, Rule

_MEANING = {
    "gate": "momentum follows r, the agreement of gradient and last step: it forgets where steps go uphill",
    "gain": "the step grows while r is above a level, and shrinks below it",
    "clip": "large gradients count as the clip",
    "power": "the step follows a power of the second moment",
    "direct": "a part of the step acts at once",
    "schedule": "rate and momentum follow the step",
}

_OPTAX = '''"""{title}

{meaning}
Needs jax and optax alone: `optimizer = rule()`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
{imports}

class State(NamedTuple):
{fields}


{level}def element(g: Any, time: Any, NAMES_OF_STATE: Any) -> tuple:
    """The update, then the new state, of one parameter or of arrays of them."""
{body}


def rule() -> optax.GradientTransformation:
    """The rule, for parameters of any form."""

    def init(params: Any) -> State:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return State(jnp.zeros((), jnp.int32), *[zeros] * {count})

    def update(gradients: Any, state: State, params: Any = None) -> tuple:
        leaves, form = jax.tree.flatten(gradients)
        if not leaves:
            return gradients, state._replace(time=state.time + 1)
        kept = [jax.tree.leaves(one) for one in state[1:]]
        found = [element(g, state.time.astype(g.dtype), *of_leaf) for g, *of_leaf in zip(leaves, *kept)]
        updates, *new = (jax.tree.unflatten(form, list(parts)) for parts in zip(*found))
        return updates, State(state.time + 1, *new)

    return optax.GradientTransformation(init, update)
'''

_LEVEL = '''def level(at, knots):
    """The broken line from 0 at 0 through the knots at 1, 2, ..."""
    ends = (0.0, *knots)
    return sum((ends[i + 1] - ends[i]) * {clipped} for i in range(len(knots)))


'''

_TORCH = '''"""{title}

{meaning}
Needs torch alone: `optimizer = Rule(model.parameters())`.
"""

{imports}
NAMES = ({quoted},)


{level}def element(g, time, NAMES_OF_STATE):
    """The update, then the new state, of one parameter or of a tensor of them."""
{body}


class Rule(torch.optim.Optimizer):
    """The rule. It has no learning rate to be given: its own is one of its numbers."""

    def __init__(self, params):
        super().__init__(params, {{}})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in (one for one in group["params"] if one.grad is not None):
                state = self.state[p]
                if not state:
                    state.update({{name: torch.zeros_like(p) for name in NAMES}}, time=0)
                update, *new = element(p.grad, state["time"], *(state[name] for name in NAMES))
                p.add_(update)
                state.update(zip(NAMES, new), time=state["time"] + 1)
        return loss
'''


def optax_code(rule: Rule, title: str) -> str:
    """The text of a file with `rule()`, an `optax.GradientTransformation`."""
    names = _names(rule)
    fields = "\n".join(f"    {name}: Any" for name in ("time", *names))
    imports = {"jax.nn": ("sigmoid",), "jax.numpy": ("abs", "exp", "log1p", "tanh", "exp as exp_time")}
    filled = _filled(_OPTAX, rule, title, imports, "jnp.clip(at - i, 0, 1)", fields=fields, count=len(names))
    return filled.replace("NAMES_OF_STATE", ": Any, ".join(names))


def torch_code(rule: Rule, title: str) -> str:
    """The text of a file with `Rule`, a `torch.optim.Optimizer`."""
    names = _names(rule)
    imports = {"math": ("exp as exp_time", "log1p"), "torch": ("abs", "exp", "sigmoid", "tanh")}
    quoted = ", ".join(f'"{name}"' for name in names)
    filled = _filled(_TORCH, rule, title, imports, "min(max(at - i, 0.0), 1.0)", quoted=quoted)
    return filled.replace("NAMES_OF_STATE", ", ".join(names))


def _filled(
    template: str, rule: Rule, title: str, imports: dict[str, tuple[str, ...]], clipped: str, **more: object
) -> str:
    """The file, with what its equations use and no more."""
    body = "\n".join(_lines(rule))
    parts = "; ".join(_MEANING[part] for part in rule.parts)
    sentence = f"A heavy ball in {rule.size} numbers{': ' if parts else ''}{parts}."
    used = {
        module: [name for name in names if re.search(rf"\b{name.split(' as ')[-1]}\(", body)]
        for module, names in imports.items()
    }
    lines = [f"from {module} import {', '.join(names)}" for module, names in used.items() if names]
    if template is _TORCH:
        own = [line for line in lines if line.startswith("from math")]
        lines = [*own, *([""] if own else []), "import torch", *(line for line in lines if line not in own)]
    level = _LEVEL.replace("{clipped}", clipped) if "schedule" in rule.parts else ""
    return template.format(
        title=title,
        meaning="\n".join(textwrap.wrap(sentence, 100)),
        body=textwrap.indent(body, "    "),
        imports="".join(f"{line}\n" for line in lines),
        level=level,
        **more,
    )


def _names(rule: Rule) -> list[str]:
    return [name for name in rule.state_names if name != "step"]


def _text(value: float | np.ndarray) -> str:
    return repr(float(value))


def _lines(rule: Rule) -> list[str]:
    """The equations of `Rule`, one a line, with its numbers."""
    n = {name: np.asarray(value, np.float64) for name, value in rule.numbers.items()}
    scheduled = "schedule" in rule.parts
    push, rate = _text(n["q0"]), _text(np.exp(n["rate_log"]))
    lines = [f"rate = {rate}"]
    if scheduled:
        knots = {name: ", ".join(_text(value) for value in n[name]) for name in ("rate_knots", "push_knots")}
        lines = [
            f"at = {_text(KNOTS / np.log1p(rule.horizon))} * log1p(time)",
            f"rate = {rate} * exp_time(level(at, ({knots['rate_knots']})))",
            f"push = {push} + level(at, ({knots['push_knots']}))",
        ]
        push = "push"
    if "k1_log" in n:
        k1, k2 = (_text(0.5 * np.exp(n[name])) for name in ("k1_log", "k2_log"))
        lines += [
            "a = -g * velocity",
            f"r = a / (abs(a) + {k1} * rate * g * g + {k2} * velocity * velocity / rate + {TINY})",
        ]
    if "gate" in rule.parts:
        lines.append(f"momentum = sigmoid({push} + {_text(n['q1'])} * r + {_text(n['q2'])} * r * r)")
    elif scheduled:
        lines.append("momentum = 1 / (1 + exp_time(-push))")
    else:
        lines.append(f"momentum = {_text(_sigmoid(n['q0']))}")
    if "gain" in rule.parts:
        lines.append(f"gain = {_text(_sigmoid(n['d_logit']))} * gain + {_text(n['e'])} * (r - {_text(n['r0'])})")
    c = _text(np.exp(n["c_log"])) if "clip" in rule.parts else ""
    lines.append(f"x = {c} * tanh(g / {c})" if c else "x = g")
    if "power" in rule.parts:
        kept, rest = _text(_sigmoid(n["c2_logit"])), _text(_sigmoid(-n["c2_logit"]))
        lines += [
            f"second_moment = {kept} * second_moment + {rest} * g * g",
            f"corrected = second_moment / (1 - {kept} ** (time + 1))",
            f"x = x * (corrected + {_text(np.exp(n['eps_log']))}) ** {_text(-n['p'])}",
        ]
    lines.append("step = rate * exp(gain) * x" if "gain" in rule.parts else "step = rate * x")
    lines.append("velocity = momentum * velocity - step")
    update = f"velocity - {_text(n['c0'])} * step" if "direct" in rule.parts else "velocity"
    return [*lines, f"return {update}, {', '.join(_names(rule))}"]


def _sigmoid(value: np.ndarray) -> float:
    return float(1 / (1 + np.exp(-value)))
