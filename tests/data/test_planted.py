"""Planted tasks: an oracle answers every row, the obvious shortcut does not, the right mode can."""

import json

import pytest
import torch

import regard as rg
from regard.data import load_corpus
from regard.data.planted import PLANTED, find_planted
from regard.errors import DataError, InputError
from regard.ir import nodes as n
from regard.ir.program import AttentionProgram
from regard.modes.collection import READY
from regard.search.parts import known_parts
from regard.search.space import Layers, Space
from regard.search.traits import TRAITS, find_traits, is_of_family
from regard.tasks import load_task, plan_task_data

NAMES = list(PLANTED)


@pytest.mark.parametrize("name", NAMES)
def test_the_ceiling_is_reached_by_an_oracle_and_not_by_the_shortcut(name):
    task = PLANTED[name]
    rows = list(task.rows(1500, seed=3))
    assert task.share_right(rows, task.oracle) == task.ceiling == 1.0
    assert task.share_right(rows, task.shortcut) <= task.floor <= 0.8
    field = task.kind.fields[-1].name
    # The oracle sees the input alone.
    blind = [{key: value for key, value in row.items() if key != field} for row in rows[:50]]
    assert [task.oracle(row) for row in blind] == [row[field] for row in rows[:50]]


@pytest.mark.parametrize("name", NAMES)
def test_no_single_answer_is_right_often(name):
    task = PLANTED[name]
    rows = list(task.rows(1000))
    field = task.kind.fields[-1].name
    answers = [one for row in rows for one in (row[field] if field == "tags" else [row[field]])]
    most = max(answers.count(one) for one in set(answers))
    assert most / len(answers) < 0.6


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_rows_and_all_inputs_differ(name):
    task = PLANTED[name]
    rows, again, others = (list(task.rows(200, seed)) for seed in (1, 1, 2))
    assert rows == again and rows != others
    inputs = {json.dumps([row[one] for one in task.kind.inputs]) for row in rows}
    assert len(inputs) == 200
    assert all(set(row) == {one.name for one in task.kind.fields} for row in rows)


@pytest.mark.parametrize("name", NAMES)
def test_the_rows_are_data_of_their_kind_without_remarks(name, tmp_path):
    task = PLANTED[name]
    task.write(tmp_path / "rows.jsonl", 300)
    path = tmp_path / "task.yaml"
    path.write_text(f"task: {task.kind.name}\ndata: {{path: rows.jsonl}}\n")
    if task.kind.name == "translation":
        settings = "{path: rows.jsonl, test_pairs: 50, valid_pairs: 50}"
        path.write_text(f"task: translation\ndata: {settings}\n")
    corpus = load_corpus(plan_task_data(load_task(path)))
    assert not corpus.report.errors and not corpus.report.warnings
    assert sum(map(len, (corpus.splits.train, corpus.splits.valid, corpus.splits.test))) == 300


def traits_of_ready(role):
    modes = [mode.programs[role].root for mode in READY.values() if role in mode.programs]
    return [find_traits(root) for root in modes]


@pytest.mark.parametrize("name", NAMES)
def test_the_family_is_in_the_search_and_plain_attention_is_not_of_it(name):
    task = PLANTED[name]
    assert all(family <= set(TRAITS) for family in task.family)
    plain = rg.Mode("plain", **{task.role: rg.catalogue.scaled_dot_product.program})
    assert not is_of_family(plain, task.role, task.family)
    space = Space({task.role: Layers(2, 4)})
    found = [
        program
        for program in known_parts(task.role, space).programs
        if is_of_family(rg.Mode("m", **{task.role: program}), task.role, task.family)
    ]
    assert len(found) >= 2


