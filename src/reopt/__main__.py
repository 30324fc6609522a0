"""`python -m reopt` is the command `reopt`."""

from reopt.cli.warm import main

main()
