"""Whether a launcher started several processes for this command, and which of them speaks for all.

`accelerate launch` and torchrun describe the processes in environment variables. Nothing here imports torch.
"""

import os
import sys
from typing import Any


def process_count() -> int:
    """How many processes a launcher started for this command; 1 without one."""
    # A scheduler may set WORLD_SIZE for machines; a launcher of processes sets LOCAL_RANK as well
    return int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1


def speaks_for_all() -> bool:
    """Whether this process, which met an error, is the one to report it: of several only the first.

    Before the processes are joined, all of them meet the same errors, and the first of each machine reports.
    """
    if process_count() == 1:
        return True
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_initialized():
        return os.environ["LOCAL_RANK"] == "0"
    try:
        return distributed.distributed_c10d._get_default_store().add("lookforward/error", 1) == 1
    except RuntimeError:  # the process that kept the store has ended, and has reported why
        return False
