"""The one error that a user is meant to read: its text is a sentence that says what to do."""


class ReoptError(Exception):
    """Bad input or a run that cannot go on; the command prints its text in one line and exits with 2."""

    def __init__(self, text: str) -> None:
        line = " ".join(text.split())
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line))
