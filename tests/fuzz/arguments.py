"""Commands with arguments that are wrong, missing, repeated, huge, or lead to what is no file."""

import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

from campaign import Trial
from workshop import CHECKPOINT, EXAMINED, TASK

COMMANDS = (  # each of which would be done in seconds
    "evaluate polyak momentum --task quadratic --problems 2 --seed 3 --out out.csv --curves out2.csv",
    "conditions --task quadratic --out out.csv",
    "landscape polyak --task quadratic --out out",
    f"analyse pca momentum --task quadratic --out out --from {EXAMINED}",
    f"causes momentum --task quadratic --examination {EXAMINED} --out out",
    f"beyond polyak --task quadratic --examination {EXAMINED} --out out",
    "transfer polyak --task quadratic --out out.csv",
    "dissect polyak --task quadratic --out out --steps 4 --problems 2 --seed 1 --draws 0",
    "diff polyak momentum --task quadratic --out out --steps 4 --problems 2 --seed 1 --tolerance 0.1",
    "metatrain gru2 --task quadratic --out out --seed 1 --state out.safetensors --threads 1",
    "search --task quadratic --out out --threads 1",
    "tune momentum --task quadratic --out out",
    "check-config config/laptop.yaml",
    "figure conditions --out out",
    "claims --out out.csv",
    "deviations --out out.csv --reference config/laptop.yaml",
    "distil polyak --task quadratic --parts clip --outer-steps 1 --batch 2 --steps 4 --problems 2 --draws 0 --out out",
    "matrix optax:sgd(0.1) --shape 2 3 --seed 1 --out out",
    "trace T2 --task quadratic --cell gru2 --out out.json",
    "train-system star --out out --seed 1",
    "tune-rival sign --task catch --out out",
    "judge-rival bad/text.csv --rival sign --task catch --out out.csv",
    f"judge-system {CHECKPOINT} --system star --out out",
    f"read-system {CHECKPOINT} --system star --out out",
    "compare-systems --out out.csv",
    "systems-claims bad/text.csv --out out.csv",
    "systems-figure bad/text.csv --out out",
    "estimate --out out.csv --config bad/text.csv",  # for it takes a minute
)
DEAR = (
    "dissect",
    "causes",
    "beyond",
    "estimate",
    "landscape",
    "metatrain",
    "tune",
    "diff",
    "transfer",
    "matrix",
    "distil",
    "train-system",
    "tune-rival",
)
CODES = {"diff": (1, 2), "trace": (1, 2)}  # where 1 is an answer
LONG = "x" * 5000
WORDS = (
    *("", " ", "-", "--", "-1", "0", "1", "nan", "inf", "1e400", "9" * 400, "1.5", "0x10", "1_000", "٣", "true"),
    *("banana", LONG, "ü\u202eñ", "\udcff\udcfe", "a\nb", "a\tb", "a\x1b[31mb", "%s%n", "{}", "$(touch canary)", "*"),
    *("best", "last", "polyak", "quadratic", "out.csv", "None", ":", "a:", ":a", "a:b:c", "os:system", "json:loads"),
    *(
        "builtins:exit",
        "sys:exit",
        "optax:adam",
        "antigravity:x",
        "a.b.c:d",
        "../..:x",
        ".:x",
        "~",
        "~root",
        "file:///etc",
    ),
    *("1000000", str(2**31), str(2**63), str(10**30), "--out", "--help"),
)
PLACES = (
    *("bad", "bad/", "bad/none", "bad/none/x.csv", "bad/folder.npz", "bad/folder.safetensors", "bad/folder.json"),
    *(
        "bad/loop",
        "bad/loop/x.csv",
        "bad/dangling",
        "bad/fifo",
        "bad/fifo.npz",
        "bad/fifo.safetensors",
        "bad/fifo.json",
    ),
    *(
        "bad/socket",
        "bad/empty.csv",
        "bad/text.csv",
        "bad/to_config",
        "bad/x" + "y" * 260,
        f"bad/{LONG}",
        "bad/é\u202e.npz",
    ),
    *(
        "bad/" + "d/" * 2500 + "x",
        "bad/text.csv/x",
        f"bad/{LONG}.py:x",
        "bad/text.csv:x",
        "bad/fifo.py:x",
        "bad/loop.py:x",
    ),
    *(
        "/dev/null",
        "/dev/zero",
        "/dev/full",
        "/dev/stdin",
        "/dev/random",
        "/proc/self/mem",
        "/proc/nope",
        "/proc/self/environ",
    ),
    *("/dev/fd/0", "/sys/kernel", "/dev", "/proc", ".", "..", "config", "config/laptop.yaml", CHECKPOINT),
)


