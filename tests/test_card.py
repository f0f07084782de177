"""The model card says what an export is, in Markdown and YAML that no name can break."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import save_image
from lookforward import adapters
from lookforward.config.reading import structure
from lookforward.config.settings import FIELDS
from lookforward.exports.card import CARD, SAMPLES, Card, base_name, escape, loading_code
from lookforward.exports.load import manifest_of

ADAPTERS = tuple(spec.name for spec in adapters.ADAPTERS)
NASTY = "<s\"k's>|`*_[x](y)#`` \\ & {} é"


def card_of(folder: Path, **settings: Any) -> str:
    config = structure({"subject.class_noun": "dog", "model.name": "someone/some-model", **settings}, "test")
    Card(manifest_of(config), config, 5).write(folder)
    return (folder / CARD).read_text(encoding="utf-8")


def front_matter(card: str) -> dict[str, Any]:
    """The values between the first two lines of dashes."""
    return yaml.safe_load(card.split("\n---\n")[0])


def unescaped(text: str) -> str:
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)


def test_a_card_tells_the_reward_where_it_was_followed(tmp_path: Path) -> None:
    assert "| `objective.reward` |" not in card_of(tmp_path)
    assert "| `objective.reward` |" not in card_of(
        tmp_path, **{"critic.name": "residual", "critic.weight": 1.0, "critic.steps": 0}
    )
    for followed in (
        {"critic.name": "residual", "critic.weight": 1.0},
        {"objective.reward_gradient": "direct", "critic.weight": 0.3}, {"baseline.name": "draft"},
    ):  # fmt: skip
        assert "| `objective.reward` | dino |" in unescaped(
            card_of(tmp_path, **{"objective.reward": "dino"}, **followed)
        )


def test_what_a_card_tells(tmp_path: Path) -> None:
    card = card_of(tmp_path, **{"optimizer.learning_rate": 3e-4, "objective.discount": 0.9})
    expected = front_matter(card)
    assert expected == {
        "license": "other",
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
        "base_model": "someone/some-model",
        "instance_prompt": "a photo of sks dog",
        "tags": ["text-to-image", "diffusers", "lookforward", "dreambooth"],
    }
    text = unescaped(card)
    for part in (
        "# sks dog\n", "on 5 photos", "Base model: someone/some-model", "Identifier: sks", "Class noun: dog",
        "- a photo of sks dog on the beach",
        "| `optimizer.learning_rate` | 0.0003 |", "| `run.steps` | 1000 |", "| `objective.discount` | 0.9 |",
        "## Consent and use", "must have agreed", "everyone they show", "Do not", "licence of the base model",
    ):  # fmt: skip
        assert part in text, part
    assert "critic.bins" not in text  # at its default
    assert "samples.png" not in text
    assert sorted(path.name for path in tmp_path.iterdir()) == [CARD]


@pytest.mark.parametrize("place", ["/attic/ada/secret/dog", "secret/dog"])
def test_a_card_does_not_tell_where_things_lay(tmp_path: Path, place: str) -> None:
    card = card_of(
        tmp_path,
        **{"model.name": f"{place}/model"},
        **{"subject.photos": f"{place}/photos"},
        **{"run.recipe": f"{place}/mine.toml"},
    )
    assert "attic" not in card
    if place.startswith("/"):
        assert "secret" not in card
        assert front_matter(card)["base_model"] == "model"
        assert "mine.toml" in card


def test_names_cannot_break_it(tmp_path: Path) -> None:
    card = card_of(
        tmp_path,
        **{
            "subject.identifier": NASTY,
            "subject.class_noun": "d|og\\",
            "adapter.name": "lora",
            "run.recipe": "a|b.toml",
        },
    )
    assert front_matter(card)["instance_prompt"] == f"a photo of {NASTY} d|og\\"
    body = card.split("\n---\n", 1)[1]
    (code,) = re.findall(r"^(````*)python\n(.*?)\n\1$", body, re.DOTALL | re.MULTILINE)
    prose = body.replace(code[1], "")
    rest = re.sub(r"^\| `[\w.]+` \|", "| |", prose, flags=re.MULTILINE)  # a setting's name
    rest = re.sub(r"\\[!-/:-@\[-`{-~]", "", rest)  # what Markdown reads as marks
    assert not re.search(r"[<*_{}&]", rest), rest
    assert unescaped(prose).count(f"{NASTY} d|og\\") >= 4
    table = [line for line in rest.splitlines() if line.startswith("|")]
    assert table
    assert {line.count("|") for line in table} == {3}
    calls = [node for node in ast.walk(ast.parse(code[1])) if isinstance(node, ast.Constant)]
    assert f"a photo of {NASTY} d|og\\ on the beach" in [node.value for node in calls]


@pytest.mark.parametrize(
    ("adapter", "call"),
    [
        ("full", 'DiffusionPipeline.from_pretrained("FOLDER")'),
        ("lora", 'pipeline.load_lora_weights("FOLDER")'),
        ("dora", 'pipeline.load_lora_weights("FOLDER")'),
        ("custom-diffusion", 'pipeline.unet.load_attn_procs("FOLDER"'),
        ("textual-inversion", 'pipeline.load_textual_inversion("FOLDER"'),
        ("t-lora", 'load_t_lora(pipeline, "FOLDER")'),
        ("loha", "PeftModel.from_pretrained(module, part.parent)"),
        ("lokr", "PeftModel.from_pretrained(module, part.parent)"),
        ("oft", "PeftModel.from_pretrained(module, part.parent)"),
        ("pivotal", 'pipeline.load_lora_weights("FOLDER")'),
        ("p-plus", 'pipeline.load_word("FOLDER")'),
        ("neti", 'pipeline.load_word("FOLDER")'),
        ("e4t", 'pipeline.load_lora_weights("FOLDER")'),
        ("elite", 'pipeline.load_photo_prompt("FOLDER")'),
    ],
)
def test_each_adapter_tells_how_plain_diffusers_loads_it(tmp_path: Path, adapter: Any, call: str) -> None:
    for model in ("someone/some-model", "toybox"):
        settings = structure({"adapter.name": adapter, "subject.class_noun": "dog", "model.name": model}, "test")
        code = "\n".join(loading_code(manifest_of(settings), "a dog", 5))
        ast.parse(code)
        assert call in code
        assert ("someone/some-model" in code) == (model != "toybox" and adapter != "full")
        assert "num_inference_steps=50, guidance_scale=7.5, height=512, width=512, generator=generator" in code
        assert "manual_seed(5)" in code
    assert adapter in ADAPTERS
    assert front_matter(card_of(tmp_path, **{"adapter.name": adapter}))["tags"][3].replace("_", "-") in (
        adapter,
        "dreambooth",
    )


def test_several_subjects(tmp_path: Path) -> None:
    settings = structure(
        {"adapter.name": "custom-diffusion", "subject.class_noun": "dog", "subject.others": "zwx=cat; ukj=vase"}, "test"
    )
    manifest = manifest_of(settings)
    assert "learned_embeds_3.safetensors" in "\n".join(loading_code(manifest, "x", 0))
    Card(manifest, settings).write(tmp_path)
    text = unescaped((tmp_path / CARD).read_text())
    assert "Another subject: zwx, a cat" in text
    assert "Another subject: ukj, a vase" in text


def test_every_letter_is_one_to_yaml(tmp_path: Path) -> None:
    card = card_of(tmp_path, **{"subject.identifier": "🦊: - #"})
    assert front_matter(card)["instance_prompt"] == "a photo of 🦊: - # dog"


def test_samples_travel_with_it(tmp_path: Path) -> None:
    sheet = save_image(tmp_path / "step-000020.png")
    settings = structure({"subject.class_noun": "dog", "subject.noun_in_prompt": False}, "test")
    (tmp_path / "export").mkdir()
    Card(manifest_of(settings), settings, samples=sheet).write(tmp_path / "export")
    assert (tmp_path / "export" / SAMPLES).read_bytes() == sheet.read_bytes()
    text = (tmp_path / "export" / CARD).read_text()
    assert f"]({SAMPLES})" in text
    assert "a photo of sks on the beach" in unescaped(text)  # the identifier stands for the whole subject
    assert "base_model" not in text  # of Toybox, which no hub has
    Card(manifest_of(settings), settings, samples=tmp_path / "gone.png").write(tmp_path)
    assert SAMPLES not in (tmp_path / CARD).read_text()


def test_every_setting_of_training_is_shown_where_it_is_not_the_default(tmp_path: Path) -> None:
    silent = {
        "subject.photos", "model.device", "model.gradient_checkpointing", "baseline.dpok_micro_batch",
        "run.checkpoint_every", "evaluation.sample_every", "run.export_every", "data.allow_few",
        "model.offload", "model.unload", "model.cache", "evaluation.prompts", "evaluation.watermark", "run.auto_batch",
        "run.shard",
        "model.allow_distilled", "model.name", "subject.identifier", "subject.class_noun", "subject.others",
    }  # fmt: skip
    always = ("adapter.name", "baseline.name", "model.precision")
    for name, one in FIELDS.items():
        others = {bool: not one.default, int: 7, float: 1.5 if name.endswith("guidance") else 0.125, str: "other"}
        other = one.default if one.choices else others.get(one.kind, one.default)
        heard = {"critic.name": "residual", "critic.weight": 1.0} if name == "objective.reward" else {}
        card = unescaped(card_of(tmp_path, **{name: other, **heard}))
        shown = str(other).lower() if isinstance(other, bool) else str(other)
        expected = name not in silent and (other != one.default or name in always)
        assert (f"| `{name}` | {shown} |" in card) == expected, name


def test_words() -> None:
    assert escape("a_b\n c") == r"a\_b c"
    assert unescaped(escape(NASTY)) == NASTY
    assert base_name("owner/name") == "owner/name"
    assert base_name("/a/b/model") == base_name("../model") == "model"


def test_of_a_photo_encoder_only_the_folders_name_is_shown(tmp_path: Path) -> None:
    card = unescaped(card_of(tmp_path, **{"adapter.encoder": "/private/place/dogs"}))
    assert "| `adapter.encoder` | dogs |" in card
    assert "private" not in card
