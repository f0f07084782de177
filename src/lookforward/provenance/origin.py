"""What an image is and where it comes from, as XMP metadata that other programs read too.

XMP is the same in PNG, JPEG and WebP. `DigitalSourceType` is IPTC's word for how an image came to be, `AISystemUsed`
and its neighbours those of IPTC Photo Metadata 2025.1; `lookforward:origin` holds all of `Origin` as JSON.
"""

import html
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal
from xml.sax.saxutils import quoteattr

Source = Literal["generated", "composite", "drawn"]
SOURCE_TYPES: Mapping[Source, str] = {
    "generated": "trainedAlgorithmicMedia",
    "composite": "compositeWithTrainedAlgorithmicMedia",  # generated images beside photos
    "drawn": "algorithmicMedia",  # by a program that was not trained
}
_VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_PACKET = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"{attributes}/></rdf:RDF>\
</x:xmpmeta>"""
_MOST_PROMPTS = 2000  # characters of all prompts together in IPTC's own field


@dataclass(frozen=True)
class Origin:
    """Where an image comes from. Of folders it has the name only, since images are shown to others.

    kind: what it shows, such as "image", "sheet" or "samples". source: how it came to be. model, model_hash, adapters,
    run: what drew it. prompts, seeds: of each image in it, in order. settings: of the sampler, or of the run.
    watermark: whether it carries the invisible one. version: of lookforward.
    """

    kind: str
    source: Source = "generated"
    model: str = ""
    model_hash: str = ""
    adapters: list[dict[str, Any]] = field(default_factory=list)
    run: str = ""
    prompts: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    watermark: bool = False
    version: str = field(default_factory=lambda: own_version())

    def xmp(self) -> str:
        """The XMP packet. It is ASCII, and the same for equal origins."""
        record = {name: value for name, value in asdict(self).items() if value}
        attributes = {
            "Iptc4xmpExt:DigitalSourceType": _VOCABULARY + SOURCE_TYPES[self.source],
            "Iptc4xmpExt:AISystemUsed": "lookforward" + (f" with {self.model}" if self.model else ""),
            "Iptc4xmpExt:AISystemVersionUsed": self.version,
            "Iptc4xmpExt:AIPromptInformation": "\n".join(dict.fromkeys(self.prompts))[:_MOST_PROMPTS],
            'xmlns:lookforward="https://pypi.org/project/lookforward/" lookforward:origin': json.dumps(record),
        }
        written = "".join(f" {name}={quoteattr(value)}" for name, value in attributes.items() if value)
        return _PACKET.format(attributes=written).encode("ascii", "xmlcharrefreplace").decode("ascii")


def bare_xmp(source: Source = "generated") -> str:
    """An XMP packet that says how an image came to be, and no more: for thumbnails, and where nothing else may show."""
    return _PACKET.format(attributes=f' Iptc4xmpExt:DigitalSourceType="{_VOCABULARY}{SOURCE_TYPES[source]}"')


def read_xmp(packet: bytes | str) -> tuple[str, dict[str, Any]]:
    """IPTC's word for how an image came to be, and what lookforward wrote of it; "" and {} where it does not say.

    It is read without an XML parser, since packets come from anywhere.
    """
    text = packet.decode("utf-8", "replace") if isinstance(packet, bytes) else packet
    found = re.search(re.escape(_VOCABULARY) + r"(\w+)", text)
    own = re.search(r"""lookforward:origin=(["'])(.*?)\1""", text, re.DOTALL)
    try:
        record = json.loads(html.unescape(own[2])) if own else {}
    except (ValueError, RecursionError):
        record = {}
    return found[1] if found else "", record if isinstance(record, dict) else {}


def own_version() -> str:
    """The version of lookforward; "unknown" in a source tree that is not installed."""
    try:
        return version("lookforward")
    except PackageNotFoundError:
        return "unknown"
