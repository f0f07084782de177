"""What users of such trainers have lost without a word, and the test that pins what is said or done now.

Rows of `test_inputs` are in tests/data/inputs.toml, and on docs/inputs.md.
"""

from pathlib import Path

import pytest

PINNED = {
    "a.HIF, .ORF, .jxl, .jpe, files without a suffix, folders within such as kohya's `10_sks dog/`": (
        "test_inputs.test_files", "test_cli.test_each_photo_is_named_with_its_prompt_and_mask",
        "test_notes_runs.test_class_images_of_ones_own",
    ),
    "01.TXT, x.caption, 03.jpg.txt, a letter O for a zero, metadata.jsonl": ("test_inputs.test_files",),
    "00-masklabel.png beside photos, blank pictures, cut-outs": ("test_inputs.test_files",),
    "a recipe's learning_rate and steps against the adapter's defaults": (
        "test_inputs.test_settings",
        "test_settings.test_a_recipe_that_chooses_its_adapter_goes_over_what_the_adapter_needs",
        "test_notes_runs.test_settings_of_a_run_for_another_adapter",
    ),
    "--steps 5 beside --run.steps 50": ("test_inputs.test_commands",),
    "critic.weight with DreamBooth, critic.warmup above the steps, a decoder that does not exist": (
        "test_inputs.test_settings", "test_notes.test_settings_that_no_method_of_a_grid_reads",
    ),
    "class noun and identifier that contain one another, class nouns that are a prompt or that nobody can read": (
        "test_inputs.test_words", "test_words.test_words_that_contain_one_another",
    ),
    "desks counted as the identifier and SKS did not": (
        "test_words.test_who_is_the_subject", "test_inputs.test_words",
    ),
    "a caption that is cut before its identifier": ("test_inputs.test_words",),
    "a caption with <SKS> for the learned word <sks>": (
        "test_inputs.test_words", "test_words.test_the_identifier_in_any_case_is_written_in_its_own",
    ),
    "long negative prompts and prompts of score": (
        "test_inputs.test_commands", "test_notes_runs.test_every_subject_is_scored_and_named",
        "test_words.test_texts_that_are_cut",
    ),
    "guidance 0.5, 0, -3, nan and 1e30; numbers of every command": (
        "test_notes_runs.test_notes_on_drawing_in_python", "test_inputs.test_commands",
        "test_notes.test_strengths_at_every_door",
        "test_settings.test_a_wrong_value_is_named_with_what_it_may_be",
    ),
    "sks dog written out in the prompts of a score": (
        "test_words.test_clip_sees_no_identifier_however_it_is_written",
    ),
    "two LoRAs that are both called sks": ("test_notes.test_two_loras_of_one_identifier",),
    "a LoRA's alpha in the metadata alone": ("test_adapters_lora.test_a_reader_without_the_metadata_draws_the_same",),
    "notes of the command line that Python does not give": (
        "test_api.test_python_warns_of_what_the_command_line_prints", "test_notes_runs.test_notes_on_drawing_in_python",
    ),
    "describe is sure of a place that is not there": ("test_describe.test_a_place_that_is_not_likely_is_left_out",),
    "a renamed photo is not the same file": ("test_notes_runs.test_renamed_photos_are_the_same_in_another_order",),
    "a whole folder of fp16 weights is incomplete": ("test_notes.test_a_folder_of_half_precision_alone_is_whole",),
    "a folder of another model's parts has to be downloaded again": ("test_notes.test_an_index_of_another_model",),
    "a mistyped run is looked for on a hub": ("test_notes.test_a_mistyped_run_is_not_looked_for_on_a_hub",),
    "the card for A1111 lists prompts that do not work there": (
        "test_notes.test_the_card_of_a_file_for_a1111_calls_the_word_as_it_is_called_there",
    ),
    "a moved base model of the same hash may draw something else": (
        "test_notes.test_a_moved_base_model_of_the_same_weights_is_the_same",
    ),
    "class images of one's own": ("test_notes_runs.test_class_images_of_ones_own",),
    "a finished run made longer": (
        "test_notes_runs.test_a_finished_run_is_made_longer",
        "test_notes_runs.test_a_run_whose_rate_falls_to_its_end_stays_as_long",
    ),
    "sample prompts of one's own, a sheet of the class images": (
        "test_notes_runs.test_sample_prompts_of_ones_own_and_a_sheet_of_the_class_images",
    ),
    "a whole model as one file": ("test_export_checkpoint.test_the_command",),
    "starting from an earlier LoRA": ("test_adapters_lora.test_a_run_begins_from_an_earlier_lora",),
    "all subjects of a run scored and named": ("test_notes_runs.test_every_subject_is_scored_and_named",),
    "captions by any vision-language model": (
        "test_auto_captions.test_each_photo_without_a_caption_gets_one",
        "test_auto_captions.test_a_model_that_is_asked_in_a_chat",
    ),
    "masks by a segmentation library": ("test_auto_masks.test_a_mask_beside_each_photo",),
}  # fmt: skip


@pytest.mark.parametrize("seen", PINNED)
def test_a_test_pins_it(seen: str) -> None:
    for name in PINNED[seen]:
        module, test = name.split(".")
        text = (Path(__file__).parent / f"{module}.py").read_text(encoding="utf-8")
        assert f"def {test}(" in text, name
