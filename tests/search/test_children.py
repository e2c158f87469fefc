"""Children of modes: every one runs, is causal where it must be, sees something, has gradients."""

from random import Random

import pytest
import torch

import regard as rg
from regard.errors import InputError, ProgramError
from regard.modes import Assignment, Mode
from regard.search import Children, Layers, Space, find_faults, find_mode_faults
from regard.search.admit import check_graph, mend
from regard.search.change import CHANGES, Tools
from regard.search.parts import known_parts
from regard.search.space import grid_of, mode_of
from regard.search.splice import splice
from tests.search.sound import check_sound

SPACE = Space(
    {
        "encoder": Layers(4, 8, layer_groups=2, head_groups=4),
        "decoder": Layers(2, 8, layer_groups=2, head_groups=2),
        "cross": Layers(2, 8, head_groups=2),
    },
    length=64,
)


def programs_of(modes):
    return list(
        dict.fromkeys((one.role, one.program) for mode in modes for one in mode.assignments)
    )


def generations(children, sizes):
    """Return children of children: what comes late has been changed most often."""
    population, found = children.starts(), []
    for size in sizes:
        new = children.draw(population, size, found)
        found += new
        population = [*new, *children.random.sample(population, min(10, len(population)))]
    return found


def test_starts_are_plain_attention_and_the_ready_modes_that_fit():
    names = [mode.name for mode in Children(SPACE).starts()]
    assert names[0] == "plain" and {"local", "focused", "aligned", "contrastive"} <= set(names)
    # It reads features that no model gives unless the space says so.
    assert "structured" not in names
    fed = Space(SPACE.roles, may_read=frozenset(["document_q", "document_k", "steps"]))
    assert "structured" in [mode.name for mode in Children(fed).starts()]


def test_children_are_sound_in_every_place():
    children = Children(SPACE, seed=3)
    found = programs_of(generations(children, [40, 40, 40]))
    assert len(found) > 80
    for role, program in found:
        assert not find_faults(program.root, role, SPACE)
        check_sound(program, role, causal=role == "decoder")
    assert children.tally.rate > 0.5


@pytest.mark.slow
def test_thousands_of_children_are_sound():
    children = Children(SPACE, seed=11)
    found = programs_of(generations(children, [700] * 6))
    assert len(found) > 2500
    for role, program in found:
        check_sound(program, role, causal=role == "decoder")


def test_the_same_seed_gives_the_same_children():
    a, b, other = (
        [mode.hash for mode in generations(Children(SPACE, seed), [20, 20])] for seed in (5, 5, 6)
    )
    assert a == b and len(set(a)) == 40 and not set(a) & set(other)


def test_children_fill_every_place_and_survive_their_file(tmp_path):
    for number, mode in enumerate(generations(Children(SPACE, 7), [15])):
        assert find_mode_faults(mode, SPACE) == {}
        assert mode_of(grid_of(mode, SPACE), SPACE, mode.name).hash == mode.hash
        rg.save(mode, tmp_path / f"{number}.json")
        again = rg.load(tmp_path / f"{number}.json")
        assert again.hash == mode.hash
        promises = {one.role: one.program.contracts for one in again.assignments}
        assert "causal" in promises["decoder"] and "never empty" in promises["cross"] + (
            "never empty",
        )


def test_every_change_makes_something_that_is_admitted():
    tools = Tools(Random(1), known_parts("decoder", SPACE), 64)
    parents = [program.root for program in tools.parts.programs]
    for change in CHANGES:
        made = 0
        for root in tools.random.sample(parents, len(parents)):
            if made == 2:
                break
            new = change(root, tools)
            if new is None or new is root:
                continue
            try:
                new = check_graph(mend(check_graph(new), "decoder", SPACE))
            except ProgramError:
                continue
            made += not find_faults(new, "decoder", SPACE) and new is not root
        assert made == 2, change.__name__


def test_a_child_of_two_has_parts_of_both():
    local = rg.modes.find("local")("encoder").assignments[0].program.root
    focused = rg.modes.find("focused")("encoder").assignments[0].program.root
    random = Random(2)
    made = {splice(local, focused, random) for _ in range(60)}
    both = [
        root
        for root in made
        if type(root.weights).__name__ == "Entmax" and getattr(root.weights, "where", None)
    ]
    assert both and both[0].weights.where is local.weights.where


def test_parts_that_meet_keep_their_names_apart():
    reader, sequential = (
        rg.modes.find(name)("encoder").assignments[0].program.root for name in ("reader", "local")
    )
    from regard.search.change import mix

    check_graph(mix(mix(reader, sequential), reader))
    names = [
        one.name
        for one in rg.ir.program.AttentionProgram(
            check_graph(mix(mix(reader, sequential), mix(reader, sequential))), "m"
        ).parameters
    ]
    assert len(names) == len(set(names)) >= 4


