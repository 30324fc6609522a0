"""Write the versions of uv.lock into pyproject.toml as constraints, so that `uv run` gets them everywhere.

The lock file itself stays out of git: it names the hosts of package registries. Usage, after a deliberate upgrade
(`uv lock --upgrade`):  uv run python workflow/scripts/pin.py
"""

import re
import tomllib
from pathlib import Path


def main() -> None:
    """Replace `constraint-dependencies` in pyproject.toml by what uv.lock resolved."""
    lock = tomllib.loads(Path("uv.lock").read_text(encoding="utf-8"))
    pins = sorted(
        {f"{package['name']}=={package['version']}" for package in lock["package"] if "registry" in package["source"]}
    )
    project = Path("pyproject.toml")
    lines = "".join(f'    "{pin}",\n' for pin in pins)
    text, count = re.subn(
        r"(?m)^constraint-dependencies = \[\n(?:    .*\n)*\]\n",
        f"constraint-dependencies = [\n{lines}]\n",
        project.read_text(encoding="utf-8"),
    )
    if count != 1:
        raise SystemExit("pyproject.toml has no constraint-dependencies list to replace")
    project.write_text(text, encoding="utf-8")
    print(f"pinned {len(pins)} packages")


if __name__ == "__main__":
    main()
