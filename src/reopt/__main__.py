"""`python -m reopt` is the command `reopt`."""

from reopt.cli import main

main()
