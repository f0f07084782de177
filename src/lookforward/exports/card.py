"""The model card of an export: what it is, how to load it, what it may be used for. Its text is in `card.md.jinja`."""

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import diffusers
from huggingface_hub import ModelCard, ModelCardData

from lookforward.adapters import ADAPTERS
from lookforward.bundle import BUNDLED, TOYBOX, known_model
from lookforward.config.settings import FIELDS, Settings
from lookforward.core.protocols import Family
from lookforward.core.specs import find_spec
from lookforward.data.prompts import SAMPLE_SCENES
from lookforward.data.subjects import other_subjects
from lookforward.models.families import FAMILIES
from lookforward.models.families.words import loads_words
from lookforward.records import structure
from lookforward.runs.consent import Consent

CARD = "README.md"
SAMPLES = "samples.png"
CURVE = "evaluations.png"
_TEMPLATE = Path(__file__).with_name("card.md.jinja")
_SEED = 1  # of the samples, the one that the card's code draws
# The card says these elsewhere
_ELSEWHERE = {"model.name", "subject.identifier", "subject.class_noun", "subject.others"}


@dataclass(frozen=True)
class ChosenStep:
    """How the step of an export was chosen from those of its run.

    step: the chosen one. last: the run's last. measured: how many steps were. scores: of both, by name. curve: what was
    measured, a matplotlib figure.
    """

    step: int
    last: int
    measured: int
    scores: Mapping[str, tuple[float, float]]
    curve: Any


