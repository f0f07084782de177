"""What is shown in the end: pictures side by side, tables of scores, and how sure one can be of them."""

from lookforward.report.sheet import comparison_sheet, contact_sheet
from lookforward.report.statistics import Interval, interval, paired_interval
from lookforward.report.table import Rows, markdown_table, score_table

__all__ = [
    "Interval",
    "Rows",
    "comparison_sheet",
    "contact_sheet",
    "interval",
    "markdown_table",
    "paired_interval",
    "score_table",
]
