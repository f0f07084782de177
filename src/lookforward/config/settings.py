"""All settings of a run, in groups and by dotted name.

The command line (`--critic.weight 0.5`), recipes (a TOML table for each group) and docs/settings.md read FIELDS.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypedDict, get_args, get_type_hints

from lookforward.config.adapter_group import AdapterSettings
from lookforward.config.groups import (
    DataSettings,
    EvaluationSettings,
    OptimizerSettings,
    RunSettings,
    SubjectSettings,
)
from lookforward.config.methods import BaselineSettings, CriticSettings, ObjectiveSettings
from lookforward.config.model import ModelSettings
from lookforward.config.spec import Spec


@dataclass(frozen=True)
class Settings:
    """All settings of one run. Rates are per step, weights have no unit, lengths are in pixels."""

    subject: SubjectSettings = SubjectSettings()  # noqa: RUF009
    data: DataSettings = DataSettings()  # noqa: RUF009
    model: ModelSettings = ModelSettings()  # noqa: RUF009
    adapter: AdapterSettings = AdapterSettings()  # noqa: RUF009
    optimizer: OptimizerSettings = OptimizerSettings()  # noqa: RUF009
    objective: ObjectiveSettings = ObjectiveSettings()  # noqa: RUF009
    critic: CriticSettings = CriticSettings()  # noqa: RUF009
    baseline: BaselineSettings = BaselineSettings()  # noqa: RUF009
    evaluation: EvaluationSettings = EvaluationSettings()  # noqa: RUF009
    run: RunSettings = RunSettings()  # noqa: RUF009

    @property
    def follows_reward(self) -> bool:
        """Whether the reward influences what is trained."""
        if self.baseline.name != "none":
            return True
        learned = self.critic.name != "none" and self.critic.steps > 0
        return self.critic.weight > 0 and (learned or self.objective.reward_gradient == "direct")

    def flat(self) -> dict[str, Any]:
        """All settings by their dotted names, such as "critic.weight"."""
        return {name: getattr(getattr(self, one.group), one.key) for name, one in FIELDS.items()}

    def changed(self) -> dict[str, Any]:
        """The settings that differ from the defaults, by their dotted names."""
        return {name: value for name, value in self.flat().items() if value != FIELDS[name].default}


@dataclass(frozen=True)
class Field:
    """A setting as checks, command line and docs see it. choices: empty if it can take any value of its kind."""

    group: str
    key: str
    kind: Any
    default: Any
    spec: Spec

    @property
    def name(self) -> str:
        return f"{self.group}.{self.key}"

    @property
    def choices(self) -> tuple[Any, ...]:
        return self.spec.choices or get_args(self.kind)


def _fields() -> Iterator[Field]:
    for group, kind in GROUPS.items():
        kinds = get_type_hints(kind)
        for one in dataclasses.fields(kind):
            yield Field(group, one.name, kinds[one.name], one.default, one.metadata["spec"])


GROUPS: dict[str, Any] = {group.name: group.type for group in dataclasses.fields(Settings)}
FIELDS: dict[str, Field] = {one.name: one for one in _fields()}
"""Every setting by its dotted name."""


class Options(TypedDict, total=False):
    """The settings that change most often, under the short names of the Python and command-line interfaces."""

    model: str | None
    revision: str | None
    reward: str | None
    adapter: str | None
    identifier: str | None
    steps: int | None
    batch_size: int | None
    learning_rate: float | None
    resolution: int | None
    seed: int | None
    device: str | None
    precision: str | None
    auto_batch: bool | None
    start_from: str | None


SHORT = {
    "model": "model.name",
    "revision": "model.revision",
    "reward": "objective.reward",
    "adapter": "adapter.name",
    "identifier": "subject.identifier",
    "class_noun": "subject.class_noun",
    "steps": "run.steps",
    "batch_size": "run.batch_size",
    "learning_rate": "optimizer.learning_rate",
    "resolution": "data.resolution",
    "seed": "run.seed",
    "device": "model.device",
    "precision": "model.precision",
    "report_to": "run.report_to",
    "auto_batch": "run.auto_batch",
    "start_from": "adapter.encoder",
}


def dotted(**options: Any) -> dict[str, Any]:
    """Short options by the dotted names of their settings, without those that are None."""
    return {SHORT.get(name, name): value for name, value in options.items() if value is not None}
