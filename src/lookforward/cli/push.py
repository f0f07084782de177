"""Upload an export to the Hugging Face Hub."""

import tyro

from lookforward.cli.console import console, print_notes


def push(
    run: tyro.conf.Positional[str],
    repo: str,
    private: bool = False,
    dry_run: bool = False,
) -> None:
    """Upload the export of a finished run and its model card to the Hugging Face Hub.

    Args:
        run: Run folder or export.
        repo: OWNER/NAME. Created if it does not exist.
        private: Make a new repository private.
        dry_run: List the files without uploading them.
    """
    from lookforward.exports.push import files_of, notes_on_privacy
    from lookforward.exports.push import push as upload
    from lookforward.exports.source import find_source

    source = find_source(run)
    files = files_of(source, repo)
    print_notes(notes_on_privacy(source))
    if dry_run:
        for name, size in files:
            console.print(f"{size:>12,}  {name}")
        console.print(f"{len(files)} files, {sum(size for _, size in files):,} bytes, would go to {repo}.")
        return
    console.print(f"Uploaded {len(files)} files to {upload(source, repo, private)}")