def test_windows_that_differ_between_heads_are_ranges():
    near, far = (
        rg.modes.find("local")("encoder", window=width).assignments[0].program for width in (2, 9)
    )
    both = [rg.modes.Assignment("encoder", near), rg.modes.Assignment("encoder", far, heads=(0, 2))]
    family = PLANTED["ranges"].family[:1]
    assert is_of_family(rg.Mode("m", "", both), "encoder", family)
    assert not is_of_family(rg.Mode("m", encoder=near), "encoder", family)
    assert not is_of_family(rg.Mode("m", "", both), "cross", family)


def value_rows(numbers):
    """One head, one channel: scores are 0, so weights go by the program's form alone."""
    values = torch.tensor(numbers, dtype=torch.float64).view(1, 1, -1, 1)
    return torch.zeros_like(values), torch.zeros_like(values), values


def test_a_window_solves_local_majority_and_plain_attention_does_not():
    task = PLANTED["majority"]
    window = rg.modes.find("local")("encoder", window=2).assignments[0].program

    def answer_by(program):
        def answer(row):
            signs = [1.0 if token == "x" else -1.0 for token in row["tokens"]]
            seen = rg.attend(program, *value_rows(signs)).flatten()
            # The window is even at the ends: then the token itself decides.
            return ["X" if a + 1e-6 * b > 0 else "O" for a, b in zip(seen, signs, strict=True)]

        return answer

    rows = list(task.rows(60))
    assert task.share_right(rows, answer_by(window)) == 1.0
    assert task.share_right(rows, answer_by(rg.catalogue.scaled_dot_product.program)) < 0.75


def test_weights_that_are_not_averaged_solve_counting_and_averages_do_not():
    task = PLANTED["counting"]
    counting = AttentionProgram(
        n.Output(n.Weigh(n.Const(1.0), None, "a"), n.Vector("key", "v"), None), "counting"
    )
    assert "unaveraged" in find_traits(counting.root)

    def answer_by(program, scale):
        def answer(row):
            marks = [float(word == "x") for word in row["text"].split()]
            total = rg.attend(program, *value_rows(marks)).flatten()[0].item()
            return str(round(scale * total))

        return answer

    rows = list(task.rows(300))
    assert task.share_right(rows, answer_by(counting, 1)) == 1.0
    plain = rg.catalogue.scaled_dot_product.program
    best = max(task.share_right(rows, answer_by(plain, scale)) for scale in range(10, 41))
    assert best < task.floor


def test_exact_zeros_and_likeness_find_the_needle():
    task = PLANTED["needle"]
    focused = rg.modes.find("focused")("encoder", alpha=2.0).assignments[0].program

    def answer(row):
        asked, *hay = row["text"].split()
        keys = torch.zeros(1, 1, len(hay), 32, dtype=torch.float64)
        for place, one in enumerate(hay):
            keys[0, 0, place, int(one[1:].partition("v")[0])] = 1.0
        query = torch.zeros(1, 1, 1, 32, dtype=torch.float64)
        query[..., int(asked[1:])] = 32.0
        values = torch.tensor([float(one.rpartition("v")[2]) for one in hay], dtype=torch.float64)
        found = rg.attend(focused, query, keys, values.view(1, 1, -1, 1))
        return f"v{round(found.item())}"

    assert task.share_right(list(task.rows(60)), answer) == 1.0


def test_more_rows_than_there_are_are_refused():
    with pytest.raises(DataError, match="'mine' has hardly more than 2 different rows, and 3 are"):
        from dataclasses import replace

        tiny = replace(
            PLANTED["counting"],
            name="mine",
            draw=lambda random: {"text": random.choice("ab"), "label": "1"},
        )
        list(tiny.rows(3))


def test_an_unknown_task_and_a_folder_that_is_not_there_are_named(tmp_path):
    with pytest.raises(InputError, match=r"no planted task 'nedle'; did you mean 'needle'\?"):
        find_planted("nedle")
    assert find_planted("needle") is PLANTED["needle"]
    with pytest.raises(DataError, match=r"rows\.jsonl: no such file or directory"):
        PLANTED["needle"].write(tmp_path / "none" / "rows.jsonl", 3)
