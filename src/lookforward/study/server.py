"""The web pages on which raters answer. They show no method, file name or seed, and load nothing from elsewhere."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from lookforward.study.raters import CHOICES, Raters
from lookforward.study.store import StudyFile
from lookforward.web import TOKEN, token_fits

RATER = "rater"  # a cookie
_MOST_BYTES = 4096  # of a form
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
Handler = Callable[[Request], Awaitable[Response]]


def build_app(study: StudyFile, token: str = "") -> Starlette:
    """The application of a study that has all its images. token: what the address must carry; "" asks for none."""
    pages = _Pages(study)
    routes = [
        ("/", pages.welcome, "GET"), ("/begin", pages.begin, "POST"), ("/pair", pages.pair, "GET"),
        ("/answer", pages.answer, "POST"), ("/withdraw", pages.withdraw, "POST"),
        ("/picture/{name}", pages.picture, "GET"), ("/style.css", pages.style, "GET"),
    ]  # fmt: skip
    return Starlette(routes=[Route(path, _guarded(handler, token), methods=[verb]) for path, handler, verb in routes])


def _guarded(handler: Handler, token: str) -> Handler:
    """The handler behind the token, with the headers of every answer."""

    async def guarded(request: Request) -> Response:
        given = request.query_params.get(TOKEN) or request.cookies.get(TOKEN, "")
        if not token_fits(given, token):
            response: Response = PlainTextResponse("Open the address with its token.", status_code=403)
        else:
            response = await handler(request)
            if token and TOKEN in request.query_params:
                response.set_cookie(TOKEN, token, httponly=True, samesite="lax")
        response.headers.update(_HEADERS)
        return response

    return guarded


class _Pages:
    def __init__(self, study: StudyFile) -> None:
        self.study, self.raters = study, Raters(study)
        self.environment = Environment(
            loader=PackageLoader("lookforward.study"), autoescape=True, undefined=StrictUndefined
        )

    def show(self, name: str, status: int = 200, **values: Any) -> HTMLResponse:
        return HTMLResponse(self.environment.get_template(name).render(**values), status_code=status)

    async def welcome(self, request: Request) -> Response:
        if await self._rater(request):
            return RedirectResponse("/pair", 303)
        return self.show("welcome.html.jinja", missing=False)

    async def begin(self, request: Request) -> Response:
        form = await _form(request)
        if form.get("consent") != "yes":
            return self.show("welcome.html.jinja", 400, missing=True)
        key = await self._rater(request) or await run_in_threadpool(self.raters.begin)
        response = RedirectResponse("/pair", 303)
        response.set_cookie(RATER, key, httponly=True, samesite="lax", max_age=90 * 86400)
        return response

    async def pair(self, request: Request) -> Response:
        return await self._next(request)

    async def _next(self, request: Request, problem: str = "", status: int = 200, **chosen: str) -> Response:
        key = await self._rater(request)
        if not key:
            return RedirectResponse("/", 303)
        question = await run_in_threadpool(self.raters.next_question, key)
        if question is None:
            return self.show("end.html.jinja", withdrawn=False)
        return self.show("pair.html.jinja", status, q=question, problem=problem, chosen=chosen)

    async def answer(self, request: Request) -> Response:
        key = await self._rater(request)
        if not key:
            return RedirectResponse("/", 303)
        form = await _form(request)
        number, subject, prompt = (form.get(name, "") for name in ("number", "subject", "prompt"))
        if subject not in CHOICES or prompt not in CHOICES or not (number.isascii() and number.isdigit()):
            return await self._next(request, "Answer both questions.", 400, subject=subject, prompt=prompt)
        await run_in_threadpool(self.raters.answer, key, int(number[:9]), subject, prompt)
        return RedirectResponse("/pair", 303)

    async def withdraw(self, request: Request) -> Response:
        key = await self._rater(request)
        if key:
            await run_in_threadpool(self.raters.withdraw, key)
        response = self.show("end.html.jinja", withdrawn=True)
        response.delete_cookie(RATER)
        return response

    async def picture(self, request: Request) -> Response:
        png = await run_in_threadpool(self.study.picture, request.path_params["name"])
        return PlainTextResponse("No such picture.", 404) if png is None else Response(png, media_type="image/png")

    async def style(self, request: Request) -> Response:
        return Response(self.environment.get_template("study.css").render(), media_type="text/css")

    async def _rater(self, request: Request) -> str:
        """The rater's key, or "" for a browser that has none, or one that has been withdrawn."""
        key = request.cookies.get(RATER, "")
        return key if key and await run_in_threadpool(self.raters.knows, key) else ""


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form as text; none of a body that is too long or no form."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BYTES:
            return {}
    try:
        return dict(parse_qsl(body.decode("ascii"), max_num_fields=20))
    except ValueError:
        return {}
