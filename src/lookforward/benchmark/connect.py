"""Joining a Ray cluster, and how many workers have room on it."""

import importlib.util
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lookforward.errors import LookforwardError

PATIENCE = 5.0  # seconds for an address to answer
STORE = 80 * 2**20  # bytes that a cluster of our own keeps for results, near Ray's least: ours are small
# Read by Ray when it is imported, and by what it starts. Whoever set one wants it so.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a warning in every worker without a GPU
}
# What every HTTP/2 server, as Ray's is, answers with settings: the protocol's preface and empty settings, RFC 9113, 3.4
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS = 4


@dataclass(frozen=True)
class Seats:
    """How many workers, and the GPUs and cores that each of them asks for."""

    workers: int
    gpus: int
    cores: int


def require_ray(address: str) -> None:
    """Check what can be checked without a connection.

    Raises:
        LookforwardError: Ray is not installed, or the address is none.
    """
    if address.startswith("ray://"):
        raise LookforwardError(
            f"--ray {address}: addresses of Ray Client cannot be used. "
            "Give the command on one of the cluster's machines, with --ray auto."
        )
    if address not in ("local", "auto"):
        form = re.fullmatch(r".+:(\d{1,5})", address)
        if form is None or not 0 < int(form[1]) < 2**16:
            raise LookforwardError(f"--ray {address}: give HOST:PORT, such as 10.0.0.1:6379, or auto, or local.")
    if importlib.util.find_spec("ray") is None:
        raise LookforwardError(
            "--ray needs Ray: pip install ray, or, in a clone, bash tools/install.sh .venv ray, for the tested version."
        )


@contextmanager
def joined(address: str, workers: int) -> Iterator[list[Mapping[str, float]]]:
    """Be part of a cluster while the block runs; gives the resources of each of its machines.

    address: HOST:PORT; `auto` for the cluster that this machine is part of; `local` starts one on this machine with
    room for so many workers, and ends it.

    Raises:
        LookforwardError: Ray is not installed, or the cluster does not answer.
    """
    require_ray(address)
    if address not in ("local", "auto") and os.environ.get("RAY_USE_TLS", "0") == "0":
        _require_answer(address)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        cores = max(os.cpu_count() or 1, workers)
        options |= {"num_cpus": cores, "include_dashboard": False, "object_store_memory": STORE}
    try:
        ray.init(**options)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise LookforwardError(
            f"The Ray cluster at --ray {address} cannot be joined: {reason} Give the command on one of its machines; "
            "`ray start --address HOST:PORT` makes this one of them."
        ) from error
    try:
        yield [node["Resources"] for node in ray.nodes() if node["Alive"]]
    finally:
        ray.shutdown()


def find_seats(machines: Sequence[Mapping[str, float]], workers: int | None) -> Seats:
    """Room for as many workers as were asked for, at most one a GPU, or one a core where there is no GPU.

    machines: the resources of each. workers: None for one a GPU, or one a machine where there is no GPU.

    Raises:
        LookforwardError: the cluster has neither.
    """
    gpus = sum(int(machine.get("GPU", 0)) for machine in machines)
    if gpus:
        return Seats(min(workers or gpus, gpus), 1, 0)
    cores = [int(machine.get("CPU", 0)) for machine in machines if machine.get("CPU", 0) >= 1]
    if not cores:
        raise LookforwardError("The Ray cluster has neither GPUs nor cores for workers: add machines to it.")
    count = min(workers or len(cores), sum(cores))
    # The greatest share with which all of them have room, each on one machine
    share = max(s for s in range(1, max(cores) + 1) if sum(c // s for c in cores) >= count)
    return Seats(count, 0, share)


def _require_answer(address: str) -> None:
    """Ray itself would wait for minutes.

    Raises:
        LookforwardError: nothing answers there, or something else than Ray.
    """
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE) as line:
            line.sendall(_PREFACE)
            answer = line.recv(9)
    except TimeoutError as error:
        raise _no_cluster(address, f"it does not answer within {PATIENCE:g} s") from error
    except OSError as error:
        raise _no_cluster(address, error.strerror or str(error)) from error
    if len(answer) < 4 or answer[3] != _SETTINGS:
        raise _no_cluster(address, "what answers there is not Ray; its dashboard has another port")


def _no_cluster(address: str, reason: str) -> LookforwardError:
    return LookforwardError(
        f"There is no Ray cluster at --ray {address}: {reason}. `ray start --head` starts one and tells its address "
        "(the port is 6379 unless another was given); --ray local starts one on this machine for the one command."
    )
