"""A few steps of every family's LoRA, on as many processes as there are."""

from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from jobs import SETTINGS
from lookforward.algorithm.processes import Processes
from lookforward.algorithm.trainer import train
from lookforward.assembly.training import build
from lookforward.config.recipe import load_settings
from lookforward.data.subjects import read_subject
from tiny_families import TINY
from two_processes import faster, join, outcome


def run_family(name: str, photos: Path, processes: Processes, steps: int = 3) -> dict[str, Tensor]:
    """Look Forward with its critic and class images, two photos a step."""
    given = SETTINGS | {
        "model.name": "none", "model.device": "cpu", "adapter.name": "lora", "subject.class_noun": "teapot",
        "subject.photos": str(photos), "run.batch_size": 2, "run.steps": 3, "optimizer.learning_rate": 1e-3,
    }  # fmt: skip
    settings = load_settings("look-forward", given)
    trainer = build(settings, read_subject(photos, settings), TINY[name](), processes=processes).trainer
    return outcome(faster(trainer, 0.01), list(train(trainer, steps)))


def run_families(index: int, port: int, photos: Path, folder: Path) -> None:
    """In a process of its own, of two."""
    from lookforward.assembly.processes import join_processes, leave_processes

    join(index, port)
    processes = join_processes("cpu")
    for name in TINY:
        save_file(run_family(name, photos, processes), folder / f"{name}-{index}.safetensors")
    leave_processes()
