"""From files to splits: what each check finds, what is left out, and that no row is lost."""

import json

import pytest

from regard.data import Plan, load_corpus
from regard.data.check_rows import Limits
from regard.data.fields import Answer
from regard.data.kinds import (
    CLASSIFICATION,
    LANGUAGE_MODELLING,
    PAIRS,
    QUESTION_ANSWERING,
    RETRIEVAL,
    SCORED_PAIRS,
    SUMMARISATION,
    TAGGING,
    TRANSLATION,
)
from regard.data.split import HeldOut
from regard.errors import DataError

TEXTS = [{"text": f"film number {n}", "label": "yes" if n % 2 else "no"} for n in range(40)]


@pytest.fixture
def load(tmp_path):
    """Write records to files by split and carry out a plan for them."""

    def arrange(kind, records, held_out=None, **more):
        records = records if isinstance(records, dict) else {"train": records}
        files = {}
        for split, rows in records.items():
            path = tmp_path / f"{split}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            files[split] = (str(path),)
        held_out = held_out or HeldOut(0, 0)
        corpus = load_corpus(Plan(kind, files, held_out=held_out, **more))
        counts = corpus.report.counts()
        kept = sum(counts[split] for split in ("train", "valid", "test"))
        assert counts["read"] == kept + sum(counts["left_out"].values())
        assert kept == sum(map(len, corpus.splits))
        return corpus

    return arrange


def found(corpus, level="warning"):
    return [(one.check, one.line) for one in corpus.report.findings if one.level == level]


KINDS = [
    (TRANSLATION, {"source": "a", "target": "b"}),
    (SUMMARISATION, {"text": "a b", "summary": "a"}),
    (CLASSIFICATION, {"text": "a", "label": True}),
    (TAGGING, {"tokens": ["a", "b"], "tags": ["O", 1]}),
    (QUESTION_ANSWERING, {"question": "a", "context": "b", "answers": ["b"]}),
    (LANGUAGE_MODELLING, {"text": "a"}),
    (PAIRS, {"first": "a", "second": "b", "label": 1}),
    (SCORED_PAIRS, {"first": "a", "second": "b", "score": "1.5"}),
    (RETRIEVAL, {"query": "a", "passage": "b"}),
]


@pytest.mark.parametrize(("kind", "row"), KINDS, ids=lambda x: getattr(x, "name", ""))
def test_rows_of_every_kind_are_read_and_each_field_may_be_empty_only_with_an_error(
    load, kind, row
):
    corpus = load(kind, [row])
    assert len(corpus.splits.train) == 1 and not corpus.report.errors
    for field in row:
        broken = load(kind, [row, {**row, field: None}])
        assert found(broken, "error") == [("empty", 2)]
        assert f"{field} is empty" in str(broken.report.errors[0])


def test_values_are_what_the_fields_say(load):
    values = [load(kind, [row]).splits.train[0].values for kind, row in KINDS]
    assert values[2]["label"] == "true" and values[6]["label"] == "1" and values[7]["score"] == 1.5
    assert values[3] == {"tokens": ("a", "b"), "tags": ("O", "1")}
    assert values[4]["answers"] == (Answer("b"),)


@pytest.mark.parametrize(
    ("kind", "row", "message"),
    [
        (CLASSIFICATION, {"text": 1, "label": "a"}, "'text' should be text, found int"),
        (CLASSIFICATION, {"text": "a", "label": [1]}, "'label' should be a label, found list [1]"),
        (
            SCORED_PAIRS,
            {"first": "a", "second": "b", "score": "x"},
            "should be a number, found 'x'",
        ),
        (SCORED_PAIRS, {"first": "a", "second": "b", "score": "inf"}, "should be a finite number"),
        (TAGGING, {"tokens": 3, "tags": []}, "'tokens' should be a list of texts, found int"),
        (TAGGING, {"tokens": [None], "tags": ["O"]}, "item 1 should be text, found NoneType"),
        (
            QUESTION_ANSWERING,
            {"question": "a", "context": "b", "answers": 3},
            "should be text or a list of texts, found int",
        ),
        (
            QUESTION_ANSWERING,
            {"question": "a", "context": "b", "answers": {"answer_start": [0]}},
            "should have the keys 'text' and 'answer_start'",
        ),
        (
            QUESTION_ANSWERING,
            {"question": "a", "context": "b", "answers": {"text": ["b"], "answer_start": [0, 1]}},
            "has 1 texts, but 2 starts",
        ),
        (
            QUESTION_ANSWERING,
            {"question": "a", "context": "b", "answers": "b", "start": -1},
            "'start' should be a whole number from 0, found -1",
        ),
    ],
)
def test_value_of_the_wrong_type_is_named(load, kind, row, message):
    (error,) = load(kind, [row]).report.errors
    assert error.check == "type" and message in error.message


