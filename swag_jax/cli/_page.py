"""The page of `swag-jax ui`, made of gradio's parts. Its work is the commands': `Stylize.make` and `Apply.make`."""

import contextlib
import html
import itertools
import os
import queue
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from swag_jax._checks import UserError, error
from swag_jax._types import AnyHostImage
from swag_jax.cli._display import clock, fit, steps_line
from swag_jax.cli.apply import Apply
from swag_jax.cli.stylize import Stylize, settings_lines
from swag_jax.images import fitted, read_image, resize, write_image
from swag_jax.optimize import Progress
from swag_jax.presets import PRESETS

SECONDS_BETWEEN_IMAGES = 1.0
"""Between two images that the page shows while one develops. Our choice."""

LARGEST_SHOWN = 1024
"""Longer side in pixels of the images on the page; the result itself is written whole."""

# What the page says of a step; the losses are in the record.
_TOLD = ("step", "size", "rate", "left")

# All that the page may load is its own: the browser refuses the rest.
_POLICY = b"default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'"

_CSS = """
.gradio-container { width: min(1180px, 100%) !important; max-width: none !important; margin: 0 auto !important; }
.gradio-container > .main { max-width: none !important; margin: 0 !important; padding: 18px 24px !important; }
#title h1 { font-size: 20px; font-weight: 650; margin: 0; }
#title p { margin: 2px 0 0; opacity: .65; font-size: 13px; }
#photo .wrap, #painting .wrap { font-size: 13px; line-height: 1.35; }
#photo img, #painting img { object-fit: cover; width: 100%; height: 100%; }
#result .empty { min-height: 425px; }
#title, #status, #title .html-container, #status .html-container { padding: 0 !important; }
#status { min-height: 34px; }
#status p { margin: 0 0 6px; font-size: 13px; font-variant-numeric: tabular-nums; }
#status .problem { color: #b42318; font-weight: 550; }
#status progress { width: 100%; height: 5px; border: 0; border-radius: 3px; overflow: hidden; background: #e4e4e7; }
#status progress::-webkit-progress-bar { background: #e4e4e7; }
#status progress::-webkit-progress-value { background: var(--primary-600); transition: width .3s; }
#status progress::-moz-progress-bar { background: var(--primary-600); }
footer { display: none !important; }
"""


class Job:
    """One image in the making: a command that works in a thread, and what it tells."""

    def __init__(self, command: Stylize | Apply):
        self.command, self.stop = command, threading.Event()
        self.told: queue.SimpleQueue[tuple[Progress, AnyHostImage | None] | str | Exception] = queue.SimpleQueue()
        self._shown = time.monotonic()

    def __iter__(self) -> Iterator[tuple[Progress, AnyHostImage | None] | str]:
        """Yield progress, at times with an image, then how it ended; raise what went wrong."""
        threading.Thread(target=self._work, daemon=True).start()
        try:
            while True:
                told = self.told.get()
                if isinstance(told, Exception):
                    raise told
                yield told
                if isinstance(told, str):
                    return
        finally:
            self.stop.set()  # if the page is closed, nobody waits for the rest

    def _work(self) -> None:
        try:
            if isinstance(self.command, Apply):
                self.told.put(f"painted in {clock(self.command.make())}")
                return
            result = self.command.make(self._tell)
            done = f"{sum(result.steps)} steps in {clock(sum(result.seconds.values()))}"
            self.told.put(done if result.status == "done" else f"cancelled after {done}")
        except Exception as problem:
            self.told.put(problem)

    def _tell(self, progress: Progress) -> bool:
        late = time.monotonic() - self._shown > SECONDS_BETWEEN_IMAGES
        self._shown = time.monotonic() if late else self._shown
        self.told.put((progress, progress.image() if late else None))
        return self.stop.is_set()


