"""One process at a time in a folder: a lock that is released with its process, however that ends."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from lookforward.errors import LookforwardError

# What systems answer where the file system has no locks, such as some network shares
_UNSUPPORTED = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}
_SHARED = 0o666  # less the umask: whoever may write the folder may take the lock


class LockHeld(LookforwardError):
    """Another process holds the lock."""


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock file `path` while the context lasts; yields False where the file system has no locks.

    The file is deleted afterwards, while the lock is held: filelock knows that the lock of a deleted file is none.

    Raises:
        LockHeld: another process holds it.
        LookforwardError: it cannot be taken for any other reason, such as another user's permissions.
    """
    lock = FileLock(path, mode=_SHARED, thread_local=False)
    supported = True
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise LockHeld(f"Another process works in {path.parent}: wait until it ends.", "lock-held") from error
    except NotImplementedError:
        supported = False
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise _refused(path, error) from error
        supported = False
    try:
        yield supported
    finally:
        if supported:
            with suppress(OSError):  # the folder may have lost its permissions meanwhile
                path.unlink(missing_ok=True)
            lock.release()


def _refused(path: Path, error: OSError) -> LookforwardError:
    owner = ""
    with suppress(OSError, KeyError, NotImplementedError):
        owner = f" It belongs to {path.owner()}."
    return LookforwardError(
        f"{path} cannot be locked: {error.strerror or error}.{owner} Another process may be at work there. If none is, "
        "delete that file or correct the permissions of its folder; otherwise give another --output.",
        "lock-refused",
    )
