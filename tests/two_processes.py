"""Runs on two processes that know of each other: what each of them does, and how they are started."""

import os
import socket
import sys
from collections.abc import Callable
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from conftest import make_pipeline
from errors import raises
from lookforward.adapters.layered_words import LayeredWordAdapter
from lookforward.adapters.neti import NetiNetwork
from lookforward.algorithm.processes import Processes
from lookforward.algorithm.returns import Target
from lookforward.algorithm.trainer import Trainer, train
from lookforward.assembly.processes import share_dropout
from lookforward.baselines.draft import Draft
from lookforward.baselines.sampler import Sampler
from lookforward.baselines.step import BaselineStep
from lookforward.core.types import StepResult
from lookforward.models.policy import DiffusionPolicy
from tiny import paying, pipeline_trainer, seeded, tiny_trainer

STEPS = 5
PATIENCE = 250  # seconds


def residual(processes: Processes) -> Trainer:
    """Look Forward through the released critic, with class images and a trained text encoder."""
    return faster(tiny_trainer(bins=20, environment=paying(processes=processes)), 0.01)


def monte_carlo(processes: Processes) -> Trainer:
    """Later rewards at random, and further batches of the critic."""
    environment = paying(processes=processes, stride=100)
    target = Target("monte-carlo", 0.999, 3)
    return faster(tiny_trainer(1, critic="state-action", target=target, environment=environment, bins=5, steps=3))


def bootstrap(processes: Processes) -> Trainer:
    """A target network, along the policy's own steps; the prompts are kept."""
    environment = paying(processes=processes, stride=100, transition="policy")
    target = Target("bootstrap", 0.999)
    return faster(
        tiny_trainer(2, critic="state-action", target=target, environment=environment, bins=5, train_text_encoder=False)
    )


def accumulated(processes: Processes) -> Trainer:
    """Two micro-batches a step, each of which the processes share."""
    trainer = faster(tiny_trainer(4, bins=20, environment=paying(processes=processes)), 0.01)
    trainer.batch_size, trainer.accumulate = 4, 2
    return trainer


def accumulated_steps(processes: Processes) -> Trainer:
    """Micro-batches, and further batches of the critic with later rewards at random."""
    environment = paying(processes=processes, stride=100)
    target = Target("monte-carlo", 0.999, 3)
    trainer = faster(tiny_trainer(5, critic="state-action", target=target, environment=environment, bins=5, steps=2))
    trainer.batch_size, trainer.accumulate = 4, 2
    return trainer


def neti(processes: Processes) -> Trainer:
    """A learned word with nested dropout, in micro-batches, with class images and a critic."""
    pipeline = make_pipeline()
    policy = DiffusionPolicy(pipeline)
    network = NetiNetwork(16, 0.2, 0.5, seeded(7))
    adapter = LayeredWordAdapter("<sks>", "vase", network, changes_prompts=False)
    trainer = pipeline_trainer(policy, adapter, "a photo of <sks>", class_images=True)
    critic = tiny_trainer(6, bins=20)
    trainer.critic_updater, trainer.objective = critic.critic_updater, critic.objective
    trainer.environment, trainer.adapter_generator = paying(processes=processes), network.generator
    trainer.dropout = share_dropout(pipeline, processes, 2)
    trainer.batch_size, trainer.accumulate = 4, 2
    return faster(trainer, 0.01)


def draft(processes: Processes) -> Trainer:
    """DRaFT-LV, whose noise is drawn for copies of each sample."""
    trainer = tiny_trainer(3, critic="none", environment=paying(processes=processes))
    trainer.take_step = BaselineStep(Draft(Sampler(3), noises=2), trainer.batch_size)
    return trainer


CASES: dict[str, Callable[[Processes], Trainer]] = {
    one.__name__: one for one in (residual, monte_carlo, bootstrap, accumulated, accumulated_steps, neti, draft)
}


def faster(trainer: Trainer, rate: float = 1e-3) -> Trainer:
    """With a critic that learns enough in a few steps for a difference to show."""
    assert trainer.critic_updater is not None
    for group in trainer.critic_updater.optimizer.param_groups:
        group["lr"] = rate
    return trainer


def outcome(trainer: Trainer, results: list[StepResult]) -> dict[str, Tensor]:
    """Weights, critic with its running averages, random streams and metrics."""
    tensors = {f"policy/{name}": tensor.detach() for name, tensor in trainer.parameters.items()}
    if trainer.critic_updater is not None:
        tensors |= {f"critic/{name}": value for name, value in trainer.critic_updater.critic.state_dict().items()}
    tensors |= {name: getattr(trainer, name).get_state() for name in ("generator", "critic_generator")}
    for result in results:
        tensors |= {f"{result.step}/{name}": torch.tensor(value) for name, value in result.terms.items()}
    return {name: tensor.double() for name, tensor in tensors.items()}


def run_case(name: str, processes: Processes, whole: bool = False) -> dict[str, Tensor]:
    """whole: without micro-batches."""
    trainer = CASES[name](processes)
    trainer.accumulate = 1 if whole else trainer.accumulate
    return outcome(trainer, list(train(trainer, STEPS)))


def join(index: int, port: int) -> None:
    """As a launcher would describe this process, of two."""
    torch.set_num_threads(1)
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "RANK": str(index),
        "LOCAL_RANK": str(index),
        "LOCAL_WORLD_SIZE": "2",
    }


def run_cases(index: int, port: int, folder: Path) -> None:
    """In a process of its own: every case, and what only processes can show of `Processes` itself."""
    from lookforward.assembly.processes import join_processes, leave_processes

    join(index, port)
    processes = join_processes("cpu")
    for name in CASES:
        save_file(run_case(name, processes), folder / f"{name}-{index}.safetensors")
    save_file(unused_gradients(processes), folder / f"gradients-{index}.safetensors")
    processes.require_same("a", "letter")
    with raises("processes-differ", "letter", "0, 1"):
        processes.require_same(index, "letter")
    leave_processes()


def unused_gradients(processes: Processes) -> dict[str, Tensor]:
    """Of three parameters one has a gradient in every process, one in the second alone, one in none."""
    parameters = [torch.nn.Parameter(torch.zeros(2)) for _ in range(3)]
    used = parameters[: 1 + processes.index]
    sum((one * (1.0 + processes.index)).sum() for one in used).backward()  # pyright: ignore[reportAttributeAccessIssue]
    processes.average_gradients(parameters)
    return {str(i): one.grad for i, one in enumerate(parameters) if one.grad is not None}


def command(index: int, port: int, arguments: list[str], place: Path) -> None:
    """The command line in a process of its own, which writes what it says into files."""
    from lookforward.cli import main

    join(index, port)
    os.environ["LOOKFORWARD_CACHE"] = str(place / "cache")
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(place / f"{name}-{index}", os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    sys.path.insert(0, str(place))
    main(arguments)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def both(context: ForkServerContext, target: Callable[..., None], *arguments: Any) -> list[ForkServerProcess]:
    """Start a function in two processes that know of each other."""
    port = free_port()
    started = [context.Process(target=target, args=(i, port, *arguments), daemon=True) for i in range(2)]
    for process in started:
        process.start()
    return started


def codes(processes: list[ForkServerProcess]) -> list[int | None]:
    for process in processes:
        process.join(PATIENCE)
    return [process.exitcode for process in processes]
