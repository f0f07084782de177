"""Joining a Ray cluster: what can be checked before, and the resources of its machines."""

import importlib.util
import os
import re
import socket
from collections.abc import Mapping
from typing import Any

from lookforward.errors import LookforwardError, first_line

ANSWER_SECONDS = 5.0  # for an address to answer
STORE_BYTES = 80 * 2**20  # for results on a cluster of our own, near Ray's minimum: ours are small
# Read by Ray when it is imported, and by what it starts. The user's own values take precedence.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a warning in every worker without a GPU
}
# Every HTTP/2 server, as Ray's is, answers these with its settings: preface and empty settings, RFC 9113, 3.4
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS = 4


def require_ray(address: str) -> None:
    """Check what can be checked without a connection.

    Raises:
        LookforwardError: Ray is not installed, or the address has a wrong form.
    """
    if address.startswith("ray://"):
        raise LookforwardError(
            f"--ray {address}: addresses of Ray Client cannot be used. "
            "Give the command on one of the cluster's machines, with --ray auto.",
            code="ray-address",
        )
    form = re.fullmatch(r".+:(\d{1,5})", address)
    if address not in ("local", "auto") and (form is None or not 0 < int(form[1]) < 2**16):
        text = f"--ray {address}: give HOST:PORT, such as 10.0.0.1:6379, or auto, or local."
        raise LookforwardError(text, code="ray-address")
    if importlib.util.find_spec("ray") is None:
        raise LookforwardError(
            "--ray needs Ray: pip install ray, or, in a clone, bash tools/install.sh .venv ray for the tested version.",
            code="ray-missing",
        )


def join(address: str, workers: int) -> list[Mapping[str, float]]:
    """Join the cluster, and return the resources of each of its machines.

    address: HOST:PORT; `auto` for the cluster that this machine is part of; `local` starts one with room for so many
    workers on this machine, which ends with this process.

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
        options |= {"num_cpus": cores, "include_dashboard": False, "object_store_memory": STORE_BYTES}
    try:
        ray.init(**options)
    except Exception as error:
        reason = first_line(error)
        raise LookforwardError(
            f"The Ray cluster at --ray {address} cannot be joined: {reason} Give the command on one of its machines; "
            "`ray start --address HOST:PORT` makes this one of them.",
            code="ray-join",
        ) from error
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _require_answer(address: str) -> None:
    """Raise LookforwardError unless something that may be Ray answers soon; Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    reason = ""
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS) as line:
            line.sendall(_PREFACE)
            answer = line.recv(9)
        if len(answer) < 4 or answer[3] != _SETTINGS:
            reason = "what answers there is not Ray; its dashboard has another port"
    except TimeoutError:
        reason = f"it does not answer within {ANSWER_SECONDS:g} s"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise LookforwardError(
            f"There is no Ray cluster at --ray {address}: {reason}. `ray start --head` starts one and prints its "
            "address (port 6379 unless another was given); --ray local starts one on this machine for one command.",
            code="ray-no-cluster",
        )
