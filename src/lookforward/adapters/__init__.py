"""What can be trained: the specs in `specs.py` and `peft_specs.py`, and for each its code in the file of its name."""

from lookforward.adapters.peft_specs import LOHA, LOKR, OFT
from lookforward.adapters.specs import (
    CUSTOM_DIFFUSION,
    DORA,
    ELITE,
    FULL,
    LORA,
    NETI,
    P_PLUS,
    PIVOTAL,
    TEXTUAL_INVERSION,
)
from lookforward.core.specs import AdapterSpec, installed

ADAPTERS: tuple[AdapterSpec, ...] = (
    FULL, LORA, DORA, LOHA, LOKR, OFT, CUSTOM_DIFFUSION, TEXTUAL_INVERSION, PIVOTAL, P_PLUS, NETI, ELITE,
    *installed("lookforward.adapters"),
)  # fmt: skip
