"""Cheaper attention at equal quality: which heads of a trained model can do with less.

Leaves to others: putting programs into a model (`hf.apply`), kernels (`backends`).
"""

from regard.hf.cheaper.pieces import Pieces, cut
from regard.hf.cheaper.report import Cheaper
from regard.hf.cheaper.run import cheapen

__all__ = ["Cheaper", "Pieces", "cheapen", "cut"]
