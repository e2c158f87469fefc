"""Data: rows of any file, checked, normalised and split, with a report that leaves nothing out."""

from regard.data.corpus import Corpus, load_corpus
from regard.data.plan import Plan
from regard.data.read_rows import read_rows
from regard.data.report import DataWarning, Finding, Report
from regard.data.row import BadRow, Row

__all__ = [
    "BadRow", "Corpus", "DataWarning", "Finding", "Plan", "Report", "Row", "load_corpus",
    "read_rows",
]  # fmt: skip
