"""Who may use the studio: the token, the names that it answers to, and what its pages may load."""

from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lookforward.web import LOOPBACK, TOKEN, token_fits

COOKIE = "studio-token"  # browsers share cookies between the ports of a machine, so not the study's name
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "media-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)  # Gradio's pages have scripts within; nothing may come from, or go to, elsewhere
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}


class Guard:
    """The application behind the token.

    Without a token only this machine may use it, and then a page from elsewhere could try to by the visitor's browser:
    under another name of this machine (DNS rebinding), or by sending a form. Both are refused.
    """

    def __init__(self, app: ASGIApp, token: str = "") -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refusal = self._answer(HTTPConnection(scope))
        if refusal is not None:
            refusal.headers.update(_HEADERS)
            await refusal(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def _answer(self, request: HTTPConnection) -> Response | None:
        """What the guard answers itself; None if the application may."""
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if not self.token and urlsplit(f"//{host}").hostname not in LOOPBACK:
            return PlainTextResponse("Open the studio as http://127.0.0.1, or start it with a token.", 403)
        if origin and urlsplit(origin).netloc != host:
            return PlainTextResponse("Another page cannot use the studio.", 403)
        if "/proxy=" in request.url.path:  # Gradio's, to pages elsewhere
            return PlainTextResponse("Not found.", 404)
        if not self.token:
            return None
        given = request.query_params.get(TOKEN)
        if given is not None and token_fits(given, self.token):
            answer = RedirectResponse(request.url.path, 303)  # so that the token does not stay in the address
            answer.set_cookie(COOKIE, self.token, httponly=True, samesite="strict", max_age=30 * 86400)
            return answer
        if not token_fits(request.cookies.get(COOKIE, ""), self.token):
            return PlainTextResponse("Open the address with its token.", 403)
        return None
