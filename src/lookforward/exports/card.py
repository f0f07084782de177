"""The model card of an export: what it is, how to load it, what it may be used for."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookforward.adapters import ADAPTERS
from lookforward.config.settings import FIELDS, TOYBOX, Settings
from lookforward.core.specs import AdapterSpec, find_spec
from lookforward.data.prompts import SAMPLE_SCENES

CARD = "README.md"
SAMPLES = "samples.png"

# Said elsewhere in the card
_SAID = {"model.name", "subject.identifier", "subject.class_noun", "subject.others"}
_SHOWN_SEED = 1  # of the samples, the one that the card's lines draw
_SHOWN = f"![Images drawn with this model]({SAMPLES})"
_DRAWN = f"\n\nFrom seeds 0, 1, 2, …; with the lines above you draw that of seed {_SHOWN_SEED}."

_CONSENT = """\
The photos behind this model are to be used with the permission of whoever took them and, where they show people, of
everyone in them; animals, homes and belongings are their owners' to agree to. This text does not prove that
permission: whoever passes the model on vouches for it.

- Do not draw a person who has not agreed to being drawn, nor in a way that person would not agree to.
- Do not deceive: say that an image was generated where it could be taken for a photo.
- Do not use it to harass, to impersonate, or for sexual images of real people.
- Delete it, and what was drawn with it, when permission is taken back.

The licence of the base model holds for this one too."""


@dataclass(frozen=True)
class Card:
    """What a card tells. manifest: the export's; settings: of the run, if it is known; samples: a sheet of images.

    merged: what was baked in, where it was. loading: how to load it, Markdown; by plain diffusers where empty.
    """

    manifest: Mapping[str, Any]
    settings: Settings | None = None
    photos: int | None = None
    samples: Path | None = None
    merged: Sequence[str] = ()
    loading: str = ""

    def write(self, folder: Path) -> None:
        """Write README.md, and samples.png where there are samples, into an export.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        samples = self.samples if self.samples is not None and self.samples.is_file() else None
        if samples is not None:
            shutil.copyfile(samples, folder / SAMPLES)
        parts = [
            self._front_matter(),
            f"# {escape(self._title())}\n\n{self._about()}",
            f"## Prompts\n\n{self._prompts()}",
            f"## Loading\n\n{self._loading()}",
            f"## Images\n\n{_SHOWN}{'' if self.loading else _DRAWN}" if samples is not None else "",
            f"## Training\n\n{self._settings()}" if self.settings else "",
            f"## Consent and use\n\n{_CONSENT}",
        ]
        (folder / CARD).write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")

    @property
    def _spec(self) -> AdapterSpec:
        return find_spec(ADAPTERS, self.manifest["adapter"], "adapter")

    @property
    def _subject(self) -> str:
        words = [self.manifest["identifier"]]
        if self.manifest["noun_in_prompt"]:
            words.append(self.manifest["class_noun"])
        return " ".join(word for word in words if word)

    @property
    def _prompt(self) -> str:
        return f"a photo of {self._subject}" if self._subject else "a photo"

    def _title(self) -> str:
        return self._subject or base_name(self.manifest["model"])

    def _front_matter(self) -> str:
        tags = ["text-to-image", "diffusers", "lookforward", self._spec.tag or self._spec.name]
        model = self.manifest["model"]
        lines = [
            "library_name: diffusers",
            "pipeline_tag: text-to-image",
            *([f"base_model: {_quoted(base_name(model))}"] if model != TOYBOX else []),
            f"instance_prompt: {_quoted(self._prompt)}",
            "license: other  # put the base model's licence here: it holds for this model too",
            "tags:",
            *(f"- {_quoted(tag)}" for tag in tags),
        ]
        return "\n".join(["---", *lines, "---"])

    def _about(self) -> str:
        model = self.manifest["model"]
        base = "Toybox, the small model that comes with lookforward" if model == TOYBOX else escape(base_name(model))
        noun = self.manifest["class_noun"]
        photos = f", from {self.photos} photos" if self.photos else ""
        lines = [f"Personalised with lookforward{photos}.", ""]
        lines += [f"- Base model: {base}", f"- What was trained: {self._spec.help}"]
        if self._subject:
            lines += [f"- Identifier: {escape(self.manifest['identifier'])}", f"- Class noun: {escape(noun)}"]
        lines += [f"- Another subject: {escape(other.replace('=', ', a '))}" for other in _others(self.manifest)]
        lines += [f"- Baked in: {escape(told)}" for told in self.merged]
        return "\n".join(lines)

    def _prompts(self) -> str:
        if not self._subject:
            return "Any."
        scenes = ("", " on the beach", " in the snow")
        told = "\n".join(f"- {escape(self._prompt + scene)}" for scene in scenes)
        return f"Call the subject {escape(self._subject)}:\n\n{told}"

    def _loading(self) -> str:
        if self.loading:
            return self.loading
        lines = loading_code(self.manifest, self._prompt + SAMPLE_SCENES[_SHOWN_SEED], _SHOWN_SEED)
        return "With plain diffusers; `FOLDER` is this folder.\n\n" + _fenced("\n".join(lines), "python")

    def _settings(self) -> str:
        assert self.settings is not None
        values, changed = self.settings.flat(), self.settings.changed()
        told = [
            (name, values[name])
            for name, one in FIELDS.items()
            if name not in _SAID and not one.spec.free and (one.spec.headline or name in changed)
            if name != "objective.reward" or self.settings.follows_reward
        ]
        lines = [f"| `{name}` | {escape(_value(name, value))} |" for name, value in told]
        return "\n".join(["| setting | value |", "|---|---|", *lines])


