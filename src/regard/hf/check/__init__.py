"""What every attention of a Hugging Face model must keep to, checked on the model itself."""

from regard.hf.check.report import Report, Row
from regard.hf.check.run import check_model

__all__ = ["Report", "Row", "check_model"]
