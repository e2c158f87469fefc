"""Crossover of two programs: a child has each kind of part of one of them.

Before: softmax(score + bias, where = near), and entmax(cosine, 1.5, where = j <= i).
After, for example: entmax(cosine + bias, 1.5, where = near).
Leaves to others: whether a place admits the child (`admit`).
"""

from dataclasses import replace
from random import Random

from regard.ir import nodes as n
from regard.passes.build import substitute
from regard.search.change import mix
from regard.search.parts import SCORE, contents_of, is_bias, summands_of, terms_of, total
from regard.search.rename import rename_apart

# How often two programs are mixed as they are.
_MIXED = 0.15


def splice(one: n.Output, other: n.Output, random: Random) -> n.Output:
    """Return a child of two programs.

    Args:
        one: A program.
        other: Another.
        random: Every choice is drawn from it.

    Returns:
        A graph, to be verified.
    """
    if random.random() < _MIXED and one.weights is not other.weights:
        return mix(one, other)
    base, giver = (one, other) if random.random() < 0.5 else (other, one)
    base_terms, giver_terms = terms_of(base), terms_of(giver)
    donor = random.choice(giver_terms)
    new: dict[n.Node, n.Node] = {}
    chosen = [random.random() < 0.5 for _ in range(4)]
    for term in base_terms:
        new[term] = _child(term, donor, chosen)
    ends = random.choice([base, giver]) if random.random() < 0.5 else base
    weights = substitute(base.weights, new)
    return rename_apart(n.Output(weights, ends.values, ends.finish))


def _child(term: n.Term, donor: n.Term, chosen: list[bool]) -> n.Term:
    """Return a term with some kinds of parts of a donor: mask, normaliser, content, biases."""
    mask, normaliser, content, biases = chosen
    made = replace(term, where=donor.where) if mask else term
    if not isinstance(made, n.Softmax | n.Entmax):
        return made
    score = _score(made, donor, content, biases)
    made = replace(made, score=score)
    if not normaliser:
        return made
    if isinstance(donor, n.Softmax | n.Entmax):
        return replace(donor, score=score, where=made.where, name=made.name)
    around = substitute(donor, {SCORE: score})
    assert isinstance(around, n.Term)
    return replace(around, where=made.where, name=made.name)


def _score(term: n.Softmax | n.Entmax, donor: n.Term, content: bool, biases: bool) -> n.Node:
    """Return the score of a term with a donor's content, or its biases."""
    score = term.score
    if content:
        own, theirs = contents_of(score), contents_of(donor)
        if own and theirs:
            score = substitute(score, {own[0]: theirs[0]})
    if biases and isinstance(donor, n.Softmax | n.Entmax):
        kept = [one for one in summands_of(score) if not is_bias(one)]
        added = [one for one in summands_of(donor.score) if is_bias(one)]
        score = total([*kept, *added]) if kept else score
    return score
