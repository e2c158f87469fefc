"""Scores: what sacrebleu says, and what it was asked."""

import pytest
import sacrebleu

from regard.tasks.scores import score, signatures

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
