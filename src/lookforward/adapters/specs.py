"""The adapters as users see them. The code of each is in the file of the same name; docs/adapters.md has the table.

The command line and the settings read this file, so it imports no torch: `late` imports an adapter's code when it is
called.
"""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from lookforward.core.specs import AdapterSpec, ExportFormat


def late(module: str, function: str) -> Callable[..., Any]:
    """A function of `lookforward.adapters.MODULE`, which is imported when the function is called."""
    return lambda *given: getattr(import_module(f"lookforward.adapters.{module}"), function)(*given)


def files_for_comfyui(module: str, function: str) -> tuple[ExportFormat, ExportFormat]:
    """The formats of an adapter that becomes one file by a function of (export, file, subject, family)."""

    def write(export: Path, folder: Path, name: str, subject: str, family: Any) -> None:
        late(module, function)(export, folder / f"{name}.safetensors", subject, family)

    def write_kohya(export: Path, folder: Path, name: str, subject: str, family: Any) -> None:
        late("comfyui", "require_kohya")(family)
        write(export, folder, name, subject, family)

    comfyui = "ComfyUI: put `{name}.safetensors` into `models/loras` and load it with the node LoraLoader."
    a1111 = " A1111: put it into\n`models/Lora` and write `<lora:{name}:1>` in the prompt."
    return ExportFormat("comfyui", write, comfyui), ExportFormat("kohya", write_kohya, comfyui + a1111)


FULL = AdapterSpec(
    name="full",
    label="full",
    help="the whole model (DreamBooth)",
    build=late("full", "build_full"),
    usage=lambda *_: [],
    tag="dreambooth",
)

LORA = AdapterSpec(
    name="lora",
    label="LoRA",
    help="a LoRA",
    build=late("lora", "build_lora"),
    usage=lambda *_: ['pipeline.load_lora_weights("FOLDER")'],
    load=late("lora", "load_lora"),
    merge=late("lora", "merge_lora"),
    formats=files_for_comfyui("comfyui", "write_comfyui"),
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
    settings=("adapter.rank", "adapter.alpha", "adapter.layers", "adapter.start"),
    frozen=frozenset({"denoiser", "text encoders"}),
)
DORA = replace(LORA, name="dora", label="DoRA", help="a DoRA")

T_LORA = AdapterSpec(
    name="t-lora",
    label="T-LoRA",
    help="a T-LoRA: a LoRA whose rank falls with the noise",
    build=late("t_lora", "build_t_lora"),
    usage=lambda *_: ["from lookforward.adapters.t_lora import load_t_lora", 'load_t_lora(pipeline, "FOLDER")'],
    load=late("t_lora", "load_t_lora"),
    unmergeable="its rank depends on the timestep",
    defaults={  # the authors' for SDXL
        "adapter": {"train_text_encoder": False, "rank": 64},
        "optimizer": {"learning_rate": 1e-4, "weight_decay": 1e-4},
        "run": {"steps": 800},
        "family": {
            "toybox": {"adapter": {"rank": 16}, "optimizer": {"learning_rate": 2e-3}, "run": {"steps": 300}},
        },
    },
    settings=("adapter.rank", "adapter.min_rank", "adapter.rank_power", "adapter.layers"),
    frozen=frozenset({"denoiser", "text encoders"}),
)


_load_words = late("textual_inversion", "usage")

CUSTOM_DIFFUSION = AdapterSpec(
    name="custom-diffusion",
    label="Custom Diffusion",
    help="Custom Diffusion: keys and values of the cross-attentions, and a learned word",
    build=late("custom_diffusion", "build_custom_diffusion"),
    usage=lambda words, family: [*late("custom_diffusion", "usage")(family), *_load_words(words, family)],
    load=late("custom_diffusion", "load_custom_diffusion"),
    merge=late("custom_diffusion", "load_custom_diffusion"),
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
    needs=frozenset({"cross-attention", "learned-words", "one-text-encoder"}),
    dpok=False,
)


