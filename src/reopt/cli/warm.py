"""Commands of a pipeline without the seconds that each would spend on imports.

Where `REOPT_WARM` names a running Snakemake, as its Snakefile says with `announce`, the first few commands start as
ever, and one of them starts a server beside itself: a process that has imported everything and initialised nothing.
Later commands hand it their arguments, folder, environment and streams, and it forks; the fork is the command. Signals
are passed on, the command ends with whoever waits for it, and the server with its Snakemake. Whatever is in the way
(another system than Linux, another machine, another environment, a command that must come before any import), the
command starts as ever.

This module imports nothing but a little of the standard library, for every command begins with it.
"""

import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

VARIABLE = "REOPT_WARM"
FOLDER = ".reopt/warm"
COLD = ("causes",)  # sets what must be set before the first import
AFTER = 4  # commands that start as ever before a server pays
# Of the environment, what libraries read when they are imported: it must be that of the server.
READ_AT_IMPORT = ("JAX_", "XLA_", "PYTHON", "OPENBLAS", "OMP_", "MKL_", "LD_", "MPL", "VIRTUAL_ENV", "LANG", "LC_")
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
HEADER = struct.Struct("<I")
STATUS = struct.Struct("<i")
ACCEPTED, REFUSED = b"a", b"r"
MOST = 16_000_000  # bytes of a request
PR_SET_PDEATHSIG = 1


class Command(NamedTuple):
    """What a command is handed over as."""

    arguments: list[str]
    folder: str
    environment: dict[str, str]
    umask: int


def announce() -> None:
    """Let the commands that this process starts share a server. Nothing where the system has no means for it, or the
    variable is set and empty."""
    if sys.platform == "linux" and hasattr(os, "pidfd_open") and os.environ.get(VARIABLE) != "":
        os.environ[VARIABLE] = f"{_token(os.getpid())}:{os.path.abspath(FOLDER)}"


def main() -> None:
    """Entry point of the command `reopt`: through the server where there is one, else as ever."""
    if os.environ.get(VARIABLE):
        _hand_over()
    from reopt.cli.app import main as here

    here()


def _token(pid: int) -> str:
    """A name of a process that no other process has, on this machine or another."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    started = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    return f"{pid}-{started}-{boot}"


def _is_alive(token: str) -> bool:
    try:
        return _token(int(token.partition("-")[0])) == token
    except (OSError, ValueError, IndexError):
        return False


def _hand_over() -> None:
    """End as the server's fork of this command does; return where there is no server that takes it."""
    token, _, folder = os.environ[VARIABLE].partition(":")
    if sys.platform != "linux" or (sys.argv[1:2] or [""])[0] in COLD or not _is_alive(token):
        return
    try:
        connection = _connected(folder, token)
        if connection is None:
            return
        umask = os.umask(0)
        os.umask(umask)
        command = Command(sys.argv[1:], os.getcwd(), dict(os.environ), umask)
        content = json.dumps([_interpreter(), *command]).encode()
        socket.send_fds(connection, [HEADER.pack(len(content))], [0, 1, 2])
        connection.sendall(content)
        if connection.recv(1) != ACCEPTED:
            return
    except (OSError, ValueError):
        return
    _wait(connection)


def _wait(connection: socket.socket) -> NoReturn:
    """Pass signals on until the command has ended, and end as it did."""
    if os.environ.get("REOPT_DIE_WITH_PARENT"):
        _die_with_parent()
    for number in PASSED_ON:
        signal.signal(number, lambda number, _: connection.sendall(bytes([number])))
    answer = b""
    with contextlib.suppress(OSError):
        while len(answer) < STATUS.size and (part := connection.recv(STATUS.size - len(answer))):
            answer += part
    if len(answer) < STATUS.size:  # the server was killed, and the command with it
        os._exit(128 + signal.SIGKILL)
    (status,) = STATUS.unpack(answer)
    if os.WIFSIGNALED(status):
        killed_by = os.WTERMSIG(status)
        with contextlib.suppress(OSError, ValueError):
            signal.signal(killed_by, signal.SIG_DFL)
        os.kill(os.getpid(), killed_by)
    os._exit(os.waitstatus_to_exitcode(status) & 255)


