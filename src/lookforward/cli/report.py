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
    """Write the results of a benchmark as one self-contained HTML page, and its tables as Markdown.

    This only reads files, so it also works while a benchmark runs, and lists the missing cells.

    Args:
        folder: Output folder of `lookforward benchmark` or `lookforward compare`.
        output: HTML file. Default: FOLDER/report.html. The Markdown file goes into the same folder.
        title: Title of the page.
        baseline: Method that the others are compared with.
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
