"""The command `reopt`: one subcommand per rule of the pipeline, the same door for people and for Snakemake."""

import contextlib
import importlib
import io
import logging
import os
import signal
import sys
import warnings
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from reopt.cli.devices import no_such_device, speak_plainly
from reopt.core.errors import ReoptError, shortened
from reopt.core.foreign import is_foreign, is_still_running, told

OUTPUTS = ("out", "curves", "log", "state")  # parameters that name what is written


class _Command(TyperCommand):
    """A subcommand that looks at its arguments and parsed parameters before it runs."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        for output in OUTPUTS:  # of a shell's variable that is not set: it would stand for the working folder
            if f"--{output}=" in args or (f"--{output}", "") in pairwise(args):
                raise ReoptError(f"--{output} is empty: give a path")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            os.getcwd()
        except OSError as error:
            raise ReoptError("the folder that this command was started in is not there any more") from error
        refuse_overwriting(ctx.params)
        return super().invoke(ctx)


class _App(typer.Typer):
    """Commands that are all `_Command`s, listed by `--help` under the heading that is set when they are added."""

    heading: str | None = None

    def command(self, name: str | None = None, **options: Any) -> Any:  # type: ignore[override]
        return super().command(name, cls=_Command, rich_help_panel=self.heading, **options)


def refuse_overwriting(parameters: dict[str, Any]) -> None:
    """No file may be written that the same command reads, or writes as something else. **Raises** `ReoptError`."""
    values = [(name, one) for name, many in parameters.items() for one in (many if isinstance(many, list) else [many])]
    places = [(name, _place(one)) for name, one in values if isinstance(one, str | Path) and str(one)]
    for output in OUTPUTS:
        target = _place(parameters[output]) if parameters.get(output) else ""
        if target and not os.path.isdir(target) and [place for _, place in places].count(target) > 1:
            words = shortened(str(parameters[output]))
            raise ReoptError(f"--{output} {words} is a file that this command also reads or writes otherwise")


def _place(words: str | Path) -> str:
    """Where a path leads, links followed; words that are none lead nowhere else."""
    return os.path.realpath(words)


app = _App(
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Reverse-engineer optimizers: meta-train them, judge them, find their mechanisms.",
    epilog="The whole pipeline: `snakemake`. Each rule of it is one of these commands.",
)


def _version(asked: bool) -> None:
    if asked:
        print(f"reopt {version('reopt')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """What stands before a subcommand."""


INTERRUPTED = 130  # what typer makes of Ctrl-C
BUG = 70  # of ours: EX_SOFTWARE
UNREAD = 128 + signal.SIGPIPE  # as a shell tells of a program that wrote to a pipe which nobody reads any more
COMMANDS = {  # modules that add to `app`, and the heading of their commands
    "examine": "Examine an optimizer",
    "foretell": "Examine an optimizer",
    "matrix": "Examine an optimizer",
    "distil": "Train and tune",
    "evaluate": "Run optimizers",
    "optimizers": "Run optimizers",
    "train": "Train and tune",
    "systems": "Published systems",
    "analyse": "Parts of an examination",
    "stress": "Parts of an examination",
    "verdicts": "Claims and figures",
    "project": "Before a run",
    "results": "Claims and figures",
    "estimate": "Before a run",
}


def load_commands() -> None:
    """Import the modules that add their commands to `app`."""
    for module, app.heading in COMMANDS.items():
        importlib.import_module(f"reopt.cli.{module}")


def main() -> None:
    """Entry point: an error is one line and exit code 2 (a bug of ours: 70); with REOPT_TRACEBACK, all of it.

    Where what it prints is read no further (`reopt --help | head -1`), it ends without a word and with 141.
    """
    try:
        _main()
    except BrokenPipeError:
        _drop_unread()
        sys.exit(UNREAD)


def _drop_unread() -> None:
    """Send what is still to be written to streams that nobody reads nowhere, or Python would complain at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())


def _main() -> None:
    _fill_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may hold what the terminal cannot show
    warnings.simplefilter("ignore", RuntimeWarning)  # of numbers that left their range: the commands say so themselves
    for package in ("jax", "absl", "matplotlib"):  # the last says at length that it has no home
        logging.getLogger(package).setLevel(logging.ERROR)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    speak_plainly()
    try:
        load_commands()
        if os.environ.get("REOPT_DIE_WITH_PARENT"):  # set by the Snakefile: a killed pipeline leaves no job behind
            from snakedvc import die_with_parent

            die_with_parent()
        code = app(sys.argv[1:] or ["--help"], prog_name="reopt", standalone_mode=False)
        sys.stdout.flush()
    except ReoptError as error:
        _fail(error)
    except typer.TyperException as error:  # of the command line's own words
        _fail(ReoptError(error.format_message()))
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        raise
    except OSError as error:  # of a name or place that the system refuses
        _fail(ReoptError(f"{shortened(str(error.filename or 'the system says'))}: {error.strerror or error}"))
    except MemoryError:
        _fail(ReoptError("out of memory; try fewer problems"))
    except BaseException as error:  # whatever somebody's file brings, or we; of typer, SystemExit for a broken pipe
        if isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError):
            raise error.__context__ from None
        if os.environ.get("REOPT_TRACEBACK"):
            raise
        if device := no_such_device():
            _fail(ReoptError(device))
        _fail(ReoptError(_unforeseen(error)), 2 if is_foreign(error) else BUG)
    if code == INTERRUPTED:
        print("reopt: interrupted", file=sys.stderr, flush=True)
        os._exit(INTERRUPTED)  # threads that still compile crash while Python takes itself down
    _end(code)


def _end(code: int) -> NoReturn:
    """Leave; at once where a subject has started a thread that may never end."""
    if is_still_running():
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code or 0)
    sys.exit(code)


def _fill_streams() -> None:
    """Open what the caller has closed: else a file that is written would get its number, and with it what is said."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))


def _unforeseen(error: BaseException) -> str:
    """A sentence on an error of the subject's or task's code while it runs, or else of ours."""
    if is_foreign(error):
        return f"the subject's or task's own code failed: {told(error)} (REOPT_TRACEBACK=1 shows where)"
    if any(name in str(error) for name in ("RESOURCE_EXHAUSTED", "Out of memory", "bad_alloc")):
        return f"out of memory; try fewer problems ({told(error)})"
    return f"internal error, please report it with what REOPT_TRACEBACK=1 shows: {told(error)}"


def _fail(error: ReoptError, code: int = 2) -> NoReturn:
    with contextlib.suppress(OSError, ValueError):  # nobody can be told
        print(f"reopt: error: {error}", file=sys.stderr)
    _end(code)
