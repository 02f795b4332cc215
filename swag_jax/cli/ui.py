"""`swag-jax ui`: a page on this machine that does what `stylize` and `apply` do."""

import os
import tempfile
import threading
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from swag_jax import _signals
from swag_jax._checks import check_range, error
from swag_jax.cli._display import Display
from swag_jax.cli._exit import ExitCode, stopped_code
from swag_jax.cli._flags import Quiet, flag, word
from swag_jax.generators.checkpoint import find_generator, load_generator
from swag_jax.params.manifest import packaged_generators


@dataclass(frozen=True, kw_only=True)
class Ui(Quiet):
    """A page in the browser: a photograph, a painting, the result.

    Listens on this machine only, unless --host says otherwise, and uses no network. Needs gradio: pip install
    'swag-jax[ui]'. Ctrl-C ends it.
    """

    usage: ClassVar[str] = "swag-jax ui [GENERATOR ...] [flags]"

    generators: tuple[Path, ...] = word("GENERATOR", "Checkpoints or runs' folders to offer, too", ())
    host: str = flag("Address to listen on; others than the default can be reached from other machines", "127.0.0.1")
    port: int = flag("Port to listen on; 0 takes a free one", 7860)

    def run(self) -> ExitCode:
        """Serve the page until a signal comes."""
        check_range(self.port, what="--port", low=0, high=65535)
        offered = [*packaged_generators(), *map(str, self.generators)]
        for path in self.generators:
            if not load_generator(find_generator(path)).reads_styles:
                rule = "the page is for generators that read a painting"
                raise error(rule, got=path, cure=f"run `swag-jax apply {path} PHOTO -o OUT`")
        if find_spec("gradio") is None:
            rule = "the page needs the package gradio, which is not installed"
            raise error(rule, cure="run pip install 'swag-jax[ui]'")
        # What the browser uploads and downloads is kept until the end.
        with tempfile.TemporaryDirectory(prefix="swag-jax-ui-") as folder:
            os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before it is imported
            from swag_jax.cli._page import serve

            display, ended = Display("ui", quiet=self.quiet), threading.Event()
            page = serve(offered, Path(folder), host=self.host, port=self.port)
            with _signals.asked_first(ended.set) as asked, page as address:
                display.say(f"open {address} in a browser; Ctrl-C ends it")
                ended.wait()
        return stopped_code(asked)
