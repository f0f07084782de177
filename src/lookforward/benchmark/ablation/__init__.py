"""One thing varied over one recipe on Toybox: Tables 4 and 5 and Figures 5 and 6 of the paper, and more.

The paper varies γ on one clock and λ of the DINO reward on one toy, a robot; here each is varied on all ten
development subjects. Toybox's clock is a test subject, and its robot is toy-1.
"""

from lookforward.benchmark.ablation.learning import ablation_curves
from lookforward.benchmark.ablation.varied import (
    ABLATIONS,
    Ablation,
    find_ablation,
    method_of,
    plan_ablation,
    with_values,
)
from lookforward.benchmark.ablation.writing import ablation_sheet, write_ablation

__all__ = [
    "ABLATIONS",
    "Ablation",
    "ablation_curves",
    "ablation_sheet",
    "find_ablation",
    "method_of",
    "plan_ablation",
    "with_values",
    "write_ablation",
]