def places(workshop: Path) -> None:
    """What `PLACES` lead to."""
    bad = workshop / "bad"
    for suffix in ("npz", "safetensors", "json"):
        (bad / f"folder.{suffix}").mkdir()
    for name in ("loop", "loop.py"):
        (bad / name).symlink_to(name)
    (bad / "dangling").symlink_to("nowhere/at/all")
    (bad / "to_config").symlink_to("../config/laptop.yaml")
    for name in ("fifo", "fifo.npz", "fifo.safetensors", "fifo.json", "fifo.py"):
        os.mkfifo(bad / name)
    here = Path.cwd()
    os.chdir(bad)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket")
    os.chdir(here)
    (bad / "empty.csv").touch()
    (bad / "text.csv").write_text("a,b\n1,2\n")


def _changed(words: list[str], dice: random.Random) -> tuple[str, list[str]]:
    """(what was done, the command with an argument that is another)."""
    at = dice.randrange(1, len(words)) if len(words) > 1 else 0
    if not at:
        return "nothing but the command", words
    kinds = ["word", "word", "place", "place", "missing", "twice", "extra", "unknown"]
    kind = dice.choice(kinds if words[0] in DEAR else [*kinds, "same", "same"])
    value = dice.choice(WORDS if kind == "word" else PLACES)
    if kind in ("word", "place"):
        values = [i for i, word in enumerate(words) if i and not word.startswith("--")] or [at]
        at = dice.choice(values)
        return f"{kind} {value[:30]!r} for {words[at - 1]} {words[at][:20]}", [*words[:at], value, *words[at + 1 :]]
    if kind == "missing":
        return f"missing {words[at][:20]}", words[:at] + words[at + 1 :]
    if kind == "same":
        options = [i for i, word in enumerate(words) if word.startswith("--") and word != "--log"]
        at = dice.choice(options) if options else 0
        return "the same, said twice", [*words, *words[at : at + 2]] if options else [*words, words[1]]
    if kind == "twice":
        options = [i for i, word in enumerate(words) if word.startswith("--")] or [0]
        at = dice.choice(options)
        return f"twice {words[at]}", [*words, words[at], value] if at else [*words, "--config", value]
    if kind == "extra":
        return f"extra {value[:30]!r}", [*words, value]
    return "unknown option", [
        *words,
        dice.choice(["--banana", "-z", "--out=", "--=", "--config=", f"--{LONG}", "-", "---"]),
    ]


def _escapes(words: list[str]) -> bool:
    """Whether a command, done as asked, writes outside the workshop, or to what the next trial reads."""
    given = words[words.index("--out") + 1 :][:1] if "--out" in words else []
    given += [words[i + 1] for i in range(len(words) - 1) if words[i] in ("--out", "--log", "--state", "--curves")]
    inside = ("out", "bad", "/dev/", "/proc", "/sys")
    return any(not word.startswith(inside) and word not in ("config/laptop.yaml", CHECKPOINT) for word in given)


def trials(dice: random.Random, count: int) -> Iterator[Trial]:
    """`count` commands with one or two arguments changed; every command in turn."""
    made = 0
    while made < count:
        command = COMMANDS[made % len(COMMANDS)]
        words = command.split()
        if dice.random() < 0.15:
            words += ["--log", dice.choice(PLACES)]
        elif dice.random() < 0.15:
            words += ["--config", dice.choice(PLACES)]
        said, words = _changed(words, dice)
        if words[0] in DEAR and dice.random() < 0.8:  # most of them are refused before the work
            more, words = _changed(words, dice)
            said += f"; {more}"
        if _escapes(words):
            continue
        made += 1
        yield Trial("arguments", said, tuple(words), (), None, places, ("out", "bad"), codes=CODES.get(words[0], (2,)))
    yield from _first_words(dice, count // 20)


def _first_words(dice: random.Random, count: int) -> Iterator[Trial]:
    for _ in range(count):
        word = dice.choice([word for word in WORDS if word not in ("--help",)])
        yield Trial("arguments", f"no command {word[:30]!r}", (word, *TASK.split()), (), None, places)
