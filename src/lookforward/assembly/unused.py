"""Find settings that the user gave but that have no effect, and what each would need."""

from collections.abc import Iterator, Mapping
from typing import Any

from lookforward.adapters import ADAPTERS
from lookforward.assembly.environment import find_reward
from lookforward.config.reading import lies_in
from lookforward.config.settings import FIELDS, Settings
from lookforward.config.spec import in_words
from lookforward.core.specs import find_spec
from lookforward.data.subject import Subject
from lookforward.rewards.terms import parse_terms


def unused_settings(settings: Settings, given: Mapping[str, Any], subject: Subject) -> list[str]:
    """Notes of settings that change nothing. given: what the user wrote, by dotted names."""
    return unread_settings(settings, given) + [
        f"{name} = {shown(settings.flat()[name])} changes nothing: {reason}"
        for name, reason in _of_photos(settings, subject)
        if name in given
    ]


def unread_settings(settings: Settings, given: Mapping[str, Any]) -> list[str]:
    """As `unused_settings`, of those that change nothing whatever the photos are."""
    values = settings.flat() | _facts(settings)
    notes = []
    for name in (name for name in FIELDS if name in given):
        missing = [
            need
            for need in FIELDS[name].spec.only_with
            if not (lies_in(values[need[0]], need[1]) if isinstance(need[1], str) else values[need[0]] in need[1])
        ]
        if missing:
            needs = " and ".join(map(in_words, missing))
            notes.append(f"{name} = {shown(values[name])} changes nothing: it needs {needs}")
    return notes


def _facts(settings: Settings) -> dict[str, bool]:
    """What `config.spec.FACTS` names."""
    specs = [find_reward(name) for _, name in parse_terms(settings.objective.reward)]
    return {
        "follows_reward": settings.follows_reward,
        "has_critic_or_direct": settings.critic.name != "none" or settings.objective.reward_gradient == "direct",
        "reward_sees_images": any(spec is None or spec.needs_image for spec in specs),
    }


def _of_photos(settings: Settings, subject: Subject) -> Iterator[tuple[str, str]]:
    """Settings that change nothing for these photos or in so many steps, each with the reason."""
    photos = [photo for one in subject.together for photo in one.photos]
    data = settings.data
    if not any(photo.masks for photo in photos):
        yield "data.background_weight", "no photo has a mask"
    if data.alpha_masks and not any(photo.alphas for photo in photos):
        yield "data.alpha_masks", "no photo is transparent"
    if all(photo.caption for photo in photos):
        yield "data.caption_model", "every photo has a caption"
    if data.describe and (data.caption_model or all(photo.caption for photo in photos)):
        yield "data.describe", "every photo has a caption"
    if data.crops > 1 and all(len(photo.squares) == 1 for photo in photos):
        yield "data.crops", "every photo is square already"
    if settings.objective.prior_weight and find_spec(ADAPTERS, settings.adapter.name, "adapter").only_words:
        yield "objective.prior_weight", "a learned word is all that is trained, and the class's prompt has none"
    asked, steps = settings.evaluation, settings.run.steps
    if asked.every and asked.patience >= -(-steps // asked.every) - 1:
        yield "evaluation.patience", f"only {-(-steps // asked.every)} measurements are made in {steps} steps"
    if settings.run.export_every >= settings.run.steps:
        yield "run.export_every", f"run.steps = {settings.run.steps} ends before, and the last step is exported anyway"


def shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)
