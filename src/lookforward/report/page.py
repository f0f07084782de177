"""One page that tells what a benchmark found: tables, plots, pictures, and what is missing."""

from lookforward.report.data import UNTOUCHED, Benchmark, Method, Problem, Result, Subject
from lookforward.report.writing import write_report

__all__ = ["UNTOUCHED", "Benchmark", "Method", "Problem", "Result", "Subject", "write_report"]
