"""`lookforward study create|serve|report`: people compare methods without knowing which is which."""

from pathlib import Path

import tyro

from lookforward.cli.console import console
from lookforward.errors import LookforwardError


def create(
    runs: tyro.conf.Positional[tuple[Path, ...]],
    compare: str = "",
    prompts: Path | None = None,
    prompt_count: int = 5,
    candidates: int = 8,
    shown: int = 0,
    repeats: int = 3,
    seed: int = 0,
    clip: str | None = None,
    output: Path = Path("study.sqlite"),
) -> None:
    """Draw pairs of images with finished runs and write a study as one SQLite file.

    Every two methods are compared on the same photos, prompts and seeds. Give the command again if it was interrupted.

    Args:
        runs: Finished run folders: for each subject, one run of every method.
        compare: Methods to compare, separated by commas, such as dreambooth,look-forward. Default: all.
        prompts: Text file, one prompt per line, with {} for the subject. Default: the benchmark's prompts.
        prompt_count: Number of prompts for each subject, chosen at random by --seed; 0 for all.
        candidates: Images drawn of each prompt, of which raters see the best by CLIP-T, as in the paper. 1: the first.
        shown: Number of pairs that one rater sees; 0 for all.
        repeats: Number of pairs that each rater sees twice, to check whether they agree with themselves.
        seed: Seed of the first image, and of the choice of prompts and sides.
        clip: Folder or hub ID of another CLIP.
        output: File of the study.
    """
    from lookforward.cli.console import split_words
    from lookforward.data.prompts import read_prompt_file
    from lookforward.files import writing
    from lookforward.study.create import create_study, plan_study
    from lookforward.study.store import StudyFile

    plan, found = plan_study(
        runs, split_words([compare]), prompts=read_prompt_file(prompts) if prompts else (), prompt_count=prompt_count,
        candidates=candidates, shown=shown, repeats=repeats, seed=seed,
    )  # fmt: skip
    picked = f"the best of {candidates} by CLIP-T" if candidates > 1 else "the first one"
    console.print(f"{plan.images} images of {', '.join(plan.methods)}, {picked} for each prompt")
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        create_study(StudyFile(output), plan, found, clip=clip, on_image=lambda: console.print(".", end=""))
    console.print(f"\n{output} is ready: `lookforward study serve {output}`")


def serve(
    study: tyro.conf.Positional[Path], host: str = "127.0.0.1", port: int = 7870, token: str | None = None
) -> None:
    """Show a study to raters in their browsers, on this machine unless --host says otherwise.

    Many raters can answer at once. Each answer is on the disk before the next pair is shown.

    Args:
        study: File from `lookforward study create`.
        host: Address to listen on; 0.0.0.0 for all networks of this machine. Other addresses than this machine's own
            need a token, which is part of the address that is printed.
        port: Port to listen on.
        token: Token of your own, for an address that stays the same. Default: a random one, and none on this machine.
    """
    from lookforward.study.store import StudyFile
    from lookforward.web import address, choose_token

    try:
        import uvicorn

        from lookforward.study.server import build_app
    except ImportError as error:
        raise LookforwardError(
            f"`lookforward study serve` needs a package that is not installed ({error.name}): "
            "pip install 'lookforward[study]'",
            code="package-missing",
        ) from error
    file = StudyFile(study)
    file.require_ready()
    token = choose_token(host, port, token)
    console.print(f"Open {address(host, port, token)}\nStop with Ctrl-C.")
    uvicorn.run(build_app(file, token), host=host, port=port, log_level="warning")


def report(study: tyro.conf.Positional[Path], output: Path | None = None, answers: Path | None = None) -> None:
    """Count the answers of a study: shares with intervals, agreement, and the paper's Table 3 beside them.

    Args:
        study: File from `lookforward study create`.
        output: HTML page. Default: the file's name with .html. The tables go into a Markdown file beside it.
        answers: CSV file for every single answer.
    """
    from lookforward import __version__
    from lookforward.files import atomic_file, write_text
    from lookforward.report.blocks import Table, Text
    from lookforward.report.render import html_page, markdown_page, terminal_table
    from lookforward.study.findings import answers_csv, study_sections
    from lookforward.study.raters import Raters
    from lookforward.study.store import StudyFile

    file = StudyFile(study)
    plan, rows = file.require_ready(), Raters(file).answers()
    sections = study_sections(plan, rows)
    page = output or study.with_suffix(".html")
    footer = f"Written by lookforward {__version__}."
    write_text(page, html_page("Blind study", sections, footer))
    write_text(page.with_suffix(".md"), markdown_page("Blind study", sections, footer))
    if answers:
        with atomic_file(answers) as partial:
            partial.write_bytes(answers_csv(rows).encode())
    for block in (block for section in sections for block in section.blocks):
        if isinstance(block, Table):
            console.print(terminal_table(block))
        elif isinstance(block, Text):
            console.print(block.text)
    console.print(f"The page is {page}.")
