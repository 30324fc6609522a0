"""Subjects that misbehave: what they do, crossed with where they do it."""

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from campaign import Trial
from workshop import TASK

FILE = "bad/s.py"
HEAD = """
import sys, os, time, signal, threading, warnings, logging
import numpy as np, jax, jax.numpy as jnp, optax
from reopt.optimizers.classical import SGD, Momentum
rng = np.random.default_rng(0)
class Odd(BaseException):
    def __str__(self): raise ValueError("no words")
def deep(): return deep()
"""
ACTS = {  # a statement: how long it may take
    "raise ValueError('first\\nsecond')": 60,
    "raise ValueError('x' * 5000)": 60,
    "raise ValueError('\\x1b[31m\\u202e\\0')": 60,
    "raise Odd": 60,
    "raise GeneratorExit": 60,
    "raise StopIteration": 60,
    "raise EOFError": 60,
    "raise MemoryError": 60,
    "raise OSError(2, 'gone', 'name')": 60,
    "raise UnicodeDecodeError('utf-8', b'x', 0, 1, 'odd')": 60,
    "raise BaseExceptionGroup('many', [SystemExit(0), ValueError('x')])": 60,
    "sys.exit(0)": 60,
    "sys.exit('words')": 60,
    "os._exit(0)": 60,
    "deep()": 60,
    "1 / 0": 60,
    "assert False": 60,
    "np.zeros(10**15)": 60,
    "import no_such_module": 60,
    "open('/no/such/file')": 60,
    "while True: pass": 1,
    "time.sleep(100)": 1,
    "exec('while True:\\n    try:\\n        time.sleep(100)\\n    except BaseException: pass')": 1,
    "signal.signal(signal.SIGALRM, signal.SIG_IGN); time.sleep(100)": 1,
    "signal.setitimer(signal.ITIMER_REAL, 0); time.sleep(100)": 1,
    "jax.config.update('jax_enable_x64', True)": 60,
    "jax.config.update('jax_default_matmul_precision', 'bfloat16')": 60,
    "jax.config.update('jax_numpy_dtype_promotion', 'strict')": 60,
    "os.chdir('/')": 60,
}
PLACES = {
    "in the file": "{act}\ns = SGD(0.1)",
    "in a factory": "def s():\n    {act}\n    return SGD(0.1)",
    "in update": "class C(Momentum):\n    def update(self, h, g):\n        {act}\n"
    "        return 0.9 * h + g[..., None]\ns = C(0.1, 0.9)",
    "in readout": "class C(SGD):\n    def readout(self, h, g):\n        {act}\n        return -g\ns = C(0.1)",
    "in the initial state": "class C(Momentum):\n    def initial_state(self):\n        {act}\n"
    "        return jnp.zeros(1)\ns = C(0.1, 0.9)",
    "in state_names": "class C(Momentum):\n    @property\n    def state_names(self):\n        {act}\n"
    "        return ('v',)\ns = C(0.1, 0.9)",
    "in init": "def init(p):\n    {act}\n    return ()\n"
    "s = optax.GradientTransformation(init, lambda g, h, p=None: (g, h))",
    "in a transformation": "def update(g, h, p=None):\n    {act}\n    return g, h\n"
    "s = optax.GradientTransformation(lambda p: (), update)",
    "in a callback": "class C(SGD):\n    def readout(self, h, g):\n        def call(x):\n            {act}\n"
    "            return x\n        return -jax.pure_callback(call, g, g)\ns = C(0.1)",
    "in a hidden callback": "def update(g, h, p=None):\n    def call(x):\n        {act}\n        return x\n"
    "    return jax.tree.map(lambda x: jax.pure_callback(call, x, x), g), h\n"
    "s = optax.GradientTransformation(lambda p: (), update)",
    "in later steps": "class C(SGD):\n    def readout(self, h, g):\n        if g.shape != (2, 3):\n            {act}\n"
    "        return -g\ns = C(0.1)",
    "in __getattr__": "class C:\n    def __getattr__(self, name):\n        {act}\n"
    "        raise AttributeError(name)\ns = C()",
}
TASKS = {  # the same in a task of somebody's
    part: "from reopt.tasks.quadratic import Quadratic\nclass T(Quadratic):\n"
    f"    def {part}:\n        {{act}}\n        return super().{call}\ns = T()"
    for part, call in (
        ("sample(self, key)", "sample(key)"),
        ("initial_params(self, problem)", "initial_params(problem)"),
        ("loss(self, problem, params, step)", "loss(problem, params, step)"),
    )
}
UNSEEN = ("jax.config", "os.chdir")  # no harm in a callback, or where tracing puts it back
RUBBISH = ("None", "3", "'text'", "[]", "{}", "()", "...", "jnp.zeros(3)", "lambda: None", "object()", "1j", "b''")
GIVEN = {  # what a part gives in place of what it should
    "update": "class C(Momentum):\n    def update(self, h, g): return {value}\ns = C(0.1, 0.9)",
    "readout": "class C(SGD):\n    def readout(self, h, g): return {value}\ns = C(0.1)",
    "initial_state": "class C(Momentum):\n    def initial_state(self): return {value}\ns = C(0.1, 0.9)",
    "state_names": "class C(Momentum):\n    @property\n    def state_names(self): return {value}\ns = C(0.1, 0.9)",
    "clock": "class C(Momentum):\n    @property\n    def clock(self): return {value}\ns = C(0.1, 0.9)",
    "a factory": "def s(): return {value}",
    "the name": "s = {value}",
    "a transformation": "s = optax.GradientTransformation(lambda p: (), lambda g, h, p=None: {value})",
    "the state": "s = optax.GradientTransformation(lambda p: {value}, lambda g, h, p=None: (g, h))",
}
HARMLESS = {"the state": ("[]", "{}", "()", "None", "3", "jnp.zeros(3)", "1j"), "clock": ("None",)}
COUPLED = "s = optax.clip_by_global_norm(1.0)"  # which `diff` compares without examining it
UNSOUND = (  # that run, and are no optimizers
    "class C(SGD):\n    def readout(self, h, g): return -g / jnp.sqrt(jnp.sum(g ** 2))\ns = C(0.1)",
    "class C(SGD):\n    def readout(self, h, g): return -g + 1e-6 * jnp.mean(g)\ns = C(0.1)",
    "class C(SGD):\n    def readout(self, h, g): return -jnp.sort(g, axis=-1)\ns = C(0.1)",
    "class C(Momentum):\n    def update(self, h, g): return 0.9 * h + g[..., None].max()\ns = C(0.1, 0.9)",
    "class C(SGD):\n    def readout(self, h, g): return -g * rng.normal()\ns = C(0.1)",
    "class C(SGD):\n    def readout(self, h, g): return -g * (time.time() % 1)\ns = C(0.1)",
    "class C(SGD):\n    def readout(self, h, g):\n"
    "        return jax.pure_callback(lambda x: -x * rng.normal(), g, g)\ns = C(0.1)",
    "class C(SGD):\n    def readout(self, h, g): return g * 1j\ns = C(0.1)",
    "class C(SGD):\n    def readout(self, h, g): return (g > 0).astype(int)\ns = C(0.1)",
    "class C(SGD):\n    def readout(self, h, g): return np.asarray(g)\ns = C(0.1)",
    "class C(SGD):\n    def readout(self, h, g): return -g if g > 0 else g\ns = C(0.1)",
    "class C(Momentum):\n    def update(self, h, g): return jnp.concatenate([h, h], -1)\ns = C(0.1, 0.9)",
    "class C(Momentum):\n    def initial_state(self): return jnp.zeros(1, complex)\ns = C(0.1, 0.9)",
    COUPLED,
    "s = optax.GradientTransformation(lambda p: (), lambda g, h, p=None: (g * rng.normal(), h))",
    "s = optax.GradientTransformation(lambda p: jnp.zeros(2, complex), lambda g, h, p=None: (g, h))",
    "s = SGD",
    "class C(SGD):\n    def readout(self, h, g):\n"
    "        return -jax.lax.while_loop(lambda x: jnp.any(x < 2), lambda x: jnp.sin(x), g)\ns = C(0.1)",
    "s = s0 = None\ndel s",
)
SOUND = (
    "print('hello'); s = SGD(0.1)",
    "sys.stderr.write('hello\\n'); s = SGD(0.1)",
    "warnings.warn('hello'); s = SGD(0.1)",
    "logging.warning('hello'); s = SGD(0.1)",
    "sys.stdout = sys.stderr = None; s = SGD(0.1)",
    "np.seterr(all='raise'); s = SGD(0.1)",
    "warnings.simplefilter('error'); s = SGD(0.1)",
    "sys.setrecursionlimit(60); s = SGD(0.1)",
    "sys.setrecursionlimit(10_000); s = SGD(0.1)",
    "os.environ['X'] = '1'; s = optax.adam(0.1)",
    "threading.Thread(target=time.sleep, args=(0.1,)).start(); s = SGD(0.1)",
    "with jax.enable_x64(True):\n    s = SGD(0.1)",
    "def s(): return optax.adam(0.1)",
)
COMMANDS = (
    *(f"evaluate {FILE}:s {TASK} --problems 2 --out out.csv",) * 6,
    f"dissect {FILE}:s {TASK} --steps 4 --problems 2 --draws 0 --out out",
    f"diff {FILE}:s polyak {TASK} --steps 4 --problems 2",
    f"analyse record {FILE}:s {TASK} --out out",
    f"transfer {FILE}:s {TASK} --out out.csv",
)


