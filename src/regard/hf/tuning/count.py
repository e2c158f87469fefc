"""How many parameters a model has and trains, in one table.

Leaves to others: which ones are trained (`attach`, PEFT, `requires_grad`).
"""

from dataclasses import dataclass

from torch import nn

_GROUPS = ("programs", "adapters", "attention", "embeddings", "norms", "others")


@dataclass(frozen=True)
class Count:
    """One row of the table.

    Attributes:
        group: "programs", "adapters", "attention", "embeddings", "norms" or "others".
        trainable: How many numbers of it are trained.
        all: How many it has.
    """

    group: str
    trainable: int
    all: int


@dataclass(frozen=True)
class Trainable:
    """How many parameters a model trains; printed as a table.

    Attributes:
        groups: One row per group that the model has.
    """

    groups: tuple[Count, ...]

    @property
    def trainable(self) -> int:
        """How many numbers are trained."""
        return sum(one.trainable for one in self.groups)

    @property
    def all(self) -> int:
        """How many numbers there are."""
        return sum(one.all for one in self.groups)

    @property
    def share(self) -> float:
        """The trained share, from 0 to 1."""
        return self.trainable / max(self.all, 1)

    def __getitem__(self, group: str) -> Count:
        """Return a group's row, which is empty if the model has no such group.

        Args:
            group: Its name.

        Returns:
            The row.
        """
        return next((one for one in self.groups if one.group == group), Count(group, 0, 0))

    def __repr__(self) -> str:
        rows = [*self.groups, Count("together", self.trainable, self.all)]
        cells = [("", "trainable", "all", "share")]
        for row in rows:
            share = f"{row.trainable / max(row.all, 1):.2%}"
            cells.append((row.group, f"{row.trainable:,}", f"{row.all:,}", share))
        widths = [max(len(row[column]) for row in cells) for column in range(4)]
        return "\n".join(
            "  ".join(
                [row[0].ljust(widths[0])]
                + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            )
            for row in cells
        )


def trainable(model: nn.Module) -> Trainable:
    """Count a model's parameters, and those that are trained.

    Args:
        model: A model, with or without programs and adapters.

    Returns:
        The counts by group. A parameter that several modules share counts once.
    """
    modules = dict(model.named_modules())
    counts = {group: [0, 0] for group in _GROUPS}
    for path, parameter in model.named_parameters():
        row = counts[_group(path, modules)]
        row[0] += parameter.numel() * parameter.requires_grad
        row[1] += parameter.numel()
    return Trainable(tuple(Count(group, *row) for group, row in counts.items() if row[1]))


def _group(path: str, modules: dict[str, nn.Module]) -> str:
    parts = path.split(".")
    above = [modules[".".join(parts[:end])] for end in range(len(parts))]
    if "regard" in parts:
        return "programs"
    # Whatever stands beside the layer that an adapter wraps is the adapter.
    if any(
        hasattr(one, "base_layer") and parts[at] != "base_layer" for at, one in enumerate(above)
    ):
        return "adapters"
    if isinstance(above[-1], nn.Embedding):
        return "embeddings"
    if "Norm" in type(above[-1]).__name__:
        return "norms"
    inside = any("Attention" in type(one).__name__ for one in above)
    return "attention" if inside else "others"
