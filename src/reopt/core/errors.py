"""The one error that a user is meant to read: its text is a sentence that says what to do."""

_LONGEST_WORD, _LONGEST_LINE = 600, 1200


class ReoptError(Exception):
    """Bad input or a run that cannot go on; the command prints its text in one line and exits with 2.

    Of words and lines that are too long to be read, beginning and end are told.
    """

    def __init__(self, text: str) -> None:
        line = " ".join(word if len(word) <= _LONGEST_WORD else shortened(word) for word in text.split())
        line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
        super().__init__(line if len(line) <= _LONGEST_LINE else f"{line[:900]}...{line[-200:]}")


def shortened(words: str) -> str:
    """Words of somebody as an error repeats them: of long ones, beginning and end."""
    return words if len(words) <= 200 else f"{words[:120]}...{words[-60:]}"