def _connected(folder: str, token: str) -> socket.socket | None:
    """A connection to the server of this pipeline; none yet is started where it begins to pay."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with _place(folder) as place:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(f"{place}/{token}.socket")
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
        else:
            return connection
    asked = Path(folder, f"{token}.asked")
    with open(asked, "ab") as file:
        file.write(b".")
    if asked.stat().st_size == AFTER:
        _tidy(folder)
        subprocess.Popen(
            [sys.executable, "-m", __spec__.name, token, folder],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    return None


@contextlib.contextmanager
def _place(folder: str) -> Any:
    """A short path of a folder: the address of a socket has at most 107 bytes."""
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)


def _tidy(folder: str) -> None:
    """Remove what pipelines left that are not there any more."""
    for file in Path(folder).iterdir():
        if not _is_alive(file.stem):
            file.unlink(missing_ok=True)


def _interpreter() -> list[str]:
    """What must be the same for a fork to be this command."""
    import reopt

    return [sys.executable, sys.prefix, str(reopt.__file__)]


def _read_at_import(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(READ_AT_IMPORT)}


def _die_with_parent() -> None:
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class _Server:
    """Accepts commands and forks; `serve` returns in a fork, with what it is to do, and never else."""

    def __init__(self, token: str, folder: str) -> None:
        self.own_environment = dict(os.environ)
        self.file = Path(folder, f"{token}.socket")
        self.asked = Path(folder, f"{token}.asked")
        self.of_pipeline = os.pidfd_open(int(token.partition("-")[0]))
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with _place(folder) as place:
            self.listener.bind(f"{place}/{self.file.name}")
        os.chmod(self.file, 0o600)
        self.listener.listen(64)
        self.jobs: dict[int, tuple[int, socket.socket]] = {}  # by the fork's handle

    def serve(self) -> Command:
        while True:
            waiting = [one for _, one in self.jobs.values() if one.fileno() >= 0]
            watched: list[Any] = [self.listener, self.of_pipeline, *self.jobs, *waiting]
            ready = select.select(watched, [], [])[0]
            if self.of_pipeline in ready:
                self._end()
            for handle in [one for one in self.jobs if one in ready]:
                self._ended(handle)
            for handle, (pid, connection) in list(self.jobs.items()):
                if connection in ready:
                    self._told(handle, pid, connection)
            if self.listener in ready and (command := self._accept()):
                return command

    def _end(self) -> NoReturn:
        for pid, _ in self.jobs.values():
            _kill(pid, signal.SIGKILL)
        self.file.unlink(missing_ok=True)
        self.asked.unlink(missing_ok=True)
        os._exit(0)

    def _ended(self, handle: int) -> None:
        pid, connection = self.jobs.pop(handle)
        os.close(handle)
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(OSError):
            connection.sendall(STATUS.pack(status))
        connection.close()

    def _told(self, handle: int, pid: int, connection: socket.socket) -> None:
        """Signals for a command; nothing more to come means that nobody waits for it any longer."""
        try:
            numbers = connection.recv(16)
        except OSError:
            numbers = b""
        if not numbers:
            _kill(pid, signal.SIGKILL)
            connection.close()
            self.jobs[handle] = pid, connection
        for number in numbers:
            _kill(pid, number)

    def _accept(self) -> Command | None:
        connection, _ = self.listener.accept()
        connection.settimeout(10)
        streams: list[int] = []
        try:
            header, streams, _, _ = socket.recv_fds(connection, HEADER.size, 3)
            (size,) = HEADER.unpack(header)
            if size > MOST or len(streams) != 3:
                raise ValueError("no command")
            content = b""
            while len(content) < size and (part := connection.recv(size - len(content))):
                content += part
            interpreter, *rest = json.loads(content)
            command = Command(*rest)
            same = _read_at_import(command.environment) == _read_at_import(self.own_environment)
            connection.sendall(ACCEPTED if same and interpreter == _interpreter() else REFUSED)
            if not same or interpreter != _interpreter():
                raise ValueError("another environment")
        except (OSError, ValueError, TypeError, struct.error):
            connection.close()
            for stream in streams:
                os.close(stream)
            return None
        connection.settimeout(None)
        pid = os.fork()
        if pid == 0:
            self._become(streams, connection)
            return command
        for stream in streams:
            os.close(stream)
        self.jobs[os.pidfd_open(pid)] = pid, connection
        return None

    def _become(self, streams: list[int], connection: socket.socket) -> None:
        """In the fork: its own session, the command's streams, and nothing that the server holds open."""
        os.setsid()
        _die_with_parent()
        for one in (self.listener, connection, *(other for _, other in self.jobs.values())):
            if one.fileno() >= 0:
                one.detach()  # its number will be that of another file
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.closerange(3, 4096)


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _import_everything() -> None:
    """What commands import, in the order and under the settings in which they do."""
    import importlib
    import pkgutil
    import warnings

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    warnings.simplefilter("ignore", RuntimeWarning)
    from reopt.cli.app import load_commands

    load_commands()
    from jax._src import xla_bridge

    import reopt

    for module in pkgutil.walk_packages(reopt.__path__, "reopt."):
        if not module.name.startswith(("reopt.shipped", "reopt.__main__", __spec__.name)):
            with contextlib.suppress(ImportError):  # what an extra brings
                importlib.import_module(module.name)
    if xla_bridge.backends_are_initialized():
        raise RuntimeError("a module computes when it is imported: a fork would share the threads of that")


def _serve(token: str, folder: str) -> None:
    environment = dict(os.environ)
    _import_everything()
    os.environ.clear()
    os.environ.update(environment)
    command = _Server(token, folder).serve()
    # From here on this is the command.
    os.umask(command.umask)
    os.environ.clear()
    os.environ.update(command.environment)
    with contextlib.suppress(OSError):  # a folder that is gone: the command says so
        os.chdir(command.folder)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode, 1 if number == 2 or os.isatty(number) else -1, closefd=False)
        for number, mode in enumerate("rww")
    )
    sys.argv = ["reopt", *command.arguments]
    from reopt.cli.app import main as here

    here()


if __name__ == "__main__":
    _serve(*sys.argv[1:])
