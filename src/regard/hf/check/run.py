"""Run all checks of a model.

Leaves to others: what each looks for (one a file), reading models (`load`).
"""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_utils import AttentionInterface

from regard.errors import InputError, UnsupportedError, nearest
from regard.hf.check import (
    batch,
    caches,
    causality,
    cross,
    directions,
    dropout,
    empty,
    heads,
    interface,
    leakage,
    padding,
    parity,
    saved,
    strength,
    window,
)
from regard.hf.check.inputs import sample_inputs
from regard.hf.check.report import FAILED, SKIPPED, Report, Row
from regard.hf.check.subject import EAGER, Subject, switch
from regard.hf.interface import NAME
from regard.hf.quiet import quiet

Check = Callable[[Subject], list[Row]]
CHECKS: tuple[tuple[tuple[str, ...], Check], ...] = (
    (interface.NAMES, interface.check_interface),
    (parity.NAMES, parity.check_parity),
    (causality.NAMES, causality.check_causality),
    (leakage.NAMES, leakage.check_leakage),
    (directions.NAMES, directions.check_directions),
    (padding.NAMES, padding.check_padding),
    (empty.NAMES, empty.check_empty),
    (strength.NAMES, strength.check_strength),
    (window.NAMES, window.check_window),
    (heads.NAMES, heads.check_heads),
    (batch.NAMES, batch.check_batch),
    (caches.NAMES, caches.check_caches),
    (cross.NAMES, cross.check_cross),
    (dropout.NAMES, dropout.check_dropout),
    (saved.NAMES, saved.check_saved),
)


def check_model(
    model: PreTrainedModel,
    attention: str = NAME,
    inputs: dict[str, Tensor] | None = None,
    only: Sequence[str] | None = None,
) -> Report:
    """Check what every attention must keep to, whatever it computes, on one model.

    Args:
        model: A model of transformers, re-programmed or not; left as it was.
        attention: The implementation under test, "regard", "eager", "sdpa" or another that is
            registered with transformers' AttentionInterface.
        inputs: What the model is called with, two or more rows of it; random inputs unless given.
        only: Names of checks; all unless given.

    Returns:
        The report: a row for each check.

    Raises:
        InputError: If no implementation or no check has that name.
        UnsupportedError: If the model cannot run it, or cannot be run with these inputs.
    """
    known = {EAGER, *AttentionInterface._global_mapping}
    if attention not in known:
        raise InputError(f"no attention '{attention}' is registered; {nearest(attention, known)}")
    if hasattr(model, "regard_mode") and attention != NAME:
        raise InputError(
            f"the model has a mode, which runs under attention '{NAME}' alone, not '{attention}'; "
            "rg.hf.restore(model) takes the mode out"
        )
    chosen = _chosen(only)
    start = time.perf_counter()
    before, training = model.config._attn_implementation, model.training
    with quiet(), torch.random.fork_rng():
        model.eval()
        try:
            switch(model, attention)
            subject = Subject(model, attention, inputs or sample_inputs(model))
            _check_inputs(subject)
            rows = [row for names, check in chosen for row in _answers(subject, names, check)]
        finally:
            model.train(training)
            model.zero_grad(set_to_none=True)
            switch(model, before)
    seconds = time.perf_counter() - start
    kept = tuple(row for row in rows if only is None or row.check in only)
    return Report(type(model).__name__, attention, kept, seconds)


def _chosen(only: Sequence[str] | None) -> list[tuple[tuple[str, ...], Check]]:
    known = [name for names, _ in CHECKS for name in names]
    for name in only or ():
        if name not in known:
            raise InputError(f"there is no check '{name}'; {nearest(name, known)}")
    return [(names, check) for names, check in CHECKS if only is None or {*names} & {*only}]


def _check_inputs(subject: Subject) -> None:
    """Run the model once as it is meant to be: what fails then is no matter of the attention."""
    try:
        with subject.using(subject.reference), torch.no_grad():
            subject.run()
    except Exception as problem:
        raise UnsupportedError(
            f"{type(subject.model).__name__} cannot be run with inputs "
            f"{', '.join(subject.inputs)} ({_told(problem)}); give others: "
            "check_model(model, inputs={…})"
        ) from None


def _answers(subject: Subject, names: tuple[str, ...], check: Check) -> list[Row]:
    """Return a check's rows; what raises is a failure, unless eager attention raises as well."""
    try:
        rows = check(subject)
    # Whatever a model or an implementation raises is what the check found.
    except Exception as problem:
        own = _own_problem(subject, check)
        if own is not None:
            return [
                Row(name, SKIPPED, where=f"the model cannot be run so: {own}") for name in names
            ]
        return [Row(name, FAILED, where=_told(problem)) for name in names]
    return rows


def _own_problem(subject: Subject, check: Check) -> str | None:
    if subject.has_mode:
        return None
    with subject.using(EAGER):
        try:
            check(Subject(subject.model, EAGER, subject.inputs))
        except Exception as problem:
            return _told(problem)
    return None


def _told(problem: Exception) -> str:
    text = str(problem).strip().splitlines()
    return f"{type(problem).__name__}: {text[0] if text else ''}"[:300]