def loading_code(manifest: Mapping[str, Any], prompt: str, seed: int) -> list[str]:
    """Python that loads an export, which lies in the folder FOLDER, and draws the image that lookforward draws."""
    model = manifest["model"]
    base = json.dumps("MODEL" if model == TOYBOX else base_name(model), ensure_ascii=False)
    where = ["# MODEL: the folder that lookforward_toybox.MODEL names"] if model == TOYBOX else []
    as_ours = "DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)"
    ddim = f"pipeline.scheduler = {as_ours}  # as lookforward draws"
    spec = find_spec(ADAPTERS, manifest["adapter"], "adapter")
    kind = "DiffusionPipeline" if spec.pipeline_options else "StableDiffusionPipeline"
    if spec.is_whole_model:  # which holds its scheduler
        lines = ["import torch", f"from diffusers import {kind}", "", f'pipeline = {kind}.from_pretrained("FOLDER")']
    else:
        options = f", {spec.pipeline_options}" if spec.pipeline_options else ""
        lines = [
            "import torch", f"from diffusers import DDIMScheduler, {kind}", "", *where,
            f"pipeline = {kind}.from_pretrained({base}{options})", ddim,
            *spec.usage(1 + len(_others(manifest))),
        ]  # fmt: skip
    steps, guidance, resolution = manifest["sample_steps"], manifest["guidance"], manifest["resolution"]
    size = f", height={resolution}, width={resolution}" if resolution else ""
    call = f"num_inference_steps={steps}, guidance_scale={guidance}{size}, generator=generator"
    asked = json.dumps(prompt, ensure_ascii=False)  # Python reads it as JSON does
    return [
        *lines,
        f"generator = torch.Generator().manual_seed({seed})",
        "image = pipeline(", f"    {asked},", f"    {call},", ").images[0]",
        'image.save("image.png")',
    ]  # fmt: skip


def _others(manifest: Mapping[str, Any]) -> list[str]:
    """Further subjects of a run that had several: "zwx=cat"."""
    return [other.strip() for other in manifest.get("others", "").split(";") if other.strip()]


def base_name(model: str) -> str:
    """A hub id as it is; of a folder its last part: where it lay is nobody's business."""
    return model if re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", model) and not Path(model).is_dir() else Path(model).name


def escape(text: str) -> str:
    """Text that Markdown, in a table too, shows as it is, if it does not begin a line."""
    return re.sub(r"([\\`*_{}\[\]()<>|&#~$!])", r"\\\1", " ".join(text.split()))


def _value(name: str, value: object) -> str:
    if name in ("run.recipe", "objective.decoder") and isinstance(value, str):
        return base_name(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _quoted(text: str) -> str:
    """A YAML string."""
    return json.dumps(text, ensure_ascii=False)  # YAML knows no pairs of escapes for one character


def _fenced(code: str, language: str) -> str:
    longest = max((len(run) for run in re.findall("`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{code}\n{fence}"
