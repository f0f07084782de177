"""How results are shown: pictures side by side, tables of scores, the page, and how certain the scores are."""

from lookforward.report.sheet import comparison_sheet, contact_sheet
from lookforward.report.statistics import Interval, interval

__all__ = ["Interval", "comparison_sheet", "contact_sheet", "interval"]
