"""One page that tells what a benchmark found: tables, plots, pictures, and what is missing."""

from lookforward.report.page.data import UNTOUCHED, Benchmark, Method, Problem, Result, Subject
from lookforward.report.page.writing import write_report

__all__ = ["UNTOUCHED", "Benchmark", "Method", "Problem", "Result", "Subject", "write_report"]
