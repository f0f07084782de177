"""What each adapter is to its users; its code stands in the file of the same name, and docs/adapters.md has the table.

The command line and the settings read this file, so it imports no torch: `_late` imports an adapter's code when it is
called.
"""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from lookforward.core.specs import AdapterSpec, ExportFormat


def _late(module: str, function: str) -> Callable[..., Any]:
    """A function of `lookforward.adapters.MODULE`, which is imported when the function is called."""
    return lambda *given: getattr(import_module(f"lookforward.adapters.{module}"), function)(*given)


def _one_file(function: str) -> Callable[[Path, Path, str, str, Any], None]:
    """A function of `lookforward.adapters.comfyui`, to write what `ExportFormat` does."""
    write = _late("comfyui", function)
    return lambda export, folder, name, *rest: write(export, folder / f"{name}.safetensors", *rest)


FULL = AdapterSpec(
    name="full",
    label="full",
    help="the whole model (DreamBooth)",
    build=_late("full", "build_full"),
    usage=lambda _: [],
    tag="dreambooth",
)

LORA = AdapterSpec(
    name="lora",
    label="LoRA",
    help="a LoRA",
    build=_late("lora", "build_lora"),
    usage=lambda _: ['pipeline.load_lora_weights("FOLDER")'],
    load=_late("lora", "load_lora"),
    merge=_late("lora", "merge_lora"),
    formats=(
        ExportFormat(
            "comfyui",
            _one_file("write_comfyui"),
            "ComfyUI: put `{name}.safetensors` into `models/loras` and load it with the node LoraLoader, beside the\n"
            "base model and its text encoders.",
        ),
        ExportFormat(
            "kohya",
            _one_file("write_kohya"),
            "ComfyUI: put `{name}.safetensors` into `models/loras` and load it with the node LoraLoader. A1111: put it "
            "into\n`models/Lora` and write `<lora:{name}:1>` in the prompt.",
        ),
    ),
    defaults={  # as diffusers' train_dreambooth_lora trains it
        "adapter": {"train_text_encoder": False, "rank": 4, "alpha": 4.0},
        "optimizer": {"learning_rate": 1e-4},
        "run": {"steps": 500},
        "family": {
            "toybox": {
                "adapter": {"train_text_encoder": True, "rank": 8, "alpha": 8.0},
                "optimizer": {"learning_rate": 2e-3},
                "run": {"steps": 300},
            }
        },
    },
    settings=("adapter.rank", "adapter.alpha"),
    frozen=frozenset({"denoiser", "text encoders"}),
)
DORA = replace(LORA, name="dora", label="DoRA", help="a DoRA")


def _load_words(words: int) -> list[str]:
    """The lines that load so many learned words."""
    files = ["learned_embeds.safetensors", *(f"learned_embeds_{i}.safetensors" for i in range(2, words + 1))]
    return [f'pipeline.load_textual_inversion("FOLDER", weight_name="{file}")' for file in files]


CUSTOM_DIFFUSION = AdapterSpec(
    name="custom-diffusion",
    label="Custom Diffusion",
    help="Custom Diffusion: keys and values of the cross-attentions, and a learned word",
    build=_late("custom_diffusion", "build_custom_diffusion"),
    usage=lambda words: [*_late("custom_diffusion", "usage")(), *_load_words(words)],
    load=_late("custom_diffusion", "load_custom_diffusion"),
    merge=_late("custom_diffusion", "load_custom_diffusion"),
    defaults={  # as diffusers trains it: 1e-5 for each photo and class image of a step
        "subject": {"identifier": "<new1>"},
        "data": {"class_images": 200},
        "adapter": {"initial_word": "ktn"},
        "optimizer": {"learning_rate": 4e-5},
        "run": {"steps": 250, "batch_size": 2},
        "family": {
            "toybox": {
                "data": {"class_images": 32},
                "adapter": {"initial_word": "zwx"},
                "optimizer": {"learning_rate": 1e-3},
                "run": {"steps": 300, "batch_size": 1},
            }
        },
    },
    settings=("adapter.initial_word",),
    learns_word=True,
    replaces=True,
    needs=frozenset({"cross-attention", "learned-words"}),
    dpok=False,
)

TEXTUAL_INVERSION = AdapterSpec(
    name="textual-inversion",
    label="Textual Inversion",
    help="Textual Inversion: a learned word",
    build=_late("textual_inversion", "build_textual_inversion"),
    usage=_load_words,
    load=_late("textual_inversion", "load_words"),
    merge=_late("textual_inversion", "load_words"),
    formats=(
        ExportFormat(
            "a1111",
            lambda export, folder, *_: _late("textual_inversion", "write_single_words")(export, folder),
            "ComfyUI: put the file into `models/embeddings` and write `embedding:NAME` in the prompt, NAME being that "
            "of the file\nwithout its ending. A1111: put it into `embeddings` and write NAME.",
        ),
    ),
    defaults={  # as diffusers trains it: the word alone, 5e-4 for each photo of a step
        "subject": {"identifier": "<sks>", "noun_in_prompt": False},
        "objective": {"prior_weight": 0.0},
        "optimizer": {"learning_rate": 2e-3, "weight_decay": 0.01},
        "run": {"steps": 3000, "batch_size": 4},
        "family": {"toybox": {"optimizer": {"learning_rate": 1e-2}, "run": {"steps": 300, "batch_size": 1}}},
    },
    settings=("adapter.initial_word", "adapter.vectors"),
    learns_word=True,
    needs=frozenset({"learned-words"}),
    dpok=False,
    tag="textual_inversion",
    frozen=frozenset({"denoiser"}),
)

P_PLUS = AdapterSpec(
    name="p-plus",
    label="P+",
    help="P+: a learned word with an embedding for each cross-attention",
    build=_late("p_plus", "build_p_plus"),
    usage=lambda _: ['pipeline.load_word("FOLDER")'],
    pipeline_options='custom_pipeline="FOLDER/pipeline.py", trust_remote_code=True',
    load=_late("p_plus", "load_p_plus"),
    unmergeable="its word looks different to each layer",
    defaults={  # no prior preservation; the word stands for the subject
        "subject": {"identifier": "<sks>", "noun_in_prompt": False},
        "adapter": {"train_text_encoder": False},
        "optimizer": {"learning_rate": 5e-3},
        "objective": {"prior_weight": 0.0},
        "run": {"steps": 500, "batch_size": 8},
        "family": {"toybox": {"optimizer": {"learning_rate": 1e-2}, "run": {"steps": 300, "batch_size": 4}}},
    },
    settings=("adapter.initial_word",),
    learns_word=True,
    several_subjects=False,
    needs=frozenset({"cross-attention", "learned-words"}),
    dpok=False,
    frozen=frozenset({"denoiser"}),
)
NETI = replace(
    P_PLUS,
    name="neti",
    label="NeTI",
    help="NeTI: a learned word whose embedding depends on timestep and layer",
    build=_late("neti", "build_neti"),
    load=_late("neti", "load_neti"),
    defaults={
        **P_PLUS.defaults,
        "optimizer": {"learning_rate": 1e-3},
        "run": {"steps": 1000, "batch_size": 8},
        "family": {"toybox": {"optimizer": {"learning_rate": 3e-3}, "run": {"steps": 300, "batch_size": 4}}},
    },
    settings=("adapter.initial_word", "adapter.neti_width", "adapter.neti_bypass", "adapter.neti_dropout"),
)
