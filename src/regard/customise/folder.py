"""The folder of a customisation: what lies where, who may begin one and who may go on with it."""

from dataclasses import dataclass
from pathlib import Path

from regard.customise.candidate import PLAIN
from regard.errors import TaskError
from regard.tasks import load_task, save_task
from regard.tasks.kinds import Task
from regard.train.folder import RunFolder, changes


@dataclass(frozen=True)
class CustomFolder:
    """Where a customisation keeps what.

    Attributes:
        path: The folder itself.
    """

    path: Path

    @property
    def task(self) -> Path:
        """The task that attention is found for."""
        return self.path / "task.yaml"

    @property
    def database(self) -> Path:
        """What was tried and how long it took, in SQLite."""
        return self.path / "study.sqlite"

    @property
    def runs(self) -> Path:
        """A run folder for each candidate."""
        return self.path / "runs"

    @property
    def modes(self) -> Path:
        """The mode of each candidate."""
        return self.path / "modes"

    @property
    def mode(self) -> Path:
        """The best mode; there is none if the model's own attention is best."""
        return self.path / "mode.json"

    @property
    def best(self) -> Path:
        """The task with the best mode."""
        return self.path / "best.yaml"

    @property
    def table(self) -> Path:
        """All that was tried, a row each."""
        return self.path / "tried.csv"

    @property
    def report(self) -> Path:
        """All of it to be read."""
        return self.path / "report.html"

    def mode_of(self, key: str) -> Path:
        """Return the file of a candidate's mode."""
        return self.modes / f"{key[:16]}.json"

    def run_of(self, key: str, heir: bool = False) -> RunFolder:
        """Return the run folder of a candidate.

        Args:
            key: Its key.
            heir: The run that goes on from another's weights.

        Returns:
            The folder.
        """
        name = key if key == PLAIN else key[:16]
        return RunFolder(self.runs / (f"{name}-heir" if heir else name))

    def begin(self, task: Task) -> None:
        """Make the folder.

        Args:
            task: The task.

        Raises:
            TaskError: If something is there already.
        """
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise TaskError(
                f"{self.path}: there is something already; choose another folder with --study, or "
                "go on with what is there with --resume"
            )
        self.runs.mkdir(parents=True)
        self.modes.mkdir()
        save_task(task, self.task)

    def take_up(self, task: Task) -> None:
        """Check that a study may go on.

        Args:
            task: The task, which must still say what it said.

        Raises:
            TaskError: If there is no study, or the task has changed.
        """
        if not self.task.is_file():
            raise TaskError(f"{self.path}: there is no study to go on with; leave out --resume")
        found = changes(load_task(self.task), task)
        if found:
            raise TaskError(
                f"{self.path}: the task has changed since this study began: {'; '.join(found)}. "
                "Undo that, or begin another study with --study"
            )
