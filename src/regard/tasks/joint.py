"""Several tasks that share one encoder: the schema of the whole, and what each has for itself.

Leaves to others: reading their files (`joint_file`), the model and the batches (`learners`).
"""

# Fields of frozen models may be narrowed; pyright takes them for mutable.
# pyright: reportIncompatibleVariableOverride=false

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_serializer,
    field_validator,
)
from pydantic_core import PydanticCustomError

from regard.errors import nearest
from regard.tasks.attention_settings import AttentionSettings
from regard.tasks.kinds import KINDS, AnyTask, Task
from regard.tasks.settings import Settings, TrainingSettings

JOINT = "joint"
# What a task has for itself of the parts that it shares, beside what its kind alone has.
_OWN = {"model": {"pooling", "head"}, "training": {"label_smoothing", "class_weights"}}
# What it shares with no other task.
_APART = {"task", "data", "metrics"}
# Kinds with a decoder.
_WRITE = ("translation", "summarisation")
_WEIGHTINGS = ("equal", "uncertainty")


class SamplingSettings(Settings):
    """How often each task is trained.

    Attributes:
        temperature: T: an update is of a task with probability in proportion to size^(1/T), its
            size being how many batches its training rows make. 1: all rows alike; more: small
            tasks more often; .inf: all tasks alike.
    """

    temperature: Annotated[float, Field(gt=0)] = 1.0


def _check_weighting(value: Any) -> Any:
    if isinstance(value, Mapping):
        wrong = next((x for x in value.values() if isinstance(x, bool) or not _positive(x)), None)
        if wrong is None:
            return {str(name): float(weight) for name, weight in value.items()}
        raise ValueError(f"a weight should be a number above 0, found {wrong!r}")
    if value in _WEIGHTINGS:
        return value
    raise ValueError(f"should be equal, uncertainty, or a weight for each task, found {value!r}")


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and 0 < value < float("inf")


