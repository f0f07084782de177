"""One resumable training loop for every stage of Toybox."""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lookforward.errors import LookforwardError
from lookforward.files import write_text
from lookforward_toybox.training.data import hash_data
from lookforward_toybox.training.interrupts import interrupts_held
from lookforward_toybox.training.state import (
    TENSORS,
    load_optimizer,
    load_settings,
    load_state,
    load_weights,
    optimizer_tensors,
    save_state,
)

MAY_CHANGE = {"data", "vae", "clip", "steps", "minutes", "begun_from", "encoder_training"}  # when a stage goes on
_REMEDY = {
    "pictures": "the pictures were drawn again since: delete that folder to train on them",
    "encoder": "stage vae was trained on since: delete that folder to start this stage again on its latents",
}
MUON_RATE = 2.0  # times AdamW's: its updates are less noisy at the same size
Loss = Callable[[int, torch.Generator], dict[str, Tensor]]


@dataclass(frozen=True)
class TrainingSchedule:
    """How long a stage trains, and how fast.

    steps: number of updates; the whole length unless `minutes` is given, then ignored.
    minutes: training time, summed over resumes; the rate follows the clock and training ends with it. On processors
        these are minutes of one core, however many there are and whatever else they do.
    rates: rate multiplier by parameter-name prefix, e.g. {"text.": 0.2}.
    orthogonal: parts of names; the matrices with one of them are updated by Muon (Jordan et al., 2024), which
        orthogonalises the update and scales it to AdamW's size (Liu et al., 2025), all else by AdamW.
    """

    steps: int
    learning_rate: float
    minutes: float | None = None
    warmup: int = 200
    weight_decay: float = 0.01
    ema_decay: float | None = 0.999
    rates: Mapping[str, float] | None = None
    orthogonal: tuple[str, ...] = ()

    def progress(self, step: int, seconds: float) -> float:
        """Fraction done, 0 to 1."""
        done = step / self.steps if self.minutes is None else seconds / (60 * self.minutes)
        return min(1.0, done)

    def rate(self, step: int, progress: float) -> float:
        """Linear warm-up, then a cosine down to 5% of the peak."""
        cosine = 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress))
        return self.learning_rate * min(1.0, (step + 1) / max(1, self.warmup)) * cosine


