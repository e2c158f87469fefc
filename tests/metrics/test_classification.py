"""Accuracy, F1 and reports, beside scikit-learn, and confusion counts by hand."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, classification_report, f1_score

from regard.errors import DataError, UnsupportedError
from regard.metrics import accuracy, class_report, macro_f1, micro_f1, need

RIGHT = ["neg", "neg", "pos", "pos", "pos", "other"]
FOUND = ["neg", "pos", "pos", "pos", "neg", "pos"]


def random_labels(seed, count=40):
    drawn = np.random.default_rng(seed).choice(
        list("abcdef"), size=(2, count), p=[0.4, 0.3, 0.1, 0.1, 0.05, 0.05]
    )
    return drawn[0].tolist(), drawn[1].tolist()


@pytest.mark.parametrize("seed", range(4))
def test_metrics_of_every_resample_are_those_of_scikit_learn(seed):
    found, right = random_labels(seed)
    weights = np.random.default_rng(seed).integers(0, 3, size=(10, 40))
    only = ["a", "c"]
    ours = [
        accuracy(found, right).of(weights),
        macro_f1(found, right).of(weights),
        micro_f1(found, right, only=only).of(weights),
    ]
    for row, counts in enumerate(weights):
        mine, theirs = np.repeat(found, counts), np.repeat(right, counts)
        settings = {"zero_division": 0}
        assert [one[row] for one in ours] == pytest.approx(
            [
                accuracy_score(theirs, mine),
                f1_score(theirs, mine, average="macro", **settings),
                f1_score(theirs, mine, labels=only, average="micro", **settings),
            ]
        )


def test_micro_f1_over_all_classes_is_accuracy():
    assert micro_f1(FOUND, RIGHT).score().value == accuracy(FOUND, RIGHT).score().value == 0.5


def test_report_is_that_of_scikit_learn_with_its_confusion():
    report = class_report(FOUND, RIGHT)
    right = classification_report(RIGHT, FOUND, output_dict=True, zero_division=0)
    for label, line in report.classes.items():
        theirs = right[label]
        assert line == pytest.approx(
            (theirs["precision"], theirs["recall"], theirs["f1-score"], theirs["support"])
        )
    assert report.macro_f1 == pytest.approx(right["macro avg"]["f1-score"])
    assert list(report.classes) == ["neg", "other", "pos"]
    assert report.confusion.tolist() == [[1, 0, 1], [0, 0, 1], [1, 0, 2]]
    assert str(report).splitlines()[1].split() == ["neg", "0.500", "0.500", "0.500", "2"]


def test_labels_set_the_order_and_may_be_absent():
    report = class_report(["b"], ["b"], labels=["z", "b"])
    assert report.classes["z"] == (0, 0, 0, 0) and report.confusion.tolist() == [[0, 0], [0, 1]]
    assert report.macro_f1 == 1


@pytest.mark.parametrize(
    ("found", "right", "labels", "message"),
    [
        (
            ["pso"],
            ["pos"],
            ["pos", "neg"],
            r"^prediction 1 is 'pso', which is not known; did you mean 'pos'\? known: neg, pos$",
        ),
        (
            ["pos"],
            ["negg"],
            ["pos", "neg"],
            r"^reference 1 is 'negg', which is not known; did you mean 'neg'\?",
        ),
        (
            ["a"],
            ["a", "b"],
            None,
            r"^there are 1 predictions and 2 references; each needs the other$",
        ),
        ([], [], None, r"^there are no predictions to score; at least one is needed$"),
        (["a"], [None], None, r"^a label is missing \(None or NaN\); every text needs one$"),
        ([float("nan")], ["a"], None, r"^a label is missing \(None or NaN\)"),
    ],
)
def test_unusable_labels_are_refused(found, right, labels, message):
    for metric in (accuracy, macro_f1, micro_f1, class_report):
        with pytest.raises(DataError, match=message):
            metric(found, right, labels)


def test_unknown_class_to_count_is_refused():
    with pytest.raises(DataError, match=r"^label 1 is 'x', which is not known; known: neg, other"):
        micro_f1(FOUND, RIGHT, only=["x"])


def test_missing_package_is_named_with_its_remedy():
    with pytest.raises(
        UnsupportedError,
        match=r"^this needs the package nowhere; install it with: pip install 'regard\[tas",
    ):
        need.need("nowhere.to.be.found")