class Page:
    """What the page does: a job for each visit, one at a time over all of them.

    Attributes:
        folder: For results, each in its own folder.
        parts: The components that change, by name.
    """

    def __init__(self, folder: Path):
        self.folder, self.parts, self.jobs = folder, dict[str, Any](), dict[str | None, Job]()
        self._numbers = itertools.count(1)

    def run(
        self,
        photo: str | None,
        painting: str | None,
        method: str,
        size: float,
        steps: float,
        strength: float,
        keeps_colors: bool,
        request: gr.Request,
    ) -> Iterator[dict[Any, Any]]:
        """Make one image; yield what parts of the page become."""
        try:
            if photo is None or painting is None:
                missing = "photograph" if photo is None else "painting"
                raise error(f"there must be a {missing}", got="none", cure="drop one on its field")
            settings = {"size": round(size), **({"colors": "luminance"} if keeps_colors else {})}
            settings |= {"steps": round(steps)} if method in PRESETS else {"strength": float(strength)}
            job = self.jobs[request.session_hash] = Job(self.command(Path(photo), Path(painting), method, settings))
            for shown in self._shown(job):
                yield {self.parts[name]: value for name, value in shown.items()}
        except UserError as problem:
            folders = {str(Path(path).parent) + "/" for path in (photo, painting) if path}
            text = str(problem)
            for folder in folders:  # of this machine, which say nothing to a visitor
                text = text.replace(folder, "")
            yield self._failed(text)
        except Exception:
            traceback.print_exc(file=sys.stderr)
            yield self._failed("a failure inside the program; its terminal shows more")
        finally:
            self.jobs.pop(request.session_hash, None)

    def command(self, photo: Path, painting: Path, method: str, settings: Mapping[str, Any]) -> Stylize | Apply:
        """Return what the command line would run, with the result in a new folder."""
        folder = self.folder / f"{next(self._numbers):04d}"
        folder.mkdir()
        output = folder / f"{photo.stem}_{painting.stem}.png"
        common = {"content": photo, "styles": (painting,), "output": output, "report": output.with_suffix(".json")}
        if method in PRESETS:
            return Stylize(preset=method, settings=settings, **common)
        return Apply(checkpoint=Path(method), settings=settings, **common)

    def cancel(self, request: gr.Request) -> None:
        """Let the visit's job end after these steps; what it has so far becomes the result."""
        if (job := self.jobs.get(request.session_hash)) is not None:
            job.stop.set()

    def _failed(self, text: str) -> dict[Any, Any]:
        return {self.parts[name]: value for name, value in idle(status(text, problem=True)).items()}

    def _shown(self, job: Job) -> Iterator[dict[str, Any]]:
        command, number = job.command, itertools.count()
        before = read_image(command.content)
        height, width = before.shape[:2]
        shape = fitted(height, width, min(int(command.settings["size"]), LARGEST_SHOWN))
        yield busy(settings_lines(command.chosen()) if isinstance(command, Stylize) else [])
        for told in job:
            if isinstance(told, str):
                painted = read_image(command.output)
                text = f"{told}  {painted.shape[1]}x{painted.shape[0]}"
                saved = {"image": command.output, "record": command.report}
                files = {name: gr.update(value=str(file), interactive=True) for name, file in saved.items()}
                yield {"result": _pair(command.output, before, painted, shape, "last"), **files, **idle(status(text))}
                continue
            progress, image = told
            parts = {name: text for name, text in steps_line(progress).items() if name in _TOLD}
            shown: dict[str, Any] = {"status": status(fit(parts), done=progress.step / progress.steps)}
            if image is not None:
                shown["result"] = _pair(command.output, before, image, shape, f"{next(number):04d}")
            yield shown


def _pair(
    output: Path, before: AnyHostImage, after: AnyHostImage, shape: tuple[int, int], name: str
) -> tuple[str, str]:
    """Write two images of one shape for the page, next to the result."""
    paths = output.with_name("before.jpg"), output.with_name(f"after-{name}.jpg")
    if not paths[0].exists():
        write_image(paths[0], resize(before, *shape))
    write_image(paths[1], resize(after, *shape))
    return str(paths[0]), str(paths[1])


def status(text: str, *, done: float | None = None, problem: bool = False) -> str:
    """Return a line for the page, and a bar if it is known how much is done."""
    kind = ' class="problem" role="alert"' if problem else ' role="status"'
    bar = "" if done is None else f'<progress max="1" value="{done:.4f}"></progress>'
    return f"<p{kind}>{html.escape(text).replace('  ', ' · ')}</p>{bar}"


def busy(notes: Sequence[str]) -> dict[str, Any]:
    """Return the parts of a page that works."""
    off, on = gr.update(interactive=False), gr.update(interactive=True)
    line = "; ".join(["starting", *(note.strip() for note in notes)])
    return {"status": status(line, done=0), "go": off, "stop": on, "image": off, "record": off}


def idle(line: str) -> dict[str, Any]:
    """Return the parts of a page that waits."""
    return {"status": line, "go": gr.update(interactive=True), "stop": gr.update(interactive=False)}


