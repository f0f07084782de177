"""The tables of docs/memory.md: what published models need, by arithmetic on the meta device.

python benchmarks/memory.py [MODEL …] > tables.md
"""

import json
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lookforward.assembly.fit import SIZES, Measure, Step, choose
from lookforward.errors import LookforwardError
from lookforward.models.meta import known_pipeline, known_prompt, known_sizes

GIVEN = {"adapter.name": "lora", "adapter.rank": 16, "adapter.train_text_encoder": False, "subject.class_noun": "dog"}
COLUMNS = {
    "bf16": {"model.weights": "bf16"},
    "int8": {"model.weights": "int8"},
    "nf4": {"model.weights": "nf4"},
    "int8, offloaded": {"model.weights": "int8", "model.offload": True},
    "nf4, offloaded": {"model.weights": "nf4", "model.offload": True},
}
SHARED = {"model.precision": "bf16", "model.gradient_checkpointing": True, "model.unload": True}
SHORT = {
    "model.unload": "unload", "model.gradient_checkpointing": "checkpointing", "model.precision": "bf16 computing",
    "model.offload": "offload", "optimizer.eight_bit": "8-bit moments", "optimizer.fused": "fused",
}  # fmt: skip


def measure_of(size: Mapping[str, Any], folder: Path) -> Measure:
    """Of a LoRA with recipe look-forward, without class images; the folder says of which family the model is."""
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": size["pipeline"]}))
    given = GIVEN | {"model.name": str(folder), "data.resolution": size["resolution"]}
    given |= {"objective.prior_weight": 0.0}
    return Measure("look-forward", given, partial(known_pipeline, size), known_prompt(size))


def sizes_row(size: Mapping[str, Any], measured: Measure) -> str:
    """Parameters, and GiB in training for each column; in brackets, while encoding and drawing."""
    tables = [
        measured.table([Step(name, value, "") for name, value in (SHARED | changes).items()])
        for changes in COLUMNS.values()
    ]
    cells = [f"{table.training / 2**30:.1f} ({table.drawing / 2**30:.1f})" for table in tables]
    parts = {row.part: row.parameters / 1e9 for row in tables[0].rows}
    counts = [f"{parts[name]:.2f}" for name in ("denoiser, frozen", "text encoders, frozen") if name in parts]
    link = f"[{size['label']}]({size['source']})"
    return f"| {link} | {size['resolution']} | {' | '.join([*counts, *cells])} |"


def fit_row(size: Mapping[str, Any], measured: Measure) -> str:
    """What is chosen for each size of GPU, if every package is installed."""
    cells = []
    for gigabytes in SIZES:
        try:
            changes = choose(measured, gigabytes, is_there=lambda _: True).changes
        except LookforwardError:
            cells.append("–")
            continue
        names = [f"{v} weights" if k == "model.weights" else SHORT[k] for k, v in changes.items()]
        cells.append(", ".join(names) or "as it is")
    return f"| {size['label']} | {' | '.join(cells)} |"


def main(names: list[str]) -> None:
    known = known_sizes()
    first = "| model | pixels | denoiser, 10⁹ | text encoders, 10⁹ | "
    sizes = [first + " | ".join(COLUMNS) + " |", "|---" * (4 + len(COLUMNS)) + "|"]
    fits = ["| model | " + " | ".join(f"{one} GB" for one in SIZES) + " |", "|---" * 5 + "|"]
    with tempfile.TemporaryDirectory() as folder:
        measured = {name: measure_of(known[name], Path(folder) / name) for name in names or known}
        for name, one in measured.items():
            sizes.append(sizes_row(known[name], one))
            print(sizes[-1], file=sys.stderr, flush=True)
        for name, one in measured.items():
            fits.append(fit_row(known[name], one))
            print(fits[-1], file=sys.stderr, flush=True)
    print(*sizes, "", *fits, sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
