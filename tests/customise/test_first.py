"""Whom a search starts with, where it looks, and what it draws next."""

import pytest

from regard.customise.candidate import PLAIN, Candidate, plain
from regard.customise.first import first_generation, ready_modes
from regard.customise.ground import rungs_of, space_of, survey
from regard.customise.offspring import Offspring
from regard.customise.options import Options
from regard.customise.standing import Standing
from regard.hf.places import Place
from regard.modes.collection import READY
from regard.search import Layers, Score, Space, by_quality, find_mode_faults
from tests.train.tiny import make_task

SPACE = Space({"encoder": Layers(2, 4, 2, 2), "decoder": Layers(2, 4)}, length=40)


def test_ready_modes_are_admitted_and_those_that_suit_the_kind_come_first():
    found = list(ready_modes(SPACE, "tagging"))
    assert len({mode.hash for mode in found}) == len(found) >= 8
    assert all(find_mode_faults(mode, SPACE) == {} for mode in found)
    assert [mode.name for mode in found][:2] == ["local", "reader"]
    # What reads inputs that the model does not give is not among them.
    assert "structured" not in [mode.name for mode in found]


def test_ranges_that_hide_nothing_are_narrowed():
    local = next(mode for mode in ready_modes(SPACE, "tagging") if mode.name == "local")
    assert local.assignments[0].program == READY["local"].fn(window=5)["encoder"]
    wide = Space(SPACE.roles, length=512)
    local = next(mode for mode in ready_modes(wide, "tagging") if mode.name == "local")
    assert local.assignments[0].program == READY["local"].programs["encoder"]


def test_the_own_attention_comes_first_and_random_search_starts_with_nothing_else(tmp_path):
    ground = survey(make_task(tmp_path))
    found, refused = first_generation(ground, Options())
    assert found[0] == plain() and len(found) > 8 and refused == []
    alone, _ = first_generation(ground, Options(method="random"))
    assert alone == [plain()]


def test_the_space_of_a_translator_has_its_roles_and_a_causal_decoder(tmp_path):
    space = survey(make_task(tmp_path, model={"layers": 2, "heads": 4})).space
    assert dict(space.roles) == {
        role: Layers(2, 4, 2, 2) for role in ("encoder", "decoder", "cross")
    }
    assert space.is_causal("decoder") and not space.is_causal("encoder")
    assert space.length < 20


def test_heads_that_share_keys_stay_together():
    places = [Place("a", "decoder", 0, 6, 8, key_heads=3), Place("b", "decoder", 1, 6, 8, 3)]
    assert space_of(places, 64).roles == {"decoder": Layers(2, 6, 2, 1)}


@pytest.mark.parametrize(
    ("training", "every", "rungs"),
    [
        ({"steps": 900}, 112, (112, 224, 448, 900)),
        ({"steps": 900, "eval_every": 50}, 50, (100, 200, 400, 900)),
        ({"steps": 900, "keep": "best"}, 300, (300, 600, 900)),
        ({"steps": 160}, 20, (20, 40, 80, 160)),
        ({"steps": 4}, 1, (1, 2, 4)),
        ({"steps": 1}, 1, (1,)),
        ({"steps": 100, "eval_every": 0}, 12, (12, 24, 48, 100)),
    ],
)
def test_rungs_are_where_the_whole_run_is_scored(tmp_path, training, every, rungs):
    task = make_task(tmp_path, training={"eval_every": 300, **training})
    assert rungs_of(task, task.training.steps) == (every, rungs)


def test_epochs_are_counted_as_the_trainer_does(tmp_path):
    from regard.train import train

    training = {"steps": None, "epochs": 1.5, "accumulate": 2, "eval_every": 300}
    task = make_task(tmp_path, training=training)
    result = train(task, tmp_path / "run", progress=False, test=False)
    assert survey(task).steps == result.steps


def stand(count):
    standing = Standing((1, 2, 4), by_quality)
    standing.put(plain(), 0, Score(0.5))
    for number, mode in enumerate(list(ready_modes(SPACE, "tagging"))[:count]):
        standing.put(Candidate.of(mode, "ready mode"), 0, Score(number / 10))
    return standing


def test_what_is_drawn_next_depends_on_seed_and_standing_alone():
    standing = stand(5)
    roots = {key: key for key in standing.candidates}
    one = Offspring(SPACE, seed=1).draw(standing, roots)
    same = Offspring(SPACE, seed=1)
    same.draw(stand(2), {})
    assert same.draw(standing, roots) == one
    assert Offspring(SPACE, seed=2).draw(standing, roots) != one


def test_children_are_new_admitted_and_know_their_parents():
    standing, offspring = stand(6), Offspring(SPACE, seed=0)
    roots = {key: key for key in standing.candidates}
    better = {PLAIN, *standing.order()[:4]}
    for number in range(12):
        child = offspring.draw(standing, roots)
        assert child.key not in standing.candidates and child.mode is not None
        assert find_mode_faults(child.mode, SPACE) == {}
        assert set(child.parents) <= set(standing.candidates)
        if child.parents and number == 0:
            assert set(child.parents) <= better
        assert child.root == (child.parents[0] if child.parents else None)
        assert Candidate.from_dict(child.key, child.as_dict()) == child
        standing.put(child, 0, Score(0.0))
        roots[child.key] = child.key


def test_random_search_has_no_parents():
    offspring = Offspring(SPACE, seed=0, wild=True)
    drawn = [offspring.draw(stand(number), {}) for number in range(1, 6)]
    assert all(one.parents == () and one.root is None for one in drawn)
