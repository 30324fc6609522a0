"""Servers of a lab on the loopback interface, from their real programs: started for a test, stopped after it."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from snakedvc import die_with_parent

sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("snakedvc", "workflow")]  # small pipelines

HOST = "127.0.0.1"
CANNOT = 77  # exit status: the server cannot be had on this machine; the reason is the last line on stderr
_WAIT = 60.0  # seconds


class CannotError(Exception):
    """A server cannot be had on this machine."""


def installed(commands: Sequence[str], packages: Sequence[str]) -> None:
    """Install Debian packages, if one of the commands is missing.

    Raises:
        CannotError: that takes root, or apt; or apt does not have them.
    """
    missing = [command for command in commands if not _program(command)]
    if not missing:
        return
    sudo = ["sudo", "-n"] if os.geteuid() != 0 else []
    if not shutil.which("apt-get") or (sudo and not _runs(*sudo, "true")):
        raise CannotError(f"{', '.join(missing)} missing: as root, apt-get install {' '.join(packages)}")
    say(f"installing {', '.join(packages)}")
    apt = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
    for order in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run([*apt, *order], check=False, capture_output=True, text=True)
    still = [command for command in commands if not _program(command)]
    if still:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise CannotError(f"apt-get did not bring {', '.join(still)}: {reason}")


@contextmanager
def slurm(folder: Path) -> Iterator[None]:
    """A cluster of one node, this machine, with one GPU that is none; this process's environment leads to it.

    Jobs are not confined by cgroups, so it runs in a container too. Nothing of it lies outside the folder.
    """
    installed(("munged", "slurmctld", "slurmd", "sbatch", "squeue", "sacct"), ("munge", "slurm-wlm"))
    folder.mkdir()
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir(mode=0o700)
    key, munge = folder / "munge/key", folder / "munge/socket"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    (folder / "slurm.conf").write_text(_slurm_conf(folder, munge))
    (folder / "gres.conf").write_text("Name=gpu File=/dev/null\n")
    # Earlier ones know no "disabled"; the plugin for version 1 touches nothing as long as nobody asks it to.
    plugin = "disabled" if _slurm_version() >= (23, 2) else "cgroup/v1"
    (folder / "cgroup.conf").write_text(f"CgroupPlugin={plugin}\n")
    # Snakemake's job step takes all that begins with SLURM_ from the environment of `srun`.
    srun = folder / "bin/srun"
    srun.parent.mkdir()
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {_program("srun")} "$@"\n')
    srun.chmod(0o755)
    munged = [_program("munged"), "--foreground", "--force", f"--key-file={key}", f"--socket={munge}"]
    munged += [f"--{name}={folder / 'munge' / name}" for name in ("pid-file", "log-file", "seed-file")]
    slurmctld, slurmd = ([_program(name), "-D"] for name in ("slurmctld", "slurmd"))
    with (
        _environment(SLURM_CONF=f"{folder}/slurm.conf", PATH=f"{srun.parent}:{os.environ['PATH']}"),
        daemon(munged, folder / "munged.out", munge.exists),
        daemon(slurmctld, folder / "slurmctld.out", lambda: _answers("sinfo")),
        daemon(slurmd, folder / "slurmd.out", lambda: "idle" in _answers("sinfo")),
    ):
        yield


@contextmanager
def s3(folder: Path) -> Iterator[str]:
    """An S3 server that holds everything in memory (moto); yields its address. Any key may do anything."""
    folder.mkdir()
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "--host", HOST, "--port", str(port)]
    with daemon(command, folder / "moto.out", lambda: listens(port)):
        yield f"http://{HOST}:{port}"


@contextmanager
def ssh(folder: Path) -> Iterator[tuple[str, Path]]:
    """An SSH server for this user alone, with a key of its own; yields its address and the private key's file."""
    installed(("sshd", "ssh-keygen"), ("openssh-server",))
    folder.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd insists on it
    port = free_port()
    settings = {
        "ListenAddress": f"{HOST}:{port}",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "user.pub",
        "PidFile": "none",
        "StrictModes": "no",  # the folders above may be open to others
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        "Subsystem": "sftp internal-sftp",
    }
    (folder / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    command = [_program("sshd"), "-D", "-e", "-f", str(folder / "sshd_config")]
    with daemon(command, folder / "sshd.out", lambda: listens(port)):
        yield f"ssh://{getpass.getuser()}@{HOST}:{port}", folder / "user"


@contextmanager
def daemon(command: Sequence[str], output: Path, ready: Callable[[], object]) -> Iterator[None]:
    """Run a server until the block ends, or this process does; the block begins when it is ready.

    Raises:
        RuntimeError: it ended before that, or is not ready within a minute.
    """
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=die_with_parent
        )
    try:
        end = time.monotonic() + _WAIT
        while not ready():
            if process.poll() is not None or time.monotonic() > end:
                what = "ended" if process.poll() is not None else f"was not ready in {_WAIT:.0f} s"
                raise RuntimeError(f"{command[0]} {what}:\n{output.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def stop_as_by_ctrl_c() -> None:
    """Let SIGTERM end this process as Ctrl-C does, so that it takes down what it has set up."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def listens(port: int) -> bool:
    """Does somebody listen on this port?"""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def say(sentence: str) -> None:
    """One line of progress."""
    print(f"{time.strftime('%H:%M:%S')} {sentence}", flush=True)


def _program(name: str) -> str:
    """The path of a program, "" if it is missing; daemons are in no ordinary user's PATH."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin"])) or ""


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """This process's environment, with these values in it until the block ends."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _runs(*command: str) -> bool:
    """Is there such a command, and does it succeed?"""
    return bool(shutil.which(command[0])) and subprocess.run(command, check=False).returncode == 0


def _answers(command: str) -> str:
    """What a command prints; "" if it fails."""
    done = subprocess.run([command], check=False, capture_output=True, text=True, timeout=_WAIT)
    return done.stdout if done.returncode == 0 else ""


def _slurm_version() -> tuple[int, int]:
    words = subprocess.run([_program("slurmd"), "-V"], check=True, capture_output=True, text=True).stdout.split()
    year, month = words[1].split(".")[:2]
    return int(year), int(month)


def _slurm_conf(folder: Path, munge: Path) -> str:
    node, user = socket.gethostname().split(".")[0], getpass.getuser()
    return f"""\
ClusterName=loopback
SlurmctldHost={node}({HOST})
SlurmctldPort={free_port()}
SlurmdPort={free_port()}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={munge}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
# Nothing confines the jobs, and the node has what it is said to have.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
ReturnToService=2
# No database: who ran is told by `squeue --states=all` and by `sacct --completion`.
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/completed
MinJobAge=3600
GresTypes=gpu
NodeName={node} NodeAddr={HOST} CPUs={max(2, os.cpu_count() or 1)} RealMemory=64000 Gres=gpu:1
PartitionName=batch Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
