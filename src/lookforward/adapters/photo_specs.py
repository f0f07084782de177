"""The adapters that an encoder of photos belongs to."""

from dataclasses import replace

from lookforward.adapters.specs import PIVOTAL, late
from lookforward.core.specs import AdapterSpec

ELITE = AdapterSpec(
    name="elite",
    label="ELITE",
    help="ELITE: a word, and details of the photos that the cross-attentions read beside it",
    build=late("elite", "build_elite"),
    usage=lambda *_: ['pipeline.load_photo_prompt("FOLDER")'],
    pipeline_options='custom_pipeline="FOLDER/pipeline.py", trust_remote_code=True',
    load=late("elite", "load_photo_prompt"),
    unmergeable="it changes how the attention layers read the prompt",
    defaults={
        "subject": {"identifier": "<sks>"},
        "objective": {"prior_weight": 0.0},  # prompts without the word are drawn as before
        "adapter": {"train_text_encoder": False},
        "optimizer": {"learning_rate": 1e-3},
        "run": {"steps": 300},
        "family": {"toybox": {"optimizer": {"learning_rate": 3e-3}}},
    },
    settings=("adapter.initial_word",),
    learns_word=True,
    replaces=True,
    needs=frozenset({"photo-prompts"}),
    dpok=False,
    frozen=frozenset({"denoiser"}),
)

E4T = replace(
    PIVOTAL,
    name="e4t",
    label="E4T",
    help="E4T: the word and the weight offsets of an encoder, tuned in a few steps",
    defaults={
        "subject": {"identifier": "<sks>"},
        "objective": {"prior_weight": 0.0},
        "adapter": {"train_text_encoder": False, "rank": 4, "alpha": 4.0},
        "optimizer": {"learning_rate": 1e-4, "word_learning_rate": 5e-4},
        "run": {"steps": 15},
        "family": {"toybox": {"optimizer": {"learning_rate": 1e-3, "word_learning_rate": 3e-3}}},
    },
)
