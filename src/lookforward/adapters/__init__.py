"""What can be trained, a spec each; docs/adapters.md has the table."""

from lookforward.adapters.custom_diffusion import CUSTOM_DIFFUSION
from lookforward.adapters.full import FULL
from lookforward.adapters.lora import DORA, LORA
from lookforward.adapters.neti import NETI
from lookforward.adapters.p_plus import P_PLUS
from lookforward.adapters.textual_inversion import TEXTUAL_INVERSION
from lookforward.core.specs import AdapterSpec, installed

ADAPTERS: tuple[AdapterSpec, ...] = (
    FULL, LORA, DORA, CUSTOM_DIFFUSION, TEXTUAL_INVERSION, P_PLUS, NETI, *installed("lookforward.adapters"),
)  # fmt: skip
