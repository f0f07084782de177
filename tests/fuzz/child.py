"""`python -m fuzz.child GROUP FINDINGS OPTIONS…`: one group in atheris, which notes each finding once and goes on."""

import re
import sys
import traceback
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from fuzz.common import CORPUS, Contacted, attempt, corpus
from fuzz.mutate import mutate

_OURS = f"{Path('src', 'lookforward')}"


class Findings:
    """Inputs whose outcome was wrong: the shortest one of each error at each line."""

    def __init__(self, folder: Path, group: str) -> None:
        self.folder, self.group = folder, group
        self.shortest: dict[str, int] = {}

    def add(self, error: BaseException, data: bytes) -> None:
        """Keep the input beside the traceback, unless a shorter one had the same outcome."""
        frames = traceback.extract_tb(error.__traceback__)
        ours = [one for one in frames if _OURS in one.filename] or frames
        where = f"{Path(ours[-1].filename).stem}-{ours[-1].lineno}"
        name = re.sub(r"[^\w.-]", "-", f"{self.group}-{type(error).__name__}-{where}")
        if len(data) >= self.shortest.get(name, len(data) + 1):
            return
        if name not in self.shortest:
            print(f"FINDING {name}: {str(error)[:200]!r}", flush=True)
        self.shortest[name] = len(data)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_bytes(data)
        text = "".join(traceback.format_exception(error))
        (self.folder / f"{name}.txt").write_text(text[-8000:], errors="backslashreplace")


def warmed(group: str) -> ModuleType:
    """The group's module, once it has read its corpus, so that all it imports is instrumented."""
    module = import_module(f"fuzz.{group}")
    for path in corpus(group):
        attempt(module.READERS, path.read_bytes())
    return module


def words_of(group: str) -> list[str]:
    """What inputs may consist of: names in the corpus, and for settings all of their names and choices."""
    texts = b" ".join(path.read_bytes()[1:] for path in corpus(group))
    words = set(re.findall(rb"[A-Za-z_][\w.-]{2,40}", texts))
    if group == "settings":
        from lookforward.config.settings import FIELDS

        for name, one in FIELDS.items():
            words |= {part.encode() for part in (name, *name.split("."), *map(str, one.choices or ()))}
    return [f'"{word.decode("ascii", "replace")}"' for word in sorted(words)[:2000]]


def main() -> None:
    import atheris  # pyright: ignore[reportMissingImports]

    group, findings, *options = sys.argv[1:]
    kept = Findings(Path(findings), group)
    fuzzer: Any = atheris
    with fuzzer.instrument_imports(include=["lookforward", "tomllib"], enable_loader_override=False):
        module = warmed(group)
    words = Path(findings).with_name(f"{group}.dict")
    words.parent.mkdir(parents=True, exist_ok=True)
    words.write_text("\n".join(words_of(group)) + "\n")

    def one(data: bytes) -> None:
        try:
            module.TestOneInput(data)
        except (Exception, Contacted) as error:
            kept.add(error, data)

    def change(data: bytes, most: int, seed: int) -> bytes:
        return mutate(data, most, seed, fuzzer.Mutate)

    # "x" stands for the program's name
    fuzzer.Setup(["x", f"-dict={words}", *options, str(CORPUS / group)], one, custom_mutator=change)
    fuzzer.Fuzz()


if __name__ == "__main__":
    main()