def build(generators: Sequence[str], folder: Path) -> gr.Blocks:
    """Return the page, with the generators that it offers."""
    page = Page(folder)
    first = PRESETS[next(iter(PRESETS))]
    methods = [(f"{Path(name).name.removesuffix('.safetensors')} · generator, one pass", name) for name in generators]
    methods += [(f"{name} · optimization", name) for name in PRESETS]
    is_preset = methods[0][1] in PRESETS
    with gr.Blocks(title="swag_jax", analytics_enabled=False, delete_cache=(3600, 86400)) as blocks:
        gr.HTML("<h1>swag_jax</h1><p>Paint a photograph in the manner of a painting.</p>", elem_id="title")
        with gr.Row():
            with gr.Column(scale=4, min_width=300):
                with gr.Row():
                    inputs = [
                        _image_input(label, name) for label, name in (("Photograph", "photo"), ("Painting", "painting"))
                    ]
                method = gr.Dropdown(methods, value=methods[0][1], label="Method", elem_id="method")
                size = gr.Slider(64, 2048, value=512, step=64, label="Size: longer side, pixels", elem_id="size")
                steps = gr.Slider(1, 1000, value=first.steps, step=1, label="Steps", elem_id="steps", visible=is_preset)
                strength = gr.Slider(
                    0, 1, value=1, step=0.05, label="Strength of the style", elem_id="strength", visible=not is_preset
                )
                colors = gr.Checkbox(label="Keep the photograph's colors", elem_id="colors")
                with gr.Row():
                    go = gr.Button("Stylize", variant="primary", elem_id="go", scale=2)
                    stop = gr.Button("Cancel", interactive=False, elem_id="stop", scale=1)
            with gr.Column(scale=6, min_width=400):
                result = gr.ImageSlider(
                    label="Before and after", type="filepath", interactive=False, max_height=620, elem_id="result"
                )
                line = gr.HTML(status("Drop two images, then press Stylize."), elem_id="status")
                with gr.Row():
                    image, record = (
                        gr.DownloadButton(f"Save {what}", interactive=False, size="md", elem_id=name)
                        for what, name in (("image (PNG)", "save-image"), ("settings (JSON)", "save-record"))
                    )
        page.parts = {"result": result, "status": line, "go": go, "stop": stop, "image": image, "record": record}
        given, changed = [*inputs, method, size, steps, strength, colors], list(page.parts.values())
        go.click(page.run, given, changed, show_progress="hidden", concurrency_limit=1, api_name="stylize")
        stop.click(page.cancel, None, None, queue=False, api_name="cancel")
        method.change(
            _fitting, method, [steps, strength], show_progress="hidden", queue=False, api_visibility="private"
        )
    return blocks


def _fitting(method: str) -> tuple[Any, Any]:
    # The sliders of a method.
    if method in PRESETS:
        return gr.update(visible=True, value=PRESETS[method].steps), gr.update(visible=False)
    return gr.update(visible=False), gr.update(visible=True)


def _image_input(label: str, name: str) -> gr.Image:
    made = gr.Image(
        label=label,
        type="filepath",
        sources=["upload"],
        height=170,
        min_width=120,
        placeholder="Drop an image here\nor click to choose",
        elem_id=name,
        buttons=[],
    )
    # The file as it was given: it is read, or refused, as the command line does it.
    made.preprocess = lambda payload: None if payload is None else payload.path
    return made


@contextlib.contextmanager
def serve(generators: Sequence[str], folder: Path, *, host: str, port: int) -> Iterator[str]:
    """Serve the page while the context lasts; yield its address."""
    with contextlib.closing(socket.socket()) as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
        except OSError as problem:
            cure = "pass another --port, or --port 0 for a free one"
            raise error(
                f"{host} must be an address with a free port {port}", got=problem.strerror, cure=cure
            ) from problem
        port = probe.getsockname()[1]
    os.environ["GRADIO_TEMP_DIR"] = str(folder)  # for what the browser sends
    blocks = build(generators, folder)
    fonts = ["ui-sans-serif", "system-ui", "sans-serif"]
    theme = gr.themes.Default(
        primary_hue="indigo", neutral_hue="zinc", font=fonts, font_mono=["ui-monospace", "monospace"], radius_size="sm"
    )
    blocks.queue(default_concurrency_limit=4)
    try:
        blocks.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            ssr_mode=False,
            allowed_paths=[str(folder)],
            app_kwargs={"middleware": [Middleware(_Policy)]},
            theme=theme,
            css=_CSS,
            footer_links=[],
        )
        yield f"http://{host}:{port}"
    finally:
        blocks.close(verbose=False)


class _Policy:
    """Says with every answer what the page may load."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        async def sent(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", []), (b"content-security-policy", _POLICY)]
                message = {**message, "headers": headers}
            await send(message)

        await self.app(scope, receive, sent)