WORDS_BESIDE = (
    " The word is in the other file: ComfyUI takes it in `models/embeddings`, where a prompt calls it\n"
    "`embedding:NAME`, A1111 in `embeddings`."
)


def _with_words(lora: ExportFormat) -> ExportFormat:
    """The same, and the files of the words."""

    def write(export: Path, folder: Path, name: str, subject: str, family: Any) -> None:
        lora.write(export, folder, name, subject, family)
        late("textual_inversion", "write_single_words")(export, folder)

    return replace(lora, write=write, loading=lora.loading + WORDS_BESIDE)


TEXTUAL_INVERSION = AdapterSpec(
    name="textual-inversion",
    label="Textual Inversion",
    help="Textual Inversion: a learned word",
    build=late("textual_inversion", "build_textual_inversion"),
    usage=_load_words,
    load=late("textual_inversion", "load_words"),
    merge=late("textual_inversion", "load_words"),
    formats=(
        ExportFormat(
            "a1111",
            lambda export, folder, *_: late("textual_inversion", "write_single_words")(export, folder),
            "ComfyUI: put the file into `models/embeddings` and write `embedding:NAME` in the prompt, NAME being that "
            "of the file\nwithout its ending. A1111: put it into `embeddings` and write NAME.",
            named_by_file=True,
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
    only_words=True,
    needs=frozenset({"learned-words"}),
    dpok=False,
    tag="textual_inversion",
    frozen=frozenset({"denoiser"}),
)

PIVOTAL = AdapterSpec(
    name="pivotal",
    label="Pivotal tuning",
    help="Pivotal tuning: a learned word together with a LoRA",
    build=late("pivotal", "build_pivotal"),
    usage=lambda words, family: [*LORA.usage(words, family), *_load_words(words, family)],
    load=late("pivotal", "load_pivotal"),
    merge=late("pivotal", "merge_pivotal"),
    formats=tuple(_with_words(one) for one in LORA.formats),
    defaults={  # the rates of LoRA and of Textual Inversion, both as diffusers trains them
        "subject": {"identifier": "<sks>"},
        "adapter": {"train_text_encoder": False, "rank": 4, "alpha": 4.0},
        "optimizer": {"learning_rate": 1e-4, "word_learning_rate": 5e-4},
        "run": {"steps": 500},
        "family": {
            "toybox": {
                "adapter": {"rank": 8, "alpha": 8.0},
                "optimizer": {"learning_rate": 2e-3, "word_learning_rate": 1e-2},
                "run": {"steps": 300},
            }
        },
    },
    settings=("adapter.rank", "adapter.alpha", "adapter.layers", "adapter.initial_word", "adapter.vectors"),
    learns_word=True,
    needs=frozenset({"learned-words"}),
    dpok=False,
    frozen=frozenset({"denoiser"}),
)

P_PLUS = AdapterSpec(
    name="p-plus",
    label="P+",
    help="P+: a learned word with an embedding for each cross-attention",
    build=late("p_plus", "build_p_plus"),
    usage=lambda *_: ['pipeline.load_word("FOLDER")'],
    pipeline_options='custom_pipeline="FOLDER/pipeline.py", trust_remote_code=True',
    load=late("p_plus", "load_p_plus"),
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
    only_words=True,
    several_subjects=False,
    needs=frozenset({"cross-attention", "learned-words", "one-text-encoder"}),
    dpok=False,
    frozen=frozenset({"denoiser"}),
)
NETI = replace(
    P_PLUS,
    name="neti",
    label="NeTI",
    help="NeTI: a learned word whose embedding depends on timestep and layer",
    build=late("neti", "build_neti"),
    load=late("neti", "load_neti"),
    defaults={
        **P_PLUS.defaults,
        "optimizer": {"learning_rate": 1e-3},
        "run": {"steps": 1000, "batch_size": 8},
        "family": {"toybox": {"optimizer": {"learning_rate": 3e-3}, "run": {"steps": 300, "batch_size": 4}}},
    },
    settings=("adapter.initial_word", "adapter.neti_width", "adapter.neti_bypass", "adapter.neti_dropout"),
)
