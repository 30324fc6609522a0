"""Results through an SSH remote, on the loopback interface: uv run --group lab python tests/lab/ssh.py

Starts an SSH server with a key of its own (OpenSSH, installed if it is missing: Debian, as root), gives the toy
pipeline a folder behind it as DVC's remote, and checks that results and the knowledge of how they were made travel
through it. Whatever it starts, it stops; nothing is left but the package.
"""

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path

import loopback
import remote
from loopback import say


def main() -> int:
    """Returns 0 if all went well, 77 where no SSH server can be had."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    loopback.stop_as_by_ctrl_c()
    if not importlib.util.find_spec("dvc_ssh"):
        print("error: dvc-ssh is missing here: uv run --group lab python tests/lab/ssh.py", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="ssh-") as temporary:
        folder = Path(temporary)
        try:
            say("starting an SSH server")
            with loopback.ssh(folder / "ssh") as (address, key):
                settings = {"keyfile": str(key), "allow_agent": "false"}
                toy = remote.toy_with(folder, f"{address}{folder}/store", {}, settings)
                remote.check(toy)
                assert any((folder / "store").rglob("*")), "the store lies behind the server"
        except loopback.CannotError as error:
            print(f"an SSH server cannot be had here: {error}", file=sys.stderr)
            return loopback.CANNOT
    return 0


if __name__ == "__main__":
    sys.exit(main())
