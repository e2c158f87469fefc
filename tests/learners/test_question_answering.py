"""Question answering: windows, where answers stand in them, and which one is given."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from regard.data.fields import Answer
from regard.data.record import Record
from regard.errors import DataError
from regard.learners import learner_class
from regard.learners.nearby import find_nearby, usual_length
from regard.learners.question_answering import Found
from regard.learners.tokenizer import train_word_tokenizer
from regard.train.model import build_model
from tests.learners.toys import toy

CONTEXT = "Żółw — the first  one,\ncalled Ünï (the 2nd) and last: " + "so it was; " * 12 + "the end"


def row(answer=None, question="which one", context=CONTEXT, start=None, place=None):
    answers = () if answer is None else (Answer(answer, place),)
    values = {"question": question, "context": context, "answers": answers, "start": start}
    return Record(values, "some.json", 1)


def learner_of(folder, **changes):
    task = toy(folder, "question_answering", **changes)
    words = train_word_tokenizer([CONTEXT, "which one is it called"], 90)
    return learner_class(task)(task, words)


@pytest.fixture
def learner(tmp_path):
    return learner_of(tmp_path)


def text_at(window, first, last):
    return CONTEXT[window.spans[first][0] : window.spans[last][1]].strip()


def test_windows_overlap_by_half_and_hold_the_whole_context(learner):
    windows = learner._windows([row("one")])
    assert len(windows) > 3
    reach = 0
    for window in windows:
        spans = [
            span for span, ok in zip(window.spans, window.example["allowed"], strict=True) if ok
        ][1:]
        assert spans[0][0] <= reach
        reach = spans[-1][1]
        assert len(window.example["input_ids"]) <= learner.limit
    assert reach == len(CONTEXT)


@pytest.mark.parametrize("answer", ["Żółw", "one", "Ünï", "the 2nd", "last", "the end", "end"])
def test_answer_is_found_in_its_characters_again(learner, answer):
    asked = row(answer)
    examples, windows = learner.encode([asked]), learner._windows([asked])
    held = [
        (window, example["labels"])
        for window, example in zip(windows, examples, strict=True)
        if example["labels"] != [0, 0]
    ]
    assert held
    for window, (first, last) in held:
        assert answer == text_at(window, first, last)


def test_answer_that_comes_twice_is_learned_where_it_is_said_to_stand(learner):
    place = CONTEXT.rindex("the")
    windows = learner._windows([row("the")])
    for asked in (row("the", place=place), row("the", start=place)):
        last = learner.encode([asked])[-1]["labels"]
        assert windows[-1].spans[last[0]][1] > place and last != [0, 0]
        assert learner.encode([asked])[0]["labels"] == [0, 0]


def test_nothing_is_learned_of_a_question_without_an_answer(learner):
    assert {tuple(one["labels"]) for one in learner.encode([row()])} == {(0, 0)}


def test_only_the_context_may_be_pointed_at(learner):
    (example, *_) = learner.encode([row("one")])
    kinds = torch.tensor(example["token_type_ids"])
    allowed = torch.tensor(example["allowed"])
    end = learner.tokenizer.eos_token_id
    ends = torch.tensor(example["input_ids"]) == end
    assert allowed[0] == 1 and allowed[1:][kinds[1:] == 0].sum() == 0
    assert torch.equal(allowed[1:][kinds[1:] == 1], (~ends)[1:][kinds[1:] == 1].long())


def test_loss_is_over_the_places_that_may_be_pointed_at(learner):
    task = learner.task.model_copy(
        update={"training": learner.task.training.model_copy(update={"label_smoothing": 0.2})}
    )
    smoothed = type(learner)(task, learner.tokenizer)
    logits = torch.randn(2, 2, 5)
    logits[0, :, 3:] = float("-inf")
    labels = torch.tensor([[0, 2], [1, 4]])
    wanted = sum(
        F.cross_entropy(logits[row, side, : 5 - 2 * (row == 0)], labels[row, side],
                        label_smoothing=0.2)
        for row in range(2) for side in range(2)
    )  # fmt: skip
    found = smoothed.loss(SimpleNamespace(logits=logits), labels)
    torch.testing.assert_close(found, wanted / 4)


class Model:
    """Answers with what it was given."""

    def __init__(self, logits):
        self.logits = torch.tensor(logits, dtype=torch.float32)

    def __call__(self, **_):
        return SimpleNamespace(logits=self.logits)


def test_best_span_begins_before_it_ends_and_is_short_enough(tmp_path):
    learner = learner_of(tmp_path, model={"answer_tokens": 2})
    starts, ends = [9, 0, 5, 0, 1], [9, 7, 0, 3, 6]
    # From 2 to 4 would be three tokens, from 2 to 1 backwards.
    (found,) = learner.read(Model([[starts, ends]]), {})
    assert found == Found(8.0, 2, 3, 18.0)
    longer = learner_of(tmp_path, model={"answer_tokens": 3})
    assert longer.read(Model([[starts, ends]]), {})[0][:3] == (11.0, 2, 4)


def answer_with(learner, scores):
    """Answer where each window finds its second allowed token, with these scores."""
    found = iter(scores)

    class Scripted(type(learner)):
        def read_all(self, model, examples):
            places = [one["allowed"].index(1, 1) for one in examples]
            return [Found(a, k, k, b) for k, (a, b) in zip(places, found, strict=True)]

    scripted = Scripted(learner.task, learner.tokenizer)
    return scripted.answer(None, [row()])[0], scripted._windows([row()])


def test_best_window_answers_unless_all_say_that_there_is_none(tmp_path):
    silent, sure = (learner_of(tmp_path, data={"no_answer": allowed}) for allowed in (True, False))
    count = len(silent._windows([row()]))
    scores = [(1.0, 5.0)] * (count - 1) + [(3.0, 2.0)]
    answer, windows = answer_with(silent, scores)
    place = windows[-1].example["allowed"].index(1, 1)
    assert answer == text_at(windows[-1], place, place) != ""
    scores[-1] = (3.0, 4.0)
    assert answer_with(silent, scores)[0] == ""
    assert answer_with(sure, scores)[0] == answer


def test_any_model_answers_with_a_part_of_the_context(learner):
    model = build_model(learner)
    found = learner.answer(model, [row(), row(context="short one")])
    assert found[0] in CONTEXT and found[1] in "short one"
    assert learner.answer(model, []) == []


def test_question_that_leaves_no_room_is_refused(learner):
    message = (
        r"^some\.json, line 1: the question has \d+ tokens, which leaves \d of the 24 that the"
    )
    with pytest.raises(DataError, match=message):
        learner.encode([row("one", question="which one is it called " * 3)])


def test_baseline_is_near_the_words_of_the_question():
    context = "Red is warm. Anna sails on Sundays. Ben is asleep."
    assert find_nearby("Who sails on Sundays?", context, 1) == "Anna"
    assert find_nearby("Who is asleep?", context, 1) == "Ben"
    assert find_nearby("what", "", 2) == "" and find_nearby("what", "so", 3) == "so"
    assert usual_length(["a b c", "d", "e f g"]) == 3 and usual_length([]) == 1
