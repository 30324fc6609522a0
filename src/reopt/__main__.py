"""`python -m reopt` is the command `reopt`."""

from reopt.cli.app import main

main()
