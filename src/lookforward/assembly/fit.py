"""Find the least costly settings with which a run fits into GPU memory."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from lookforward.adapters import ADAPTERS
from lookforward.assembly.memory import memory_table
from lookforward.config.recipe import load_settings
from lookforward.config.settings import Settings
from lookforward.core.specs import find_spec
from lookforward.core.types import Conditioning
from lookforward.errors import LookforwardError
from lookforward.models.load_pipeline import pipeline_folder
from lookforward.models.memory import Row, Table
from lookforward.models.meta import meta_pipeline

SIZES = (8, 12, 16, 24)
RESERVE = 1.0  # GiB that the driver, its libraries and gaps between tensors take


@dataclass(frozen=True)
class Step:
    """A setting that saves memory. why: what it saves, and what it costs. needs: a package, or "cuda"."""

    setting: str
    value: Any
    why: str
    needs: tuple[str, ...] = ()


# From those that change nothing but time to those that cost precision or much time
LADDER = (
    Step("model.unload", True, "text encoders and autoencoder rest while training; the result is the same"),
    Step("model.gradient_checkpointing", True, "activations are computed twice; the result is the same"),
    Step("model.precision", "bf16", "half of the activations; the forward pass is less precise"),
    Step("model.weights", "bf16", "half of the frozen weights"),
    Step("optimizer.eight_bit", True, "moments in 8 bits", ("bitsandbytes",)),
    Step(
        "model.weights", "int8", "a quarter of the frozen linear layers; their numbers are less precise", ("torchao",)
    ),
    Step("optimizer.fused", True, "one gradient at a time; each is clipped by itself"),
    Step("model.weights", "nf4", "an eighth of the frozen linear layers; less precise", ("bitsandbytes", "cuda")),
    Step("adapter.name", "lora", "gradients and moments of the adapter alone; it trains less"),
    Step("model.offload", True, "layers travel to the device in every step, which takes time"),
)


@dataclass(frozen=True)
class Fit:
    """What was chosen. changes: settings to add to those given. reasons: a sentence each. table: with them."""

    changes: dict[str, Any]
    reasons: tuple[str, ...]
    table: Table


def fit(recipe: str, given: Mapping[str, Any], gigabytes: int) -> Fit:
    """The least costly settings with which a run fits into so many GiB, by arithmetic.

    recipe, given: as of `load_settings`; what is given stays as it is.

    Raises:
        LookforwardError: nothing helps enough; the message says how much is needed.
    """
    return choose(Measure(recipe, given), gigabytes)


def choose(measured: "Measure", gigabytes: float, is_there: Callable[[str], bool] | None = None) -> Fit:
    """The same for a run whose tables may have been made before. is_there: whether a `Step.needs` is met."""
    is_there = is_there or _is_there
    room = int((gigabytes - RESERVE) * 2**30)
    chosen: list[Step] = []
    missing: list[str] = []
    table = measured.table(chosen)
    for step in _with_batches(measured.settings([])):
        if table.peak <= room:
            break
        if not measured.allows(step, chosen):
            continue
        if absent := [name for name in step.needs if not is_there(name)]:
            missing.append(f"{step.setting} = {step.value} ({' and '.join(absent)})")
            continue
        trial = [*(one for one in chosen if one.setting != step.setting), step]
        if (better := measured.table(trial)).peak < table.peak:
            chosen, table = trial, better
    if table.peak > room:
        also = f" Not to be had here: {', '.join(missing)}." if missing else ""
        raise LookforwardError(
            f"This run needs {table.peak / 2**30:.1f} GiB and {RESERVE:g} GiB beside it, more than {gigabytes:g} GB, "
            f"with any settings.{also} Use a larger GPU, a smaller model, or a lower data.resolution.",
            code="does-not-fit",
        )
    for step in chosen[-2::-1]:  # what a later step made needless, the most costly first
        fewer = [one for one in chosen if one is not step]
        if measured.possible(fewer) and (smaller := measured.table(fewer)).peak <= room:
            chosen, table = fewer, smaller
    reasons = tuple(f"{step.setting} = {str(step.value).lower()}: {step.why}" for step in chosen)
    return Fit(measured.changes(chosen), reasons, table)


class Measure:
    """Tables of a run with some steps taken; each is made once, and activations are counted once for each shape.

    Args:
        recipe, given: as of `load_settings`.
        build: the model on the meta device, anew for each table; that of the settings if None.
        prompt: one encoded prompt.
    """

    def __init__(
        self,
        recipe: str,
        given: Mapping[str, Any],
        build: Callable[[], Any] | None = None,
        prompt: Conditioning | None = None,
    ) -> None:
        self.recipe, self.given, self.prompt = recipe, dict(given), prompt
        self._activations: dict[Any, list[Row]] = {}
        self._tables: dict[str, Table] = {}
        model = self.settings([]).model
        self._build = build or partial(meta_pipeline, pipeline_folder(model.name, model.revision))

    def changes(self, steps: list[Step]) -> dict[str, Any]:
        changes = {step.setting: step.value for step in steps}
        if "run.accumulate" in changes:
            changes["run.batch_size"] = 1
        return changes

    def settings(self, steps: list[Step]) -> Settings:
        return load_settings(self.recipe, self.given | self.changes(steps))

    def table(self, steps: list[Step]) -> Table:
        key = str(sorted(self.changes(steps).items()))
        if key not in self._tables:
            found = memory_table(self.settings(steps), self._build(), self.prompt, self._activations)
            self._tables[key] = found
        return self._tables[key]

    def allows(self, step: Step, chosen: list[Step]) -> bool:
        """Whether the user left the setting open, and it can do something."""
        if step.setting in self.given or step.value == self.settings(chosen).flat()[step.setting]:
            return False
        return self.possible([*chosen, step])

    def possible(self, steps: list[Step]) -> bool:
        """Whether the settings of some steps go together."""
        try:
            settings = self.settings(steps)
        except LookforwardError:
            return False
        spec = find_spec(ADAPTERS, settings.adapter.name, "adapter")
        frozen = bool(spec.frozen) or not (settings.adapter.train_text_encoder or spec.learns_word)
        bf16_alone = settings.model.weights == "bf16" and settings.model.precision != "bf16"
        low_without_frozen = settings.model.weights != "fp32" and not frozen
        offloads_trained = settings.model.offload and "denoiser" not in spec.frozen
        return not (bf16_alone or low_without_frozen or offloads_trained)


def _with_batches(settings: Settings) -> tuple[Step, ...]:
    """The ladder, and before it a batch in parts, if there is more than one photo in it."""
    parts = settings.run.batch_size * settings.run.accumulate
    if settings.run.batch_size == 1 or settings.baseline.name != "none":
        return LADDER
    return (
        Step("run.accumulate", parts, f"the {parts} photos of a step one after the other; the result is equal"),
        *LADDER,
    )


def _is_there(needed: str) -> bool:
    return torch.cuda.is_available() if needed == "cuda" else importlib.util.find_spec(needed) is not None