def test_rows_that_repeat_or_contradict_others_are_told(load):
    again = [{"text": "Film  number 3", "label": "yes"}, {"text": "film number 4", "label": "yes"}]
    corpus = load(CLASSIFICATION, [*TEXTS, *again])
    assert found(corpus) == [("duplicate", 41), ("conflict", 42)]
    less = load(
        CLASSIFICATION, [*TEXTS, *again], actions={"duplicate": "leave_out", "conflict": "refuse"}
    )
    assert len(less.splits.train) == 40
    assert (found(less, "left out"), found(less, "error")) == (
        [("duplicate", 41)],
        [("conflict", 42)],
    )


def test_query_may_have_several_passages(load):
    rows = [{"query": "a", "passage": "b"}, {"query": "a", "passage": "c"}]
    assert load(RETRIEVAL, rows).report.findings == []
    assert found(load(RETRIEVAL, [*rows, rows[0]])) == [("duplicate", 3)]


def test_leaks_are_told_and_left_out_of_training_alone(load):
    parts = {"train": TEXTS, "valid": TEXTS[:1], "test": [{**TEXTS[0]}, *TEXTS[5:7]]}
    parts["test"][1] = {**TEXTS[5], "text": "FILM number 5"}
    corpus = load(CLASSIFICATION, parts)
    assert found(corpus, "error") == [("leak", 1), ("leak", 1), ("leak", 7)]
    assert found(corpus) == [("near_leak", 6)]
    clean = load(CLASSIFICATION, parts, actions={"leak": "leave_out", "near_leak": "leave_out"})
    assert [len(part) for part in clean.splits] == [37, 0, 3]
    assert clean.report.left_out == {"leak": 3, "near_leak": 1}
    assert not clean.report.errors


def test_rows_held_out_of_training_files_never_leak(load):
    spelled = [{**one, "text": one["text"].upper()} for one in TEXTS]
    corpus = load(CLASSIFICATION, [*TEXTS, *spelled], HeldOut(20, 8, stratify=True))
    assert {one.check for one in corpus.report.findings} == {"duplicate"}
    assert [len(part) for part in corpus.splits] == [52, 8, 20]


def test_groups_stay_together_and_what_they_share_is_told(load):
    rows = [{**one, "author": n % 5} for n, one in enumerate(TEXTS)]
    rows[0]["text"] = rows[1]["text"] = rows[2]["text"] = rows[3]["text"] = rows[4]["text"] = "same"
    corpus = load(
        CLASSIFICATION, rows, HeldOut(0.2, 0), group="author", actions={"leak": "leave_out"}
    )
    authors = [{record.group for record in part} for part in corpus.splits]
    assert len(authors[2]) == 1 and not authors[0] & authors[2]
    assert corpus.report.left_out == {"leak": 4}


def test_misspelled_labels_are_told_and_given_ones_are_not(load):
    rows = [{**one, "label": "positive" if n % 2 else "negative"} for n, one in enumerate(TEXTS)]
    rows[7]["label"], rows[8]["label"] = "postive", "Negative"
    corpus = load(CLASSIFICATION, rows)
    assert sorted(x for x in found(corpus) if x[0] == "typo") == [("typo", 8), ("typo", 9)]
    assert "'postive', once, may be 'positive', 19 times, misspelled" in str(
        next(one for one in corpus.report.findings if one.line == 8)
    )
    assert corpus.labels == ("Negative", "negative", "positive", "postive")
    given = load(CLASSIFICATION, rows, labels=("negative", "positive", "neutral"))
    assert found(given, "error") == [("unknown_label", 8), ("unknown_label", 9)]
    assert found(given) == [("single", 0)] and given.labels[-1] == "neutral"


def test_kinds_of_spans_are_compared_and_not_their_tags(load):
    rows = [{"tokens": ["a", "b", n], "tags": ["B-NAME", "I-NAME", "O"]} for n in "abcdefgh"]
    assert load(TAGGING, rows).report.findings == []
    rows += [{"tokens": ["x", "y"], "tags": ["B-NMAE", "I-NAME"]}]
    assert found(load(TAGGING, rows)) == [("bio", 9), ("typo", 9), ("single", 9)]


