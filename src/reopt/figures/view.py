"""What a figure sees of one task in one config's results: the files that it declares to read, and no others."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reopt.core.errors import ReoptError
from reopt.examination.parts import FILES, files_of
from reopt.figures.registry import Reads

if TYPE_CHECKING:
    import pandas as pd

    from reopt.examination.examination import Examination


@dataclass(frozen=True)
class View:
    """One task of a config.

    `results` is the config's folder of results, `tasks` are all its tasks, `block` is this task's block of the config.
    `subjects` are groups of its subjects: shown (one), seeds (other runs of the shown optimizer), learned, examined,
    judged, caused (the shown one, and one of each other optimizer), away (taken out of their distribution), baselines,
    rmsprop (where it is examined), task (the task itself), searched (the task, where its recipe is searched).
    """

    task: str
    tasks: Sequence[str]
    block: Mapping[str, Any]
    subjects: Mapping[str, Sequence[str]]
    results: Path
    reads: Reads

    @property
    def shown(self) -> str:
        """The subject that the task's figures show."""
        return self.subjects["shown"][0]

    @property
    def others(self) -> list[str]:
        """The other tasks of the config."""
        return [other for other in self.tasks if other != self.task]

    @cached_property
    def files(self) -> list[str]:
        """The files the figure reads of this task, relative to the config's results."""
        return list(dict.fromkeys(file for group in self.reads for file in self._of_group(group)))

    def table(self, file: str) -> "pd.DataFrame":
        """A table below the task's folder, or, from a leading "/", below that of all. **Raises** `ReoptError`."""
        from reopt.core.tables import read_table

        return read_table(self._declared(file))

    def json(self, file: str) -> Any:
        """A JSON document, in the same way. **Raises** `ReoptError`."""
        from reopt.core.tables import read_json

        return read_json(self._declared(file))

    def examination(self, subject: str) -> "Examination":
        """The examination of a subject, with what the figure declares to read of it."""
        from reopt.examination.examination import Examination

        groups = [group for group in self.reads if subject in self.subjects[group]]
        given = [read for group in groups for read in self.reads[group] if read in FILES]
        return Examination(None, None, stored=self.results / self._folder(subject), name=subject, given=given)

    def _folder(self, subject: str) -> str:
        return f"{self.task}/analysis/{subject}"

    def _of_group(self, group: str) -> Iterator[str]:
        if group not in self.subjects:
            raise ReoptError(f"no group of subjects is called {group!r}; there are: {', '.join(self.subjects)}")
        for subject in self.subjects[group]:
            for read in self.reads[group]:
                if read in FILES:
                    yield from (f"{self._folder(subject)}/{file}" for file in files_of(read))
                else:
                    others = self.others if "{other}" in read else [""]
                    yield from (self._path(read.format(subject=subject, other=other)) for other in others)

    def _path(self, file: str) -> str:
        return file.removeprefix("/") if file.startswith("/") else f"{self.task}/{file}"

    def _declared(self, file: str) -> Path:
        path = self._path(file)
        if path not in self.files:
            raise KeyError(f"a figure reads {path}, which its READS do not declare")
        return self.results / path
