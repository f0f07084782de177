"""`lookforward studio`: a page in the browser for photos, training, images and blind studies."""

from pathlib import Path

import tyro

from lookforward.bundle import TOYBOX
from lookforward.cli.console import console
from lookforward.errors import LookforwardError


def studio(
    folder: tyro.conf.Positional[Path] = Path(),
    models: tuple[str, ...] = (TOYBOX,),
    host: str = "127.0.0.1",
    port: int = 7860,
    token: str | None = None,
) -> None:
    """Open the studio: photos, training, samples, images and blind studies in the browser.

    It works on FOLDER/photos, FOLDER/runs and FOLDER/*.sqlite, and shows runs and studies of the command line too.
    Those in the queue go on when the studio is opened again. It loads nothing from the network and sends nothing to it,
    except what a model from the hub needs.

    Args:
        folder: Folder to work in. Default: this one.
        models: Models to choose from: toybox, pipeline folders or hub IDs. The browser cannot name others.
        host: Address to listen on; 0.0.0.0 for all networks of this machine. Other addresses than this machine's own
            need a token, which is part of the address that is printed.
        port: Port to listen on.
        token: Token of your own, for an address that stays the same. Default: a random one, and none on this machine.
    """
    from lookforward.web import address, choose_token, hush_cancelled_requests

    token = choose_token(host, port, token)
    try:
        import uvicorn

        from lookforward.studio.app import build_app
        from lookforward.studio.state import open_studio
        from lookforward.studio.workspace import Workspace

        opened = open_studio(Workspace(folder.resolve(), tuple(dict.fromkeys(models)) or (TOYBOX,)))
        app = build_app(opened, token)
    except ImportError as error:
        raise LookforwardError(
            f"`lookforward studio` needs a package that is not installed ({error.name}): "
            "pip install 'lookforward[studio]'",
            code="package-missing",
        ) from error
    opened.runner.start()
    hush_cancelled_requests()
    try:
        console.print(f"Open {address(host, port, token)}\nStop with Ctrl-C.")
        uvicorn.run(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=2)
    finally:
        opened.servers.close()
        opened.runner.close()
