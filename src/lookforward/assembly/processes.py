"""Several processes that share one run, started by `accelerate launch`."""

from datetime import timedelta
from typing import Any

from lookforward.algorithm.micro_batches import StepDropout
from lookforward.algorithm.processes import ALONE, Processes
from lookforward.config.methods import COMPARED
from lookforward.config.settings import Settings
from lookforward.errors import LookforwardError
from lookforward.launch import end_with_others, leave_others, process_count
from lookforward.models.load_pipeline import find_device
from lookforward.models.memory import QUANTISED

# The others wait while one draws class images or samples
_PATIENCE = timedelta(hours=6)
_SHARDED = ("full", "lora")


def join_processes(device: str, shard: bool = False) -> Processes:
    """Meet the other processes that a launcher started for this command; without a launcher this process is alone.

    device: the setting `model.device`. Each process gets an accelerator of its own, or all compute on the CPU. shard:
    the setting `run.shard`.

    Raises:
        LookforwardError: the device is one of several accelerators, or cannot be shared by processes.
    """
    count = process_count()
    if count == 1:
        return ALONE
    from accelerate import PartialState
    from accelerate.utils import InitProcessGroupKwargs

    if ":" in device:
        raise LookforwardError(
            f"model.device = {device!r} is one accelerator, and {count} processes need one each: leave it at auto, and "
            "choose with CUDA_VISIBLE_DEVICES.",
            code="processes-device",
        )
    on_cpu = device == "cpu" or (device == "auto" and find_device(device) == "cpu")
    state: Any = PartialState(cpu=on_cpu, **InitProcessGroupKwargs(timeout=_PATIENCE).to_kwargs())
    if state.num_processes != count:
        raise LookforwardError(
            f"{count} processes cannot share a run on {state.device.type}: give --device cpu, or start one process.",
            code="processes-device",
        )
    end_with_others()
    return Processes(state.process_index, count, shard)


def leave_processes() -> None:
    """Close what `join_processes` opened, once nothing is left to do together."""
    if process_count() > 1:
        from accelerate import PartialState

        leave_others()
        PartialState().destroy_process_group()


def check_processes(settings: Settings, processes: Processes) -> None:
    """Whether the processes can share a run of these settings.

    Raises:
        LookforwardError: the batch cannot be shared evenly, or a part of the run works on one process only.
    """
    if settings.run.shard:
        _check_shard(settings, processes)
    if processes.count == 1:
        return
    size = settings.run.batch_size
    if size % processes.count:
        more = -(-size // processes.count) * processes.count
        raise LookforwardError(
            f"run.batch_size = {size} cannot be shared evenly by {processes.count} processes: give --batch-size {more} "
            "or another number of processes. It counts the photos of all of them.",
            code="processes-batch",
        )
    if settings.optimizer.fused:
        raise LookforwardError(
            "optimizer.fused updates weights before the processes have averaged their gradients: set it to false, or "
            "start one process.",
            code="processes-fused",
        )
    if settings.run.auto_batch:
        raise LookforwardError(
            "run.auto_batch cuts the batch of one process, and the others would not know of it: set run.accumulate "
            f"instead, or find it with one process of --batch-size {size // processes.count}.",
            code="processes-auto-batch",
        )
    if settings.baseline.name in COMPARED:
        raise LookforwardError(
            f"baseline.name = {settings.baseline.name!r} compares trajectories with one another, on one process only: "
            "start it without accelerate launch, or take draft.",
            code="processes-dpok",
        )


def _check_shard(settings: Settings, processes: Processes) -> None:
    if processes.count == 1:
        raise LookforwardError(
            "run.shard spreads weights over processes, and this is one: start it with accelerate launch "
            "--num_processes 2, or leave it out, which changes nothing but the memory.",
            code="shard-alone",
        )
    if settings.adapter.name not in _SHARDED:
        raise LookforwardError(
            f"run.shard works with adapter {' or '.join(_SHARDED)}, not {settings.adapter.name}: leave it out.",
            code="shard-adapter",
        )
    if settings.optimizer.eight_bit or settings.model.weights in QUANTISED or settings.model.offload:
        name = "optimizer.eight_bit" if settings.optimizer.eight_bit else "model.offload"
        name = f"model.weights = {settings.model.weights}" if settings.model.weights in QUANTISED else name
        raise LookforwardError(
            f"run.shard and {name} exclude one another, since torch cannot shard such weights: leave one of them out.",
            code="shard-format",
        )


def share_dropout(pipeline: Any, processes: Processes, photos: int) -> StepDropout | None:
    """Let a learned word with nested dropout draw for the samples of all processes and micro-batches, as one process
    would with the whole batch. None: the pipeline has no such word.

    photos: of this process in one forward pass of a baseline; as many class images may follow them.
    """
    draw = getattr(getattr(pipeline, "embedding", None), "draw_keep", None)
    if draw is None:
        return None
    pipeline.embedding.draw_keep = StepDropout(draw, processes, photos)
    return pipeline.embedding.draw_keep
