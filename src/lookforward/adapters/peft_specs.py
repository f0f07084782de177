"""What LoHa, LoKr and OFT are to their users, as `specs.py` says it of other adapters."""

from dataclasses import replace
from typing import Any

from lookforward.adapters.specs import files_for_comfyui, late
from lookforward.core.specs import AdapterSpec

_LOAD_PEFT = [
    "from pathlib import Path",
    "from peft import PeftModel",
    'for part in sorted(Path("FOLDER").glob("*/adapter_config.json")):',
    "    module = getattr(pipeline, part.parent.name)",
    "    setattr(pipeline, part.parent.name, PeftModel.from_pretrained(module, part.parent))",
]


def _defaults(toybox_rate: float) -> dict[str, Any]:
    """Rank, alpha and rate of peft's example for Stable Diffusion; toybox_rate: docs/development.md, tuned there."""
    return {
        "adapter": {"train_text_encoder": False, "rank": 8, "alpha": 8.0},
        "optimizer": {"learning_rate": 1e-4},
        "run": {"steps": 500},
        "family": {
            "toybox": {
                "adapter": {"train_text_encoder": True},
                "optimizer": {"learning_rate": toybox_rate},
                "run": {"steps": 300},
            }
        },
    }


LOHA = AdapterSpec(
    name="loha",
    label="LoHa",
    help="a LoHa: the product of two LoRAs",
    frozen=frozenset({"denoiser", "text encoders"}),
    build=late("loha", "build_loha"),
    usage=lambda *_: list(_LOAD_PEFT),
    load=late("loha", "bake_loha"),
    merge=late("loha", "bake_loha"),
    formats=files_for_comfyui("lycoris", "write_lycoris"),
    defaults=_defaults(5e-3),
    settings=("adapter.rank", "adapter.alpha", "adapter.layers"),
)
LOKR = replace(
    LOHA,
    name="lokr",
    label="LoKr",
    help="a LoKr: Kronecker products",
    build=late("lokr", "build_lokr"),
    load=late("lokr", "bake_lokr"),
    merge=late("lokr", "bake_lokr"),
    defaults=_defaults(1e-2),
    settings=(*LOHA.settings, "adapter.lokr_factor"),
)
OFT = replace(
    LOHA,
    name="oft",
    label="OFT",
    help="OFT: orthogonal changes",
    build=late("oft", "build_oft"),
    load=late("oft", "bake_oft"),
    merge=late("oft", "bake_oft"),
    defaults=_defaults(1e-3),
    formats=(),
    settings=("adapter.layers", "adapter.oft_block_size"),
)