TASK_COMMANDS = (
    f"dissect polyak --task {FILE}:s --steps 4 --problems 2 --draws 0 --out out",
    f"diff polyak {FILE}:s --task {FILE}:s --steps 4 --problems 2",
)


def _trial(case: str, content: str, dice: random.Random, refused: bool | None, seconds: int = 60) -> Trial:
    command = dice.choice(COMMANDS) if refused else COMMANDS[0]
    environment = {"REOPT_SUBJECT_SECONDS": str(seconds)}
    prepare = _written(HEAD + content + "\n")
    return Trial(
        "subjects",
        case,
        tuple(command.split()),
        (FILE, "own code"),
        refused,
        prepare,
        environment=environment,
        code=True,
    )


def _written(content: str) -> Callable[[Path], object]:
    return lambda workshop: (workshop / FILE).write_text(content)


def trials(dice: random.Random, count: int) -> Iterator[Trial]:
    """`count` of what a subject may do and where, or give; then those that are unsound, and some that are not."""
    doings = [(act, place, seconds) for (act, seconds), place in itertools.product(ACTS.items(), PLACES)]
    in_tasks = [(act, part, seconds) for (act, seconds), part in itertools.product(ACTS.items(), TASKS)]
    giving = list(itertools.product(RUBBISH, GIVEN))
    for number in range(count):
        if number % 6 == 0:
            act, part, seconds = dice.choice(in_tasks)
            trial = _trial(f"{act[:40]} in {part} of a task", TASKS[part].format(act=act), dice, True, seconds)
            yield replace(trial, words=tuple(dice.choice(TASK_COMMANDS).split()))
        elif number % 3 < 2:
            act, place, seconds = dice.choice(doings)
            refused = None if "callback" in place or act.startswith(UNSEEN) else True
            yield _trial(f"{act[:40]} {place}", PLACES[place].format(act=act), dice, refused, seconds)
        else:
            value, part = dice.choice(giving)
            refused = None if value in HARMLESS.get(part, ()) else True
            yield _trial(f"{value} for {part}", GIVEN[part].format(value=value), dice, refused)
    for content in UNSOUND:
        refused = None if content == COUPLED else True
        yield _trial(content.splitlines()[-2:][0].strip()[:60], content, dice, refused, 5)
    for content in SOUND:
        yield _trial(content[:60], content, dice, False)