class JointTask(Task):
    """Several tasks whose models are one encoder with a head for each.

    Attributes:
        data: None: each task has its own.
        tasks: By name, each as a task file has it; in a file also the path of its file.
        sampling: How often each is trained.
        weighting: What its loss counts: the same for all; learned with the model (Kendall, Gal &
            Cipolla 2018); or a number for each.
    """

    stands_on: ClassVar[Literal["texts", "tokens"] | None] = None

    task: Literal["joint"]
    data: None = None
    tasks: dict[Annotated[str, Field(pattern=r"^[A-Za-z][\w-]*$")], AnyTask]
    sampling: SamplingSettings = SamplingSettings()
    weighting: Annotated[str | dict[str, float], BeforeValidator(_check_weighting)] = "equal"

    @field_validator("data", mode="before")
    @classmethod
    def _stands_in_each_task(cls, value: Any) -> None:
        if value is not None:
            raise ValueError("each task has data of its own, in its own file; delete it here")

    @field_validator("training")
    @classmethod
    def _labels_are_of_one_task(cls, value: TrainingSettings) -> TrainingSettings:
        if value.class_weights is not None:
            raise ValueError("class_weights are of the labels of one task; say them in its file")
        return value

    @field_validator("attention")
    @classmethod
    def _fits_data_and_model(
        cls, value: AttentionSettings, known: ValidationInfo
    ) -> AttentionSettings:
        if value.agreements:
            raise ValueError("agreement is with the rows of one task, and here are several")
        if value.log and "training" in known.data and not known.data["training"].eval_every:
            raise ValueError("log goes with evaluations; set training.eval_every, or delete log")
        return value

    @field_validator("tasks")
    @classmethod
    def _share_what_is_shared(
        cls, value: dict[str, Task], known: ValidationInfo
    ) -> dict[str, Task]:
        if len(value) < 2:
            raise ValueError("two tasks or more are joined; train a single one by its own file")
        for name, one in value.items():
            if one.task in _WRITE:
                raise _misplaced(
                    (name, "task"),
                    f"{one.task} needs a decoder, and the tasks share an encoder; "
                    f"{', '.join(kind for kind in KINDS if kind not in _WRITE)} can be joined",
                )
            if getattr(one.model, "objective", None) == "causal":
                raise _misplaced(
                    (name, "model", "objective"),
                    "causal reads from left to right, and the shared encoder reads both ways; set "
                    "masked",
                )
            for key, own, shared in _differences(one, known.data):
                raise _misplaced(
                    (name, *key),
                    f"{own!r} here, and {shared!r} for all tasks; it is shared: delete it here, or "
                    "make it the same",
                )
        return value

    @field_validator("weighting")
    @classmethod
    def _weighs_each_task(
        cls, value: str | dict[str, float], known: ValidationInfo
    ) -> str | dict[str, float]:
        names = known.data.get("tasks")
        if isinstance(value, str) or names is None:
            return value
        for name in value:
            if name not in names:
                raise ValueError(f"there is no task '{name}'; {nearest(name, names)}")
        for name in names:
            if name not in value:
                raise ValueError(f"the weight of {name} is missing")
        return value

    @field_serializer("tasks", mode="wrap")
    def _without_what_is_shared(
        self, value: dict[str, Task], plain: SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        return {name: _own_of(value[name], whole) for name, whole in plain(value).items()}

    def parts(self) -> dict[str, Task]:
        """Return the tasks, each with what it shares with the others.

        Returns:
            Whole tasks by name, in order.
        """
        return {name: self._whole(one) for name, one in self.tasks.items()}

    def _whole(self, one: Task) -> Task:
        found: dict[str, Any] = {}
        for name in Task.model_fields:
            if name in _APART:
                continue
            part: Any = getattr(self, name)
            if name in _OWN:
                said = getattr(one, name)
                part = type(said)(**{**part.model_dump(), **_said(said, name)})
            found[name] = part
        return one.model_copy(update=found)

    @property
    def fingerprint(self) -> str | None:
        """That of the data of all tasks together; None if one is unknown."""
        found = [one.data.sha256 for one in self.tasks.values()]
        return None if None in found else " ".join(map(str, found))


def _misplaced(key: tuple[str, ...], message: str) -> PydanticCustomError:
    """Return an error of a setting inside; `complain` adds the key to the place."""
    return PydanticCustomError("misplaced", "{why}", {"why": message, "key": key})


def _own_keys(settings: Settings, part: str) -> set[str]:
    """Return the settings of a part that each task has for itself."""
    shared: Any = Task.model_fields[part].annotation
    return _OWN[part] | (type(settings).model_fields.keys() - shared.model_fields.keys())


def _said(settings: Settings, part: str) -> dict[str, Any]:
    """Return what a task says for itself of a part that it shares."""
    names = _own_keys(settings, part) & settings.model_fields_set
    return settings.model_dump(include=names)


def _own_of(one: Task, whole: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a written task is its own."""
    found = {name: value for name, value in whole.items() if name in _APART}
    for part in _OWN:
        said = _said(getattr(one, part), part)
        if said:
            found[part] = {name: value for name, value in whole[part].items() if name in said}
    return found


def _differences(
    one: Task, shared: Mapping[str, Any]
) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield what a task says unlike all tasks together: the key, its own value, and theirs."""
    for name in sorted(one.model_fields_set - _APART):
        # A part that is wrong itself is not there.
        if name in shared:
            own = _own_keys(getattr(one, name), name) if name in _OWN else set()
            yield from _unlike(getattr(one, name), shared[name], (name,), own)


def _unlike(
    own: Any, shared: Any, key: tuple[str, ...], left: set[str]
) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    if isinstance(own, Settings) and isinstance(shared, Settings):
        for name in type(own).model_fields:
            if name in own.model_fields_set and name not in left:
                yield from _unlike(getattr(own, name), getattr(shared, name), (*key, name), set())
    elif own != shared:
        yield key, own, shared


EveryTask = Annotated[AnyTask | JointTask, Field(discriminator="task")]
ALL_KINDS: dict[str, type[Task]] = {**KINDS, JOINT: JointTask}
