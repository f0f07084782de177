"""Config to objects: the only place that knows both."""

from lookforward.assembly.components import RunComponents, build, check
from lookforward.assembly.evaluators import Evaluators, build_evaluators, build_scores, check_extra_scores

__all__ = ["Evaluators", "RunComponents", "build", "build_evaluators", "build_scores", "check", "check_extra_scores"]
