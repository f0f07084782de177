"""What pages of ours share: who may open them, and how they end."""

import asyncio
import hmac
import logging
import secrets

from lookforward.errors import LookforwardError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
TOKEN = "token"  # in the address, and the name of the cookie that remembers it


def choose_token(host: str, port: int, token: str | None) -> str:
    """The token that an address must carry: the given one, or a random one; "" asks for none, on this machine only.

    Raises:
        LookforwardError: the port is none, or other machines could open the page without a token.
    """
    if token is None:
        token = "" if host in LOOPBACK else secrets.token_urlsafe(12)
    if not 0 < port < 65536 or (not token and host not in LOOPBACK):
        raise LookforwardError("Give a --port from 1 to 65535 and, for other machines, a --token.", code="option-range")
    return token


def address(host: str, port: int, token: str) -> str:
    """What to open in a browser."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/{f'?{TOKEN}={token}' if token else ''}"


def token_fits(given: str, token: str) -> bool:
    """Whether it is the token, in a time that does not depend on it; any fits where none is asked for."""
    return not token or hmac.compare_digest(given.encode("utf-8", "surrogatepass"), token.encode())


def hush_cancelled_requests() -> None:
    """Keep requests that are cut because the server ends, as those of an open page are, out of uvicorn's log."""

    def wanted(record: logging.LogRecord) -> bool:
        cut = record.exc_info is not None and isinstance(record.exc_info[1], asyncio.CancelledError)
        return not cut and "timeout graceful shutdown exceeded" not in record.getMessage()

    logging.getLogger("uvicorn.error").addFilter(wanted)