def test_a_grid_says_what_a_mode_says():
    space = Space({"encoder": Layers(4, 4, 2, 2)})
    local, focused = (
        rg.modes.find(x)("encoder").assignments[0].program for x in ("local", "focused")
    )
    mode = Mode(
        "m", "", [Assignment("encoder", local), Assignment("encoder", focused, (2, 4), (0, 2))]
    )
    assert grid_of(mode, space) == {"encoder": ((local, local), (focused, local))}
    again = mode_of(grid_of(mode, space), space, "m")
    assert str(again) == (
        "mode m\n  encoder, layers 0–1: local_encoder\n"
        "  encoder, layers 2–3, heads 0–1: focused_encoder\n"
        "  encoder, layers 2–3, heads 2–3: local_encoder"
    )
    for layer in range(4):
        assert again.at("encoder", layer, 4) == mode.at("encoder", layer, 4)


@rg.program
def peeking(pair):
    return rg.softmax(rg.dot(pair.q, pair.k))


@rg.program
def blind(pair):
    return rg.softmax(rg.dot(pair.q, pair.k), where=pair.i - pair.j > 3)


@rg.program
def near(pair):
    return rg.softmax(rg.dot(pair.q, pair.k), where=abs(pair.i - pair.j) < 3)


@rg.program
def steep(pair):
    return rg.softmax(rg.sqrt(rg.dot(pair.q, pair.q)) + rg.dot(pair.q, pair.k))


@rg.program
def informed(pair):
    return rg.softmax(rg.dot(pair.q, pair.k) + rg.key_feature("hint"))


@rg.program
def wide(pair):
    bias = rg.parameter("bias", ("head", 100_000))
    return rg.softmax(rg.dot(pair.q, pair.k) + bias[pair.j])


@rg.program
def of_the_call(pair):
    return rg.softmax(rg.dot(pair.q, pair.k) * pair.queries)


@pytest.mark.parametrize(
    ("program", "role", "rule", "problem", "remedy"),
    [
        (
            peeking,
            "decoder",
            "causal",
            "weights 'a' may read keys that the",
            "add pair.j <= pair.i",
        ),
        (blind, "encoder", "empty", "no key was found that every query", "pair.i == pair.j"),
        (near, "cross", "empty", "a query beyond the last key", "be true at key 0"),
        (steep, "encoder", "gradient", "the argument of sqrt may be 0", "add a small positive"),
        (informed, "encoder", "reads", "'hint' is read, which the model", "known: k, q, v"),
        (wide, "encoder", "size", "1600000 learned numbers", "262144 are allowed"),
        (of_the_call, "encoder", "reads", "pair.queries differs from call", "read pair.i"),
    ],
)
def test_what_a_place_does_not_admit_is_named(program, role, rule, problem, remedy):
    (fault,) = find_faults(program.root, role, SPACE)
    assert fault.rule == rule and problem in fault.problem and remedy in fault.remedy


def test_an_unfit_parent_is_refused():
    mode = Mode("mine", encoder=peeking, decoder=peeking, cross=peeking)
    with pytest.raises(InputError) as error:
        Children(SPACE).draw([mode], 1)
    assert str(error.value).startswith(
        "mode 'mine': program 'peeking' is not fit for role 'decoder': weights 'a' may read"
    )
    with pytest.raises(InputError, match=r"mode 'part' has no program for role 'cross', layer 0"):
        Children(SPACE).mutate(Mode("part", encoder=peeking, decoder=rg.catalogue.causal.program))
    with pytest.raises(InputError, match=r"has a program for role 'vision'; the space has encoder"):
        Children(SPACE).mutate(Mode("seeing", vision=peeking))
    with pytest.raises(InputError, match="children need a parent"):
        Children(SPACE).draw([], 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Space({}), "a space needs the layers of a role"),
        (lambda: Space({"encodr": Layers(1, 1)}), "'encodr' is no role of attention; did you mean"),
        (
            lambda: Space({"encoder": Layers(1, 1)}, length=0),
            "length must be a whole number from 1",
        ),
        (
            lambda: Space({"decoder": Layers(1, 1, causal=False)}),
            "the self-attention of a decoder is causal; leave causal out",
        ),
        (lambda: Layers(2, 4, layer_groups=3), "3 groups of 2 layers: give whole numbers"),
        (lambda: Layers(2, 4, head_groups=True), "True groups of 4 heads"),
    ],
)
def test_a_space_that_cannot_be_says_why(make, message):
    with pytest.raises(InputError) as error:
        make()
    assert str(error.value).startswith(message)


