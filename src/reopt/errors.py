"""The one error that a user is meant to read: its text is a sentence that says what to do."""


class ReoptError(Exception):
    """Bad input or a run that cannot go on; the command prints its text in one line and exits with 2."""