@pytest.mark.parametrize(
    ("tags", "broken"),
    [
        ("O B-x I-x", []),
        ("B-x B-x I-x O B-y", []),
        ("I-x O", [1]),
        ("B-x I-y I-y", [2]),
        ("O I-x O I-y", [2, 4]),
    ],
)
def test_spans_begin_before_they_go_on(load, tags, broken):
    words = tags.split()
    row = {"tokens": list("abcdef"[: len(words)]), "tags": words}
    good = {"tokens": ["x"], "tags": ["B-x"]}
    findings = [one for one in load(TAGGING, [good, row]).report.findings if one.check == "bio"]
    assert [f"token {n} " in one.message for n, one in zip(broken, findings, strict=True)] == [
        True
    ] * len(broken)


def test_tags_that_are_no_spans_are_not_taken_for_some(load):
    rows = [{"tokens": ["5", "Elm"], "tags": ["AddressNumber", "In"]}]
    assert not any(one.check == "bio" for one in load(TAGGING, rows * 1).report.findings)


def test_answers_are_found_again_in_the_normalised_context(load):
    context = "  cafe\u0301 and cafe\u0301 "
    answers = {"text": ["cafe\u0301"], "answer_start": [context.rindex("cafe")]}
    row = {"question": "q", "context": context, "answers": answers}
    (record,) = load(QUESTION_ANSWERING, [row], steps=("nfc", "strip")).splits.train
    assert record.values["context"] == "café and café"
    assert record.values["answers"] == (Answer("café", 9),)
    (same,) = load(QUESTION_ANSWERING, [row], steps=()).splits.train
    assert same.values["answers"][0].start == answers["answer_start"][0]


def test_question_without_an_answer_is_allowed_when_asked_for(load):
    row = {"question": "q", "context": "c", "answers": {"text": [], "answer_start": []}}
    assert found(load(QUESTION_ANSWERING, [row]), "error") == [("empty", 1)]
    assert load(QUESTION_ANSWERING, [row], no_answer=True).splits.train[0].values["answers"] == ()


def test_long_rows_are_left_out_or_told(load):
    rows = [{"text": "a " * n, "label": "x"} for n in (2, 5, 9)]
    corpus = load(CLASSIFICATION, rows, limits=Limits(8, 4))
    assert corpus.report.left_out == {"max_words": 1}
    assert ("long", 2) in found(corpus)
    pair = [{"source": "a b", "target": "a b c d"}, {"source": "a", "target": "a b c d e"}]
    assert load(TRANSLATION, pair, limits=Limits(2)).report.left_out == {"max_words": 1}


@pytest.mark.parametrize("text", ["cafÃ© noir", "itâ€™s", "lost \ufffd", "50Â°"])
def test_text_that_went_through_a_wrong_encoding_is_told(load, text):
    assert ("mojibake", 1) in found(load(LANGUAGE_MODELLING, [{"text": text}]))
    assert found(load(LANGUAGE_MODELLING, [{"text": "Ã à la 50°, naïve façade"}])) == []


def test_malformed_rows_are_left_out_when_asked_for(load):
    rows = [*TEXTS, ["no object"], {"txt": "a", "label": "yes"}]
    corpus = load(CLASSIFICATION, rows, actions={"malformed": "leave_out"})
    assert corpus.report.left_out == {"json": 1, "column": 1} and len(corpus.splits.train) == 40
    corpus.report.refuse()


def test_refusal_tells_the_first_few_of_each_check(load):
    rows = [{"text": "", "label": "x"}] * 9 + [{"text": "a"}]
    with pytest.raises(DataError) as caught:
        load(CLASSIFICATION, rows).report.refuse()
    lines = str(caught.value).splitlines()
    assert len(lines) == 7 and lines[-1].endswith("train.jsonl: 4 more of the same (empty)")
    assert "line 10: there is no key 'label'" in lines[0]


def test_several_files_make_one_split_and_one_fingerprint(tmp_path):
    names = []
    for name in ("a", "b"):
        path = tmp_path / f"{name}.tsv"
        path.write_text(f"{name} one\tun\n{name} two\tdeux\n")
        names.append(str(path))
    corpus = load_corpus(Plan(TRANSLATION, {"train": tuple(names)}, held_out=HeldOut(1, 0)))
    assert dict(corpus.report.read) == dict.fromkeys(names, 2)
    assert [len(part) for part in corpus.splits] == [3, 0, 1]
    alone = load_corpus(Plan(TRANSLATION, {"train": tuple(names[:1])}, held_out=HeldOut(0, 0)))
    assert alone.sha256 != corpus.sha256
    swapped = load_corpus(Plan(TRANSLATION, {"train": tuple(names[::-1])}, held_out=HeldOut(1, 0)))
    assert swapped.sha256 != corpus.sha256 and swapped.splits.test == corpus.splits.test
