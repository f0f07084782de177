"""How much memory this process holds, and held at most."""

import resource
import sys
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")


def reset_peak() -> None:
    """Let the peak start again from what is held now, where the system can (Linux), and that of a GPU."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory() -> float:
    """The most memory that this process has held since it began or since `reset_peak`, MiB; the processor's only."""
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except (OSError, ValueError, IndexError):
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def peak_gpu_memory() -> float:
    """The most memory that tensors have held on the GPU since `reset_peak`, MiB; 0 where there is none."""
    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
