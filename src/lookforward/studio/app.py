"""The application: Gradio's tabs behind the guard, and routes for images of runs and answers of studies."""

import os
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.responses import FileResponse, PlainTextResponse, Response

from lookforward.errors import LookforwardError
from lookforward.studio.guard import Guard
from lookforward.studio.state import Studio
from lookforward.studio.studies import download as study_download

_UPLOAD = "100mb"  # of one file; the reader of photos refuses more than 100 megapixels
_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
_MONO = ("ui-monospace", "Consolas", "monospace")


def quiet_gradio(uploads: Path) -> Any:
    """Gradio, imported with its analytics off and its uploads in a folder of ours."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    import gradio

    return gradio


def build_app(studio: Studio, token: str = "") -> Guard:
    """The ASGI application. token: what the address must carry; "" asks for none, on this machine only."""
    gr = quiet_gradio((studio.workspace.own / "uploads").resolve())
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/picture/{run}/{kind}/{name}")
    def picture(run: str, kind: str, name: str) -> Response:
        path = studio.workspace.picture(run, kind, name)
        if path is None:
            return PlainTextResponse("No such picture.", 404)
        return FileResponse(path, media_type="image/png", headers={"Cache-Control": "private, no-cache"})

    @app.get("/study/{name}/{file}")
    def study_file(name: str, file: str) -> Response:
        try:
            found = study_download(name, file, studio.workspace)
        except LookforwardError as error:
            return PlainTextResponse(studio.workspace.relative(str(error)), 404)
        headers = {"Content-Disposition": f'attachment; filename="{name}-{file}"', "Cache-Control": "no-store"}
        return Response(found.text, media_type=found.kind, headers=headers)

    blocks = build_blocks(gr, studio)
    theme = gr.themes.Base(font=list(_FONTS), font_mono=list(_MONO), primary_hue="blue", neutral_hue="slate")
    gr.mount_gradio_app(
        app, blocks, path="/", footer_links=[], run_history=False, show_error=False, max_file_size=_UPLOAD,
        ssr_mode=False, enable_monitoring=False, pwa=False, mcp_server=False, theme=theme,
        css_paths=[Path(__file__).with_name("studio.css")],
    )  # fmt: skip
    return Guard(app, token)


def build_blocks(gr: Any, studio: Studio) -> Any:
    """The page: a tab for each step."""
    from lookforward.studio.tabs import draw, runs, study, subject, train, watch

    with gr.Blocks(title="lookforward studio", analytics_enabled=False, delete_cache=(3600, 3600)) as blocks:
        gr.HTML('<header class="lf-head"><h1>lookforward studio</h1></header>')
        with gr.Tabs():
            for module in (subject, train, watch, draw, study, runs):
                with gr.Tab(module.TITLE, id=module.TITLE.lower()) as tab:
                    module.build(gr, studio, tab, blocks)
    blocks.queue(default_concurrency_limit=8, api_open=False)
    return blocks