class Average:
    """Exponential moving average of the trained parameters, with a ramp at the start."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.sources = list(parameters.values())
        self.values = {name: p.detach().clone() for name, p in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.values.values()), [p.detach() for p in self.sources], 1 - decay)


def make_optimizers(parameters: Mapping[str, nn.Parameter], schedule: TrainingSchedule) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon for the matrices that `schedule.orthogonal` names; vectors (biases, norms) do not decay.

    Each group holds `scale`, its share of the rate.
    """
    groups: dict[tuple[bool, float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        scale = next((s for prefix, s in (schedule.rates or {}).items() if name.startswith(prefix)), 1.0)
        decay = schedule.weight_decay if parameter.ndim >= 2 else 0.0
        orthogonal = parameter.ndim == 2 and any(part in name for part in schedule.orthogonal)
        groups.setdefault((orthogonal, scale, decay), []).append(parameter)

    def chosen(wanted: bool) -> list[dict[str, Any]]:
        return [
            {"params": found, "scale": MUON_RATE * scale if wanted else scale, "weight_decay": decay}
            for (orthogonal, scale, decay), found in groups.items()
            if orthogonal == wanted
        ]

    optimizers: list[torch.optim.Optimizer] = []
    if chosen(False):
        optimizers.append(torch.optim.AdamW(chosen(False), lr=schedule.learning_rate, betas=(0.9, 0.99)))
    if chosen(True):
        optimizers.append(torch.optim.Muon(chosen(True), lr=schedule.learning_rate, adjust_lr_fn="match_rms_adamw"))
    return optimizers


def require_same(folder: Path, settings: dict[str, Any]) -> None:
    """Raise LookforwardError if `folder` contains a training with other settings."""
    if (folder / TENSORS).is_file():
        _require_same(folder, load_settings(folder), settings)


def _require_same(folder: Path, then: dict[str, Any], settings: dict[str, Any]) -> None:
    now = json.loads(json.dumps(settings))
    for key in then.keys() & now.keys() - MAY_CHANGE:
        earlier = key == "stage" and "pictures" not in then  # when the decoder's stage was still called vae
        if then[key] != now[key] and not earlier:
            remedy = _REMEDY.get(key, "give the same again, or another folder")
            raise LookforwardError(
                f"{folder} contains a training with other settings ({key}: {then[key]}, now {now[key]}): {remedy}.",
                code="toybox-other-settings",
            )


class Training:
    """What changes while a stage trains, and how it is saved and resumed."""

    def __init__(
        self, folder: Path, module: nn.Module, schedule: TrainingSchedule, seed: int, settings: dict[str, Any]
    ) -> None:
        self.folder, self.module, self.schedule, self.settings = folder, module, schedule, settings
        self.parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self.names: dict[Tensor, str] = {p: n for n, p in self.parameters.items()}
        self.optimizers = make_optimizers(self.parameters, schedule)
        decay = schedule.ema_decay
        self.average = None if decay is None else Average(self.parameters, decay)
        self.generator = torch.Generator().manual_seed(seed)
        self.step, self.seconds = 0, 0.0

    def save(self) -> None:
        tensors = {f"weights.{n}": t for n, t in self.module.state_dict().items()}
        if self.average is not None:
            tensors |= {f"ema.{n}": t for n, t in self.average.values.items()}
        for optimizer in self.optimizers:
            tensors |= optimizer_tensors(optimizer, self.names)
        tensors["generator"] = self.generator.get_state()
        summary = {"step": self.step, "minutes": self.seconds / 60, "settings": self.settings}
        save_state(self.folder, tensors, summary)

    def resume(self) -> None:
        tensors, summary = load_state(self.folder)
        then = summary["settings"]
        _require_same(self.folder, then, self.settings)
        if "begun_from" in self.settings:  # as it was, whatever is given now
            self.settings["begun_from"] = then.get("begun_from", "unknown")
        load_weights(self.module, tensors)
        for optimizer in self.optimizers:
            load_optimizer(optimizer, self.names, tensors)
        if self.average is not None:
            for name, value in self.average.values.items():
                value.copy_(tensors[f"ema.{name}"])
        self.generator.set_state(tensors["generator"])
        self.step, self.seconds = summary["step"], summary["minutes"] * 60
        _forget_after(self.folder / "metrics.jsonl", self.step)

    @property
    def progress(self) -> float:
        return self.schedule.progress(self.step, self.seconds)

    def update(self, terms: dict[str, Tensor]) -> float:
        """One optimizer step on terms["loss"], in place; returns the rate used."""
        if not bool(torch.isfinite(terms["loss"])):
            raise LookforwardError(
                f"The loss is not finite at step {self.step} in {self.folder}. The same again would do the same: "
                "train again with another --seed, in another --folder.",
                code="toybox-diverged",
            )
        rate = self.schedule.rate(self.step, self.progress)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["scale"]
            optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()
        nn.utils.clip_grad_norm_(list(self.parameters.values()), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        if self.average is not None:
            self.average.update(self.step)
        return rate


class Meter:
    """Means of the loss terms, and the speed, since they were last read."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}  # a term need not be in every step
        self.steps, self.since = 0, time.monotonic()

    def add(self, terms: Mapping[str, Tensor]) -> None:
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value.detach())
            self.counts[name] = self.counts.get(name, 0) + 1
        self.steps += 1

    def read(self, batch: int) -> dict[str, float]:
        means = {name: round(total / self.counts[name], 6) for name, total in self.sums.items()}
        speed = self.steps * batch / (time.monotonic() - self.since)
        self.sums, self.counts, self.steps, self.since = {}, {}, 0, time.monotonic()
        return means | {"samples_per_second": round(speed, 2)}


def run_stage(
    *,
    folder: Path,
    module: nn.Module,
    loss: Loss,
    schedule: TrainingSchedule,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    after_update: Callable[[float], None] | None = None,
    batch: int = 1,
    device: str = "cpu",
    autocast: bool = True,
    save_seconds: float = 300,
    log_every: int = 20,
) -> Iterator[dict[str, Any]]:
    """Train `module`, yielding one log row every `log_every` steps; resumes where `folder` left off.

    Args:
        loss: (step, generator) to a dictionary of scalars; "loss" is minimised, all are logged.
        after_update: called with the progress (0 to 1) after each update, e.g. to move a teacher.
        batch: samples per step, for the logged speed only.

    Closing the iterator saves, and so do Ctrl-C and SIGTERM, after the step: who stops early loses nothing.

    Raises:
        LookforwardError: the loss is not finite, or `folder` contains a training with other settings.
        KeyboardInterrupt: stopped by a signal, once the state is saved.
    """
    folder.mkdir(parents=True, exist_ok=True)
    module.to(device).train()
    training = Training(folder, module, schedule, seed, settings or {})
    if (folder / TENSORS).is_file():
        training.resume()
    # On processors the time that they worked for this training: another's load on them does not shorten a stage
    clock = time.process_time if device == "cpu" else time.monotonic
    meter, saved = Meter(), time.monotonic()
    with interrupts_held() as stop:
        try:
            while training.progress < 1.0 and not stop.is_set():
                started = clock()
                with torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=autocast):
                    terms = loss(training.step, training.generator)
                rate = training.update(terms)
                if after_update is not None:
                    after_update(training.progress)
                meter.add(terms)
                training.step += 1
                training.seconds += clock() - started
                if training.step % log_every == 0 or training.progress >= 1.0:
                    row = {"step": training.step, "minutes": round(training.seconds / 60, 3)}
                    row |= meter.read(batch) | {"rate": rate}
                    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as handle:
                        handle.write(json.dumps(row) + "\n")
                    yield row
                if time.monotonic() - saved > save_seconds:
                    training.save()
                    saved = time.monotonic()
        except GeneratorExit:
            training.save()  # the caller stopped between two steps: the state is whole
            raise
        training.save()
        if stop.is_set():
            raise KeyboardInterrupt


def describe(
    stage: str, sizes: dict[str, Any], data: Path, schedule: TrainingSchedule, seed: int, batch: int, **more: Any
) -> dict[str, Any]:
    """The settings that a stage keeps beside its state; `load_settings` has what came of them."""
    return {
        "stage": stage,
        "sizes": sizes,
        "data": str(data.resolve()),
        "pictures": hash_data(data),
        "steps": schedule.steps,
        "minutes": schedule.minutes,
        "learning_rate": schedule.learning_rate,
        "seed": seed,
        "batch": batch,
    } | more


def _forget_after(path: Path, step: int) -> None:
    """Drop logged rows newer than the state that is resumed: they will be logged again."""
    if path.is_file():
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        write_text(path, "".join(line + "\n" for line in lines if 0 <= _step(line) <= step))


def _step(line: str) -> int:
    """The step of a logged line; -1 for one that was cut off when the process was killed."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return -1
