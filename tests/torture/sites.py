"""A NaN at each place of a training from which it could spread: nothing of it is saved."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lookforward.errors import LookforwardError
from torture.forked import in_fork
from torture.outcome import Outcome
from torture.world import World

NAN = float("nan")


def _weights(trainer: Any) -> None:
    next(iter(trainer.parameters.values())).data.view(-1)[0] = NAN


def _moment(trainer: Any, name: str) -> None:
    next(iter(trainer.optimizer.state.values()))[name].view(-1)[0] = NAN


def _gradient(trainer: Any) -> None:
    next(iter(trainer.parameters.values())).register_hook(lambda gradient: gradient * NAN)


def _rate(trainer: Any) -> None:
    for group in trainer.optimizer.param_groups:
        group["initial_lr"] = group["lr"] = NAN


def _critic(trainer: Any) -> None:
    next(trainer.critic_updater.critic.parameters()).data.view(-1)[0] = NAN


def _critic_moment(trainer: Any) -> None:
    next(iter(trainer.critic_updater.optimizer.state.values()))["exp_avg_sq"].view(-1)[0] = NAN


def _photos(trainer: Any) -> None:
    trainer.references.latents.mean.fill_(NAN)


def _class_images(trainer: Any) -> None:
    trainer.class_images.latents.mean.fill_(NAN)


SITES: dict[str, Callable[[Any], None]] = {
    "weights": _weights,
    "first moment": lambda trainer: _moment(trainer, "exp_avg"),
    "second moment": lambda trainer: _moment(trainer, "exp_avg_sq"),
    "gradient": _gradient,
    "learning rate": _rate,
    "critic": _critic,
    "critic's moment": _critic_moment,
    "photos": _photos,
    "class images": _class_images,
}


def not_finite(world: World, site: str) -> list[Outcome]:
    """After step 2, which is saved, a NaN; the run must end with a message, and step 2 stay the last that is saved."""
    place = world.new(f"nan-{site.replace(' ', '-')}")
    ended = in_fork(lambda: _train(place, site))
    said = ended.status == 0 and ended.text.startswith("noticed")
    return [Outcome("NaN while training", said, said, not said, ended.traceback, f"{site}: {ended.text[-400:]}")]


def _train(place: Path, site: str) -> None:
    from lookforward.algorithm.trainer import train
    from lookforward.runs.checkpoint import list_checkpoints, load_newest, save_checkpoint
    from tiny import tiny_trainer

    trainer = tiny_trainer(critic="adam")
    list(train(trainer, 2))
    save_checkpoint(trainer, place)
    SITES[site](trainer)
    try:
        list(train(trainer, 4))
        save_checkpoint(trainer, place)
    except LookforwardError as error:
        again = tiny_trainer(critic="adam")
        assert load_newest(again, place)
        assert again.step == 2
        assert len(list_checkpoints(place)) == 1
        assert all(bool(torch.isfinite(value).all()) for value in again.parameters.values())
        print(f"noticed: {error}")
        return
    print("not noticed")
