"""BLEU and chrF: what sacrebleu says of a corpus and of its resamples, and what it was asked."""

import random

import numpy as np
import pytest
import sacrebleu

from regard.metrics.translation import bleu, chrf, score, signatures

REFERENCES = ["Insère une nouvelle ligne dans le tableau.", "Supprime la ligne de ce tableau ."]


def test_perfect_translations_score_a_hundred():
    assert score(REFERENCES, REFERENCES) == (100, 100)


def test_scores_are_those_of_sacrebleu():
    written = ["Insère une ligne dans le tableau.", "La ligne de ce tableau est là ."]
    found = score(written, REFERENCES)
    assert 0 < found.bleu < 60
    assert found.bleu == pytest.approx(sacrebleu.corpus_bleu(written, [REFERENCES]).score, abs=0.01)
    assert found.chrf == pytest.approx(sacrebleu.corpus_chrf(written, [REFERENCES]).score, abs=0.01)


def test_signatures_say_how_it_was_counted():
    found = signatures()
    assert "tok:13a" in found["bleu"] and "nrefs:1" in found["bleu"]
    assert "nc:6" in found["chrf"] and "version:" in found["chrf"]


def random_texts(seed, length):
    chosen = random.Random(seed)
    words = ["le", "tableau", "ligne", ".", "(nouvelle)", "l'été", "de", "supprime"]
    return [" ".join(chosen.choices(words, k=chosen.randint(0, 9))) for _ in range(length)]


@pytest.mark.parametrize("seed", range(3))
def test_every_resample_scores_what_sacrebleu_gives_it(seed):
    written, references = random_texts(seed, 30), random_texts(seed + 100, 30)
    weights = np.random.default_rng(seed).integers(0, 3, size=(20, 30))
    ours = {
        one.name: one.of(weights) for one in (bleu(written, references), chrf(written, references))
    }
    for row, counts in enumerate(weights):
        drawn = [place for place, count in enumerate(counts) for _ in range(count)]
        pair = ([written[place] for place in drawn], [[references[place] for place in drawn]])
        assert ours["BLEU"][row] == pytest.approx(sacrebleu.corpus_bleu(*pair).score, abs=1e-9)
        assert ours["chrF"][row] == pytest.approx(sacrebleu.corpus_chrf(*pair).score, abs=1e-9)


@pytest.mark.parametrize(
    ("written", "references"),
    [(["a"], ["b"]), ([""], ["a b"]), (["a b"], [""]), (["a"], ["a"]), (["a b c d"], ["a b x d"])],
)
def test_texts_too_short_to_match_score_what_sacrebleu_gives_them(written, references):
    found = (one(written, references).score().value for one in (bleu, chrf))
    right = (
        one(written, [references]).score for one in (sacrebleu.corpus_bleu, sacrebleu.corpus_chrf)
    )
    assert list(found) == pytest.approx(list(right), abs=1e-9)
