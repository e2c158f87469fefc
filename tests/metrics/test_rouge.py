"""ROUGE, beside the reference package, on random texts and on those of our own pages."""

import random
from pathlib import Path

import pytest
from rouge_score.rouge_scorer import RougeScorer

from regard.errors import DataError
from regard.metrics import rouge
from regard.metrics.rouge import NAMES, overlaps

REFERENCE_NAMES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
WORDS = ["running", "runs", "the", "cat's", "x", "Hello", "flies", "a1", "été", "\n", ".", "\n\n"]


def random_pairs(count):
    chosen = random.Random(5)
    for _ in range(count):
        yield tuple(" ".join(chosen.choices(WORDS, k=chosen.randint(0, 30))) for _ in range(2))


def real_pairs(count):
    pages = sorted((Path(__file__).parents[2] / "docs").glob("*.md"))
    parts = [part for page in pages for part in page.read_text("utf-8").split("\n\n")]
    chosen = random.Random(6)
    for _ in range(count):
        one, other = chosen.choice(parts)[:300], chosen.choice(parts)[:300]
        # So that some of it is shared, in order.
        yield one, other + one[chosen.randint(0, len(one)) :]


@pytest.mark.parametrize("stemmer", [False, True], ids=["plain", "stemmed"])
@pytest.mark.parametrize("pairs", [random_pairs, real_pairs])
def test_overlaps_are_those_of_the_reference_package(pairs, stemmer):
    scorer = RougeScorer(REFERENCE_NAMES, use_stemmer=stemmer)
    for summary, reference in pairs(150):
        right, found = scorer.score(reference, summary), overlaps(summary, reference, stemmer)
        for theirs, ours in zip(REFERENCE_NAMES, NAMES, strict=True):
            assert found[ours] == pytest.approx(tuple(right[theirs]), abs=1e-12), (summary, ours)


def test_score_is_the_mean_of_the_best_f_over_references():
    found = rouge(["the cat sat", "a dog"], [["no", "the cat sat down"], "a cat"])
    # 2 · 1 · 3/4 / (7/4) = 6/7 of the first, 1/2 of the second.
    assert found["ROUGE-1"].score().value == pytest.approx((6 / 7 + 1 / 2) / 2)
    assert found["ROUGE-2"].score().value == pytest.approx((4 / 5 + 0) / 2)


def test_lines_in_another_order_lower_l_but_not_lsum():
    found = overlaps("second line\nfirst thing", "first thing\nsecond line")
    assert found["ROUGE-Lsum"].f1 == 1 and found["ROUGE-L"].f1 == 0.5


@pytest.mark.parametrize(
    ("summaries", "references", "message"),
    [
        (["a"], [], "there are 1 summaries and 0 references; each needs the other"),
        ([], [], "there are no summaries to score; at least one is needed"),
        (["a"], [[]], "summary 1 has no reference; at least one is needed"),
        (["a", 3], ["a", "b"], "summary 2 is int, not text"),
        (["a"], [["b", None]], "of summary 1, reference 2 is NoneType, not text"),
        ("ab", "ab", "a list of summaries and one of references are needed, found one text"),
    ],
)
def test_unusable_texts_are_refused(summaries, references, message):
    with pytest.raises(DataError, match=f"^{message}$"):
        rouge(summaries, references)
