"""Metrics: each a value with its counts, an interval by bootstrap, and a verdict on two systems."""

from regard.metrics.answers import answer_f1, exact_match, normalise_answer
from regard.metrics.classes import ClassLine
from regard.metrics.classification import (
    ClassReport,
    accuracy,
    class_report,
    macro_f1,
    micro_f1,
)
from regard.metrics.correlation import pearson, spearman, squared_error
from regard.metrics.likelihood import bits_per_byte, perplexity
from regard.metrics.measure import Measure, Statistic, Tally
from regard.metrics.records import measures_of
from regard.metrics.retrieval import ranks_of, recall_at, reciprocal_rank
from regard.metrics.rouge import rouge
from regard.metrics.score import Interval, Score
from regard.metrics.spans import Span, read_spans
from regard.metrics.tagging import SpanReport, span_f1, span_report, tag_accuracy, tag_report
from regard.metrics.translation import bleu, chrf
from regard.metrics.uncertainty import bootstrap
from regard.metrics.verdict import Verdict, compare, correct, holm

__all__ = [
    "ClassLine", "ClassReport", "Interval", "Measure", "Score", "Span", "SpanReport", "Statistic",
    "Tally", "Verdict", "accuracy", "answer_f1", "bits_per_byte", "bleu", "bootstrap", "chrf",
    "class_report", "compare", "correct", "exact_match", "holm", "macro_f1", "measures_of",
    "micro_f1", "normalise_answer", "pearson", "perplexity", "ranks_of", "read_spans",
    "recall_at", "reciprocal_rank", "rouge", "span_f1", "span_report", "spearman", "squared_error",
    "tag_accuracy", "tag_report",
]  # fmt: skip