def test_causal_roles_of_multimodal_models_are_the_models_affair():
    space = Space({"text": Layers(2, 4, causal=True), "vision": Layers(2, 4)})
    starts = Children(space).starts()
    assert {"local", "focused"} <= {mode.name for mode in starts}
    for mode in Children(space, 1).draw(starts, 10):
        for one in mode.assignments:
            check_sound(one.program, one.role, causal=one.role == "text")


def test_cross_attention_needs_a_key_that_is_there_however_short_the_text():
    @rg.program
    def last(pair):
        return rg.softmax(rg.dot(pair.q, pair.k), where=pair.j == pair.keys - 1)

    @rg.program
    def own_or_first(pair):
        return rg.softmax(rg.dot(pair.q, pair.k), where=(pair.i == pair.j) | (pair.j == 0))

    @rg.program
    def own(pair):
        return rg.softmax(rg.dot(pair.q, pair.k), where=pair.i == pair.j)

    @rg.program
    def before(pair):
        return rg.softmax(rg.dot(pair.q, pair.k), where=pair.j == rg.max(pair.i - 1, 0))

    for program, admitted in ((last, True), (own_or_first, True), (own, False), (before, False)):
        faults = find_faults(program.root, "cross", SPACE)
        assert [one.rule for one in faults] == ([] if admitted else ["empty"]), program.name
        mended = mend(program.root, "cross", SPACE)
        assert not find_faults(mended, "cross", SPACE) and (mended is program.root) == admitted
        check_sound(rg.ir.program.AttentionProgram(mended, "mended"), "cross", causal=False)
    assert not find_faults(own.root, "encoder", SPACE)


@pytest.mark.parametrize(
    ("score", "problem"),
    [
        (lambda pair, s: rg.log(s), "the argument of log"),
        (lambda pair, s: rg.log(1 + s * s), None),
        (lambda pair, s: 1 / s, "a divisor may be 0"),
        (lambda pair, s: 1 / (rg.sum(pair.k * pair.k) + 0.1), None),
        (lambda pair, s: s**0.5, "a power of what may be 0"),
        (lambda pair, s: s**2, None),
        (lambda pair, s: (1 + s * s) ** -1.5, None),
        (lambda pair, s: rg.exp(s), "exp of what may exceed 80"),
        (lambda pair, s: rg.exp(5 * rg.tanh(s)), None),
        (lambda pair, s: s % rg.sigmoid(s), "the second argument of mod may be 0"),
        (lambda pair, s: s + float("inf"), "an infinite constant"),
        (lambda pair, s: s / rg.sigmoid(rg.parameter("p")), None),
    ],
)
def test_poles_are_found(score, problem):
    program = rg.program(lambda pair: rg.softmax(score(pair, rg.dot(pair.q, pair.k)), sink=0.0))
    faults = [one for one in find_faults(program.root, "encoder", SPACE) if one.rule == "gradient"]
    assert (faults == []) if problem is None else faults[0].problem.startswith(problem)


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        (lambda s: rg.ratio(s), "the row sum of a ratio may be 0"),
        (lambda s: rg.ratio(rg.relu(s), at_least=1e-6), None),
        (lambda s: rg.ratio(s * s, add=1e-6), None),
        (lambda s: rg.ratio(1 + s * s), None),
        (lambda s: rg.ratio(rg.exp(s), at_least=1e-6), "exp of what may exceed 80"),
        (lambda s: rg.ratio(rg.exp(s), at_least=1e-6, scaled=True), None),
        (lambda s: rg.entmax(s, 1.5), None),
        (lambda s: rg.entmax(s, 1.01), "alpha of entmax may leave"),
        (lambda s: rg.entmax(s, 1 + rg.sigmoid(rg.parameter("p"))), "alpha of entmax may leave"),
        (lambda s: rg.entmax(s, 1.1 + rg.sigmoid(rg.parameter("p"))), None),
    ],
)
def test_normalisers_stay_off_their_poles(weights, problem):
    program = rg.program(lambda pair: weights(rg.dot(pair.q, pair.k)))
    faults = find_faults(program.root, "encoder", SPACE)
    assert (faults == []) if problem is None else faults[0].problem.startswith(problem)


def test_children_are_layers_that_train():
    space = Space({"encoder": Layers(1, 4)}, length=16)
    for mode in Children(space, seed=4).draw(Children(space).starts(), 12):
        layer = rg.nn.Attention(mode.assignments[0].program, width=32, heads=4)
        out = layer(torch.randn(2, 7, 32))
        out.square().sum().backward()
        for name, parameter in layer.named_parameters():
            gradient = parameter.grad
            assert gradient is None or gradient.isfinite().all(), name
