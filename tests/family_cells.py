"""The test behind each mark of docs/families.md. A cell without tests is a dash."""

from collections.abc import Mapping

from lookforward.assembly.fit import RESERVE, SIZES
from lookforward.models.families import FAMILIES

Tests = tuple[str, ...]
COLUMNS = (
    "full", "LoRA", "DoRA", "Textual Inversion", "rewards", "critics", "diffusers", "ComfyUI", "merged",
)  # fmt: skip
_RUNS, _MERGES = "test_it_trains_resumes_to_the_same_bits_and_exports", "merges_into_what_it_draws_beside_the_weights"
_LAYOUTS = "tests/test_export_layouts.py::"
_WORDS = "tests/test_adapters_two_encoders.py::"
# The published models of each family, by the names of their files in src/lookforward/models/sizes
MODELS: dict[str, tuple[str, ...]] = {
    "sd": ("sd15",),
    "sd3": ("sd35-medium", "sd35-large"),
    "sdxl": ("sdxl",),
    "flux": ("flux1-dev",),
    "flux2": ("flux2-klein-4b", "flux2-klein-9b"),
    "flux2_dev": ("flux2-dev",),
    "z_image": ("z-image",),
    "qwen_image": ("qwen-image",),
}


def _overfit(family: str, *recipes: str) -> Tests:
    return tuple(f"tests/test_family_overfit.py::test_it_learns_one_photo_by_heart[{family}-{one}]" for one in recipes)


def _cells(family: str, file: str, before: str = "", merges: str = "test_an_adapter_" + _MERGES) -> dict[str, Tests]:
    """Of a family with a file of tests of its own. before: what stands before the kind in a test's brackets."""
    runs = {kind: f"{file}::{_RUNS}[{before}{kind}]" for kind in ("critic", "full", "direct")}
    short = before.removeprefix("make_")
    merged = tuple(f"{file}::{merges}[{short}{adapter}]" for adapter in ("lora", "dora"))
    layout, magnitudes = (
        f"{_LAYOUTS}test_{one}[{family}]"
        for one in (
            "names_and_shapes_are_those_that_comfyui_lists_and_diffusers_draws_the_same",
            "a_doras_magnitudes_have_the_name_and_shape_that_comfyui_reads",
        )
    )
    return {
        "full": (runs["full"], *_overfit(family, "look-forward")),
        "LoRA": (runs["critic"], layout, merged[0]),
        "DoRA": (merged[1], magnitudes),
        "rewards": (*_overfit(family, "look-forward", "dino", "best"),),
        "critics": (runs["critic"], runs["full"]),  # the residual one, and that of state and action
        "diffusers": (runs["critic"], runs["full"]),
        "ComfyUI": (layout, magnitudes),
        "merged": merged,
    }


def _stable_diffusion() -> dict[str, Tests]:
    """The first family, whose tests are spread over those of the adapters."""
    lora, commands = "tests/test_adapters_lora.py::", "tests/test_export_commands.py::"
    return {
        "full": ("tests/test_export.py::test_plain_diffusers_draws_the_same_image_to_the_bit",
                 *_overfit("sd", "look-forward")),
        "LoRA": (f"{lora}test_a_resumed_run_is_the_uninterrupted_one[False-True]",
                 f"{lora}test_plain_diffusers_draws_the_same_image", f"{lora}test_a_whole_run"),
        "DoRA": (f"{lora}test_a_resumed_run_is_the_uninterrupted_one[True-False]",
                 f"{commands}test_kohya_is_one_file[dora]"),
        "Textual Inversion": ("tests/test_adapters_words.py::test_a_resumed_run_is_the_uninterrupted_one",
                              "tests/test_adapters_words.py::test_plain_diffusers_draws_the_same_image"),
        "rewards": _overfit("sd", "look-forward", "dino", "best"),
        "critics": tuple(f"tests/test_buckets.py::test_every_shape_reaches_critic_and_reward[{one}]"
                         for one in ("residual", "state-action")),
        "diffusers": ("tests/test_export.py::test_plain_diffusers_draws_the_same_image_to_the_bit",
                      f"{lora}test_plain_diffusers_draws_the_same_image"),
        "ComfyUI": (f"{commands}test_kohya_is_one_file[lora]", f"{commands}test_kohya_is_one_file[dora]"),
        "merged": tuple(f"{commands}test_a_merged_model_needs_nothing_beside_it[{one}]"
                        for one in ("full", "lora", "dora", "textual-inversion")),
    }  # fmt: skip


def _words(family: str) -> dict[str, Tests]:
    """A word that two text encoders learn."""
    begins = "test_a_word_begins_as_its_initial_word_and_strength_leads_back_to_it"
    draws = "test_plain_diffusers_draws_the_same_with_the_lines_of_the_card"  # of both families
    return {"Textual Inversion": (f"{_WORDS}{begins}[{family}]", f"{_WORDS}{draws}")}


CELLS: Mapping[str, Mapping[str, Tests]] = {
    "sd": _stable_diffusion(),
    "sd3": _cells("sd3", "tests/test_family_sd3.py") | _words("sd3"),
    "sdxl": _cells("sdxl", "tests/test_family_sdxl_training.py", merges=f"test_an_adapter_of_both_encoders_{_MERGES}")
    | _words("sdxl"),
    "flux": _cells("flux", "tests/test_family_flux_training.py"),
    "flux2": _cells("flux2", "tests/test_family_flux2_training.py", "make_klein-"),
    "flux2_dev": _cells("flux2_dev", "tests/test_family_flux2_training.py", "make_dev-"),
    "z_image": _cells("z_image", "tests/test_family_qwen_training.py", "z_image-"),
    "qwen_image": _cells("qwen_image", "tests/test_family_qwen_training.py", "qwen_image-"),
}


def marks(peaks: Mapping[str, float]) -> list[str]:
    """The table of families. peaks: the least GiB that each published model needs, by docs/memory.md."""
    lines = ["| family | " + " | ".join([*COLUMNS, *(f"{size} GB" for size in SIZES)]) + " |"]
    lines.append("|---" * (1 + len(COLUMNS) + len(SIZES)) + "|")
    for family in FAMILIES:
        there = [bool(CELLS[family.name].get(column)) for column in COLUMNS]
        there += [any(peaks[model] <= size - RESERVE for model in MODELS[family.name]) for size in SIZES]
        lines.append(f"| {family.label} | " + " | ".join("✓" if one else "–" for one in there) + " |")
    return lines
