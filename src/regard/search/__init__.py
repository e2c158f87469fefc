"""The search for modes, without training: a space, children, ranking, studies, proposals."""

from regard.search.admit import Fault, find_faults
from regard.search.children import Children, find_mode_faults
from regard.search.grammar import write_grammar
from regard.search.guide import write_guide
from regard.search.halving import Outcome, Progress, by_all, by_quality, halving
from regard.search.pareto import pareto_order, pareto_ranks
from regard.search.pointer import Refusal
from regard.search.predict import Batch, Cost, predict_cost
from regard.search.proposals import Proposals, parse_proposals, read_proposals
from regard.search.schema import mode_schema
from regard.search.space import Layers, Space
from regard.search.study import Score, Study
from regard.search.traits import find_traits, is_of_family

__all__ = [
    "Batch", "Children", "Cost", "Fault", "Layers", "Outcome", "Progress", "Proposals", "Refusal",
    "Score", "Space", "Study", "by_all", "by_quality", "find_faults", "find_mode_faults",
    "find_traits", "halving", "is_of_family", "mode_schema", "pareto_order", "pareto_ranks",
    "parse_proposals", "predict_cost", "read_proposals", "write_grammar", "write_guide",
]  # fmt: skip
