"""The adapters that an encoder of photos belongs to."""

from lookforward.adapters.specs import late
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
    needs=frozenset({"cross-attention", "learned-words", "one-text-encoder"}),
    dpok=False,
    frozen=frozenset({"denoiser"}),
)
