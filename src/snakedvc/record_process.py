"""Recording in a process of its own: the order as JSON on standard input, the report as JSON on standard output."""

import json
import os
import sys

from .errors import SnakedvcError
from .recorder import record_config


def main() -> int:
    """Do the order on standard input; print the report as JSON; on failure one sentence, and return 1."""
    order = json.load(sys.stdin)
    try:
        report = record_config(order["config"], order["outputs"], order["planned"])
    except SnakedvcError as error:
        print(str(error), file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.strerror or error}: {error.filename or os.getcwd()}", file=sys.stderr)
        return 1
    print(json.dumps(vars(report)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
