"""A finished benchmark or comparison as a page."""

from pathlib import Path

import tyro

from lookforward.cli.console import console
from lookforward.errors import LookforwardError
from lookforward.files import writing


def report(
    folder: tyro.conf.Positional[Path],
    output: Path | None = None,
    title: str = "",
    baseline: str = "dreambooth",
) -> None:
    """Write one self-contained HTML page, and the same tables in Markdown, of what a benchmark left on disk.

    Nothing is trained or drawn: it may be given while a benchmark runs, and says what is missing.

    Args:
        folder: The output folder of `lookforward benchmark` or `lookforward compare`.
        output: The page; FOLDER/report.html if not given. The Markdown goes beside it.
        title: The page's heading.
        baseline: The method from which differences are taken.
    """
    from lookforward import __version__
    from lookforward.benchmark.reading import read_benchmark
    from lookforward.report.render import write_report

    page = output or folder / "report.html"
    if page.suffix.lower() not in (".html", ".htm"):
        raise LookforwardError(f"--output {page}: the page is HTML; give a name that ends in .html.", code="page-name")
    benchmark = read_benchmark(folder, title, baseline)
    with writing(page.parent):
        page.parent.mkdir(parents=True, exist_ok=True)
    written, markdown = write_report(benchmark, page, f"lookforward {__version__}")
    missing = len(benchmark.missing)
    incomplete = f", {missing} of {len(benchmark.planned)} cells missing" if missing else ""
    console.print(
        f"Look at {written} ({written.stat().st_size / 2**20:.1f} MiB){incomplete}; the tables are in {markdown}."
    )
