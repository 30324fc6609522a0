"""Names that several parts of the program know."""

POLYAK = "polyak"  # heavy ball with the rates that theory gives for the task's eigenvalue range
