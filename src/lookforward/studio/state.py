"""What all tabs of a studio work with."""

from dataclasses import dataclass

from lookforward.studio.runner import Runner
from lookforward.studio.serving import Servers
from lookforward.studio.store import Store
from lookforward.studio.workspace import Workspace


@dataclass(frozen=True)
class Studio:
    """The folder, what is remembered of it, the queue, and the pages of raters."""

    workspace: Workspace
    store: Store
    runner: Runner
    servers: Servers


def open_studio(workspace: Workspace) -> Studio:
    """The studio of a folder, its queue not started yet.

    Raises:
        LookforwardError: the folder cannot be written.
    """
    workspace.prepare()
    store = Store(workspace.own / "studio.sqlite")
    return Studio(workspace, store, Runner(workspace, store), Servers(workspace, store))
