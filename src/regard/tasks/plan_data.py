"""What a task file says of its data, as the plan that the room `data` carries out."""

from dataclasses import replace
from pathlib import Path

from regard.data.arrow import splits_of
from regard.data.check_rows import Limits
from regard.data.corpus import Corpus, load_corpus
from regard.data.joint import JointCorpus, join_corpora
from regard.data.plan import Plan
from regard.data.row import Column, Layout
from regard.data.split import HeldOut
from regard.errors import DataError, RegardError, located
from regard.tasks.data_settings import DataSettings, SplitSettings, TranslationData
from regard.tasks.joint import JointTask
from regard.tasks.kinds import Task

# Kinds whose texts are read in pieces, so that none is too long.
_CUT = ("language_modelling", "question_answering")
_DUPLICATES = {"refuse": "refuse", "first": "leave_out", "keep": "warn"}


def load_task_data(task: Task) -> Corpus:
    """Read, check and split the data of a task, of each of them if it joins several.

    Args:
        task: The task.

    Returns:
        The records, the labels and the report, which tells whether they may be used.

    Raises:
        DataError: If a file cannot be read at all, or holds too little to be split.
    """
    if not isinstance(task, JointTask):
        return load_corpus(plan_task_data(task))
    found = {}
    for name, part in task.parts().items():
        try:
            found[name] = (part.task, load_task_data(part))
        except RegardError as problem:
            raise located(problem, f"tasks.{name}") from None
    return join_corpora(found)


def with_fingerprint(task: Task, corpus: Corpus) -> Task:
    """Return a task that goes with no other data than these.

    Args:
        task: The task.
        corpus: Its data.

    Returns:
        The same task with the fingerprint of the data.
    """
    if isinstance(corpus, JointCorpus):
        assert isinstance(task, JointTask)
        parts = {
            name: with_fingerprint(one, corpus.parts[name]) for name, one in task.tasks.items()
        }
        return task.model_copy(update={"tasks": parts})
    data = task.data.model_copy(update={"sha256": corpus.sha256})
    return task.model_copy(update={"data": data})


def plan_task_data(task: Task) -> Plan:
    """Return the plan for the data of a task.

    Args:
        task: The task.

    Returns:
        The plan, which also looks for texts that the model cannot read in whole.

    Raises:
        DataError: If a saved dataset has no training split.
    """
    positions = None if task.task in _CUT else task.model.positions
    plan = plan_data(task.data, positions)
    wanted = task.attention.guides
    guides = tuple(field for field in plan.kind.guides if field.name in wanted)
    return replace(plan, kind=replace(plan.kind, fields=(*plan.kind.fields, *guides)))


def plan_data(settings: DataSettings, positions: int | None = None) -> Plan:
    """Return the plan for data.

    Args:
        settings: The part `data` of a task file.
        positions: The most tokens the model reads, or None.

    Returns:
        The plan.

    Raises:
        DataError: If a saved dataset has no training split.
    """
    split = getattr(settings, "split", SplitSettings())
    labels = getattr(settings, "labels", None)
    return Plan(
        kind=settings.data_kind(),
        files=_files(settings),
        layout=layout_of(settings),
        steps=tuple(settings.normalise),
        actions={
            **settings.checks.model_dump(),
            "duplicate": _DUPLICATES[settings.duplicates],
        },
        held_out=_held_out(settings, split),
        limits=Limits(settings.max_words, positions),
        group=split.group,
        labels=None if labels is None else tuple(labels),
        no_answer=getattr(settings, "no_answer", False),
        letters=hasattr(settings.checks, "letters"),
        sha256=settings.sha256,
    )


def layout_of(settings: DataSettings) -> Layout:
    """Return how the files of a task are laid out.

    Args:
        settings: The part `data` of a task file.

    Returns:
        Their columns and encoding.
    """
    columns: dict[str, Column] = dict(settings.columns)
    if isinstance(settings, TranslationData):
        named = {"source": settings.source, "target": settings.target}
        columns |= {field: column for field, column in named.items() if column is not None}
    return Layout(
        columns=columns,
        header=settings.header,
        delimiter=settings.delimiter,
        encoding=settings.encoding,
    )


def _held_out(settings: DataSettings, split: SplitSettings) -> HeldOut:
    if isinstance(settings, TranslationData):
        names = ("data.test_pairs", "data.valid_pairs")
        return HeldOut(settings.test_pairs, settings.valid_pairs, settings.seed, names=names)
    return HeldOut(split.test, split.valid, split.seed, split.stratify)


def _files(settings: DataSettings) -> dict[str, tuple[str, ...]]:
    given = {
        "train": settings.path if settings.path is not None else settings.train,
        "valid": settings.valid,
        "test": settings.test,
    }
    files = {
        split: (named,) if isinstance(named, str) else tuple(named)
        for split, named in given.items()
        if named is not None
    }
    saved = splits_of(Path(files["train"][0])) if len(files["train"]) == 1 else None
    if saved is None:
        return files
    if len(files) > 1:
        raise DataError(
            f"{files['train'][0]}: this folder holds splits of its own ({', '.join(saved)}); "
            "leave out data.valid and data.test, or name its folders"
        )
    return {split: (folder,) for split, folder in saved.items()}
