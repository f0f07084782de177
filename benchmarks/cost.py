"""What a training step costs by count, which no other program on the machine changes.

    python benchmarks/cost.py --output cost.json
    python benchmarks/cost.py --recipes dreambooth dino --set critic.every=3 --steps 3
    python benchmarks/cost.py --model FOLDER --recipes dreambooth look-forward --yardstick …/train_dreambooth_sd3.py

For each recipe, on the bundled model or a pipeline folder, with one photo and one class image: calls of the denoiser,
floating point operations (PyTorch's counter), reads of tensors by the host, each of which waits for a GPU, and
operations that the optimizers launch. `train` checks the norm of the weights after each step, which is one read more.
"""

import argparse
import json
import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

RECIPES = (
    "dreambooth", "look-forward", "dino", "look-forward+dino", "text", "released", "state-action", "best",
    "dreambooth-output", "dco", "rpo", "t-lora",
)  # fmt: skip
READS = ("item", "tolist", "cpu", "__bool__", "__float__", "__int__", "__index__")


class Launches(TorchDispatchMode):
    """Counts the operations of optimizers."""

    def __init__(self) -> None:
        super().__init__()
        self.count, self._within = 0, False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += self._within
        return func(*args, **(kwargs or {}))

    @contextmanager
    def watching(self) -> Iterator[None]:
        def enter(*_: Any) -> None:
            self._within = True

        def leave(*_: Any) -> None:
            self._within = False

        hooks = [register_optimizer_step_pre_hook(enter), register_optimizer_step_post_hook(leave)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


@contextmanager
def counting_reads() -> Iterator[list[str]]:
    """Within it, each read of a tensor's numbers by the host is listed by its method."""
    found: list[str] = []

    def counted(name: str) -> Any:
        own = getattr(Tensor, name)

        def call(self: Tensor, *args: Any, **kwargs: Any) -> Any:
            found.append(name)
            return own(self, *args, **kwargs)

        return call

    with ExitStack() as stack:
        for name in READS:
            stack.enter_context(mock.patch.object(Tensor, name, counted(name)))
        yield found


def step_cost(trainer: Any) -> dict[str, int]:
    """Counts of the trainer's next step; the first step also sets up the optimizers, so take one before."""
    calls = 0

    def note(*_: Any) -> None:
        nonlocal calls
        calls += 1

    hook = trainer.policy.denoiser.register_forward_hook(note)
    launches = Launches()
    try:
        with FlopCounterMode(display=False) as flops, launches.watching(), launches, counting_reads() as reads:
            trainer.take_step(trainer)
    finally:
        hook.remove()
    return {
        "denoiser calls": calls,
        "flops": flops.get_total_flops(),
        "reads": len(reads),
        "optimizer launches": launches.count,
    }


def recipe_cost(recipe: str, photos: Path, steps: int = 1, **changes: Any) -> dict[str, float]:
    """Counts of a recipe's second step, or the mean of as many from there on."""
    from own_step import own_trainer

    trainer = own_trainer(photos, recipe, 1 + steps, {"data.class_images": 1, "data.class_image_steps": 1} | changes)
    trainer.take_step(trainer)
    found = []
    for _ in range(steps):
        trainer.step += 1
        found.append(step_cost(trainer))
    return {name: sum(one[name] for one in found) / steps for name in found[0]} if steps > 1 else found[0]


def main() -> None:
    import tempfile

    from sides import find_side, script_arguments
    from step import make_photos
    from timing import Place, python

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    parser.add_argument(
        "--model", default="toybox-sd", help="a bundled model, or a pipeline folder of SD1's or SD3's kind"
    )
    parser.add_argument("--yardstick", type=Path, help="path of diffusers' script, whose operations are counted too")
    parser.add_argument("--set", nargs="*", default=[], metavar="SETTING=VALUE", help="beside each recipe, as JSON")
    parser.add_argument("--steps", type=int, default=1, help="whose mean is taken")
    parser.add_argument("--output", type=Path, help="JSON file")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    changes = {name: json.loads(value) for name, value in (one.split("=", 1) for one in asked.set)}
    with tempfile.TemporaryDirectory() as name:
        photos, class_images = make_photos(Path(name))
        side = find_side(asked.model, Path(name))
        model, found = side.settings, dict[str, dict[str, float]]()
        if asked.yardstick:
            given = script_arguments(side, photos, class_images, Path(name) / "output", 6)
            noted = python("yardstick.py", "--flops", asked.yardstick, *given, place=Place())
            found[side.script] = {"flops": statistics.median(noted["flops"])}
        rows = side.own(asked.recipes)
        found |= {name: recipe_cost(recipe, photos, **given) for name, (recipe, given) in rows.items()}
        if changes:
            more = " ".join(asked.set)
            mine = {one: recipe_cost(one, photos, asked.steps, **model | changes) for one in asked.recipes}
            found |= {f"{one}, {more}": cost for one, cost in mine.items()}
        elif "look-forward" in found:
            found["look-forward, run.plain"] = recipe_cost("look-forward", photos, **model | {"run.plain": True})
    _show(found)
    if asked.output is not None:
        asked.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _show(found: dict[str, dict[str, float]]) -> None:
    first = next(iter(found.values()))
    print(
        "| recipe | denoiser calls | 10⁹ operations | ratio | reads | optimizer launches |",
        "|---|---:|---:|---:|---:|---:|",
        sep="\n",
    )
    for recipe, one in found.items():
        counts = [f"{one[n]:.4g}" if n in one else "" for n in ("denoiser calls", "reads", "optimizer launches")]
        cells = counts[0], f"{one['flops'] / 1e9:.3f}", f"{one['flops'] / first['flops']:.4f}", *counts[1:]
        print(f"| {recipe} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
