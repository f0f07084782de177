"""Toybox depends on lookforward of its own version, whatever that version is."""

from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class SameVersion(MetadataHookInterface):
    """Fills in `dependencies`."""

    def update(self, metadata: dict[str, Any]) -> None:
        metadata["dependencies"] = [f"lookforward=={metadata['version']}"]
