"""The contenders of a verdict: what was named, as modes that fit a model and differ from plain.

Leaves to others: what they are worth (`judge`), the search that found them.
"""

import re
from collections.abc import Sequence

from transformers import PreTrainedModel

from regard.catalogue import VARIANTS
from regard.customise.references import find_mode
from regard.customise.verdict.plan import PLAIN, Contender
from regard.errors import InputError, TaskError, located
from regard.hf.places import find_places
from regard.ir.contracts import Contract
from regard.ir.program import AttentionProgram
from regard.modes import Mode
from regard.passes.contracts.prove import prove
from regard.search.space import Layers, Space

CAUSAL = Contract("causal")


def space_of(model: PreTrainedModel) -> Space:
    """Return the places of a model that a mode can fill.

    Args:
        model: Any that modes go into.

    Returns:
        Its roles, with their layers and heads.
    """
    places = [place for _, place in find_places(model).values()]
    roles = dict.fromkeys(place.role for place in places)
    found = {role: [place for place in places if place.role == role] for role in roles}
    return Space({role: Layers(len(of), of[0].heads) for role, of in found.items()})


def find_contenders(
    finalists: Sequence[str | Mode], random: str | Mode | None, space: Space
) -> tuple[Contender, ...]:
    """Return who contends, plain attention first.

    Args:
        finalists: Modes, or the name of a ready mode, a mode's .json file, or a program: a name of
            the catalogue, file.py:name or a .json file, which runs in every role that admits it.
        random: Likewise, the winner of a random search at equal budget.
        space: The places of the model.

    Returns:
        Contenders with different names and programs.

    Raises:
        RegardError: If a reference leads nowhere.
        TaskError: If nobody contends, one contends twice or is plain attention itself, or one of a
            decoder is not proved to see nothing later.
    """
    if not finalists:
        raise TaskError("a verdict needs a finalist; name a ready mode, or a mode's .json file")
    named: list[tuple[str, str | Mode]] = [("finalist", one) for one in finalists]
    named += [] if random is None else [("random", random)]
    found = [Contender(PLAIN, PLAIN)]
    for kind, reference in named:
        mode = reference if isinstance(reference, Mode) else find_mode(reference, space)
        one = Contender(_folder_name(mode.name), kind, mode)
        shown = mode.name if isinstance(reference, Mode) else reference
        _check_alone(one, shown, found)
        _check_programs(mode, shown)
        found.append(one)
    return tuple(found)


def _folder_name(name: str) -> str:
    """Return a name that a folder can have everywhere."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "mode"


def _check_alone(one: Contender, reference: str, others: Sequence[Contender]) -> None:
    assert one.mode is not None
    if all(_is_plain(each.role, each.program) for each in one.mode.assignments):
        raise TaskError(
            f"{reference}: this mode is plain attention, which every contender is compared with "
            "anyway; leave it out"
        )
    for other in others:
        if other.mode is not None and other.mode.hash == one.mode.hash:
            raise TaskError(f"{reference}: contender '{other.name}' runs the same programs")
        if other.name.lower() == one.name.lower():
            raise TaskError(
                f"{reference}: a contender is called '{other.name}' already; give the mode another "
                "name, which its hash does not depend on"
            )


def _is_plain(role: str, program: AttentionProgram) -> bool:
    plain = {"scaled_dot_product", *(["causal"] if role == "decoder" else [])}
    return any(program == VARIANTS[name].program for name in plain)


def _check_programs(mode: Mode, reference: str) -> None:
    for one in mode.assignments:
        found = prove(one.program.root, CAUSAL)
        if one.role == "decoder" and not found.proved:
            problem = InputError(
                f"program {one.program.name} of a decoder is not proved causal ({found.reason}), "
                "so its scores may come of reading ahead; add pair.j <= pair.i to every where"
            )
            raise located(problem, reference)