@dataclass(frozen=True)
class Card:
    """What a card is made from.

    manifest: of the export. settings, photos: of the run, and how many photos it had, if known. samples: a sheet of
    images. merged: what a merged model consists of. loading: how to load it, in Markdown; with diffusers if empty.
    word: what prompts call the subject in the program that it is for, where that is not the identifier. chosen: how the
    step was chosen, if it was.
    """

    manifest: Mapping[str, Any]
    settings: Settings | None = None
    photos: int | None = None
    samples: Path | None = None
    merged: Sequence[str] = ()
    loading: str = ""
    word: str = ""
    chosen: ChosenStep | None = None

    def write(self, folder: Path) -> None:
        """Write README.md, and samples.png if there are samples, to an export.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        has_samples = self.samples is not None and self.samples.is_file()
        if self.samples is not None and has_samples:
            shutil.copyfile(self.samples, folder / SAMPLES)
        subject, model = self.word or subject_of(self.manifest), self.manifest["model"]
        prompt = f"a photo of {subject}" if subject else "a photo"
        spec = find_spec(ADAPTERS, self.manifest["adapter"], "adapter")
        data = ModelCardData(
            library_name="diffusers",
            pipeline_tag="text-to-image",
            base_model=None if model in BUNDLED else base_name(model),
            instance_prompt=prompt,
            license="other",
            tags=["text-to-image", "diffusers", "lookforward", spec.tag or spec.name],
        )
        card = ModelCard.from_template(
            data,
            template_path=str(_TEMPLATE),
            title=escape(subject or base_name(model)),
            photos=self.photos,
            facts=[(name, escape(value)) for name, value in self._facts(spec.help)],
            subject=escape(subject),
            prompts=[escape(prompt + scene) for scene in SAMPLE_SCENES[:3]],
            loading=self.loading,
            code=_fenced("\n".join(loading_code(self.manifest, prompt + SAMPLE_SCENES[_SEED], _SEED))),
            samples=SAMPLES if has_samples else "",
            seed=_SEED,
            settings=self._settings(),
            consent=[replace(one, statement=escape(one.statement)) for one in consent_of(self.manifest)],
            chosen=self.chosen,
            curve=CURVE,
        )
        if self.chosen is not None:
            self.chosen.curve.savefig(folder / CURVE, dpi=110, metadata={"Software": None})
        (folder / CARD).write_text(card.content.rstrip("\n") + "\n", encoding="utf-8")

    def _facts(self, trained: str) -> list[tuple[str, str]]:
        manifest = self.manifest
        toybox = "Toybox, the small model that comes with lookforward"
        toybox += "" if manifest["model"] == TOYBOX else f" ({manifest['model']})"
        facts = [
            ("Base model", toybox if manifest["model"] in BUNDLED else base_name(manifest["model"])),
            *([("Its commit", commit)] if (commit := manifest.get("model_commit")) else []),
            ("What was trained", trained),
        ]
        if subject_of(manifest):
            facts += [("Identifier", manifest["identifier"]), ("Class noun", manifest["class_noun"])]
        facts += [("Another subject", other.replace("=", ", a ")) for other in _others(manifest)]
        return facts + [("Merged in", part) for part in self.merged]

    def _settings(self) -> list[tuple[str, str]]:
        if self.settings is None:
            return []
        values, changed = self.settings.flat(), self.settings.changed()
        return [
            (name, escape(_value(name, values[name])))
            for name, one in FIELDS.items()
            if name not in _ELSEWHERE and not one.spec.free and (one.spec.headline or name in changed)
            if name != "objective.reward" or self.settings.follows_reward
        ]


def consent_of(manifest: Mapping[str, Any]) -> list[Consent]:
    """The statements of consent to the trainings behind an export.

    Raises:
        LookforwardError: they have another shape.
    """
    return structure(manifest.get("consent", []), list[Consent], "lookforward.json", root="$.consent")


def loading_code(manifest: Mapping[str, Any], prompt: str, seed: int) -> list[str]:
    """Python that loads the export in the folder FOLDER and draws the image that lookforward draws."""
    model = manifest["model"]
    spec = find_spec(ADAPTERS, manifest["adapter"], "adapter")
    family = next((one for one in FAMILIES if one.name == manifest.get("family")), FAMILIES[0])
    lacking, tokens = manifest.get("absent"), manifest.get("max_sequence_length")
    lacking = [name for name in sorted(family.optional) if isinstance(lacking, list) and name in lacking]
    absent = "".join(f", {name}=None" for name in lacking)  # diffusers requires these arguments
    if spec.is_whole_model:  # which brings its scheduler
        classes, lines = ["DiffusionPipeline"], [f'pipeline = DiffusionPipeline.from_pretrained("FOLDER"{absent})']
    else:
        words = [manifest["identifier"], *(word for word, _ in other_subjects(manifest.get("others", "")))]
        scheduler = next(iter(family.schedulers.values()))
        options = ", clip_sample=False" if scheduler == "DDIMScheduler" else ""
        base = json.dumps("MODEL" if model in BUNDLED else base_name(model), ensure_ascii=False)
        commit = manifest.get("model_commit")
        base += f', revision="{commit}"' if commit else ""
        pipeline_options = (f", {spec.pipeline_options}" if spec.pipeline_options else "") + absent
        classes = [scheduler, "DiffusionPipeline"]
        bundled = known_model(model)
        lines = [f"# MODEL: the folder that {bundled.constant} names"] if bundled else []
        lines += [
            f"pipeline = DiffusionPipeline.from_pretrained({base}{pipeline_options})",
            f"pipeline.scheduler = {scheduler}.from_config(pipeline.scheduler.config{options})  # as lookforward draws",
            *spec.usage(words, family),
        ]
    prompt = _written_out(prompt, manifest, family)
    steps, guidance, resolution = manifest["sample_steps"], manifest["guidance"], manifest["resolution"]
    guided = ", ".join(f"{name}={value!r}" for name, value in family.drawing(guidance, None).items())
    size = f", height={resolution}, width={resolution}" if resolution else ""
    size += f", max_sequence_length={tokens}" if isinstance(tokens, int) else ""
    return [
        "import torch",
        f"from diffusers import {', '.join(sorted(classes))}",
        "",
        *lines,
        f"generator = torch.Generator().manual_seed({seed})",
        "image = pipeline(",
        f"    prompt={json.dumps(prompt, ensure_ascii=False)},",  # Python reads strings as JSON does
        f"    num_inference_steps={steps}, {guided}{size}, generator=generator,",
        ").images[0]",
        'image.save("image.png")',
    ]


def _written_out(prompt: str, manifest: Mapping[str, Any], family: Family) -> str:
    """The prompt as plain diffusers needs it: with all tokens of a learned word where the pipeline adds none."""
    vectors, word = manifest.get("vectors", 1), manifest["identifier"]
    if vectors == 1 or not family.word_files or loads_words(getattr(diffusers, family.pipeline_class)):
        return prompt
    return prompt.replace(word, " ".join([word, *(f"{word}_{i}" for i in range(1, vectors))]))


def subject_of(manifest: Mapping[str, Any]) -> str:
    """What prompts call the subject of an export: "sks dog"; "" if it has none."""
    words = (manifest["identifier"], manifest["class_noun"] if manifest["noun_in_prompt"] else "")
    return " ".join(word for word in words if word)


def base_name(model: str) -> str:
    """A hub id as it is; of a folder its name alone, since its path is private."""
    return model if re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", model) and not os.path.isdir(model) else Path(model).name


def escape(text: str) -> str:
    """Text that Markdown shows as it is, in a table too, unless it begins a line."""
    return re.sub(r"([\\`*_{}\[\]()<>|&#~$!])", r"\\\1", " ".join(text.split()))


def _others(manifest: Mapping[str, Any]) -> list[str]:
    """Further subjects of the run: "zwx=cat"."""
    return [other.strip() for other in manifest.get("others", "").split(";") if other.strip()]


def _value(name: str, value: object) -> str:
    if name in ("run.recipe", "objective.decoder", "adapter.encoder") and isinstance(value, str):
        return base_name(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _fenced(code: str) -> str:
    longest = max((len(run) for run in re.findall("`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}python\n{code}\n{fence}"
