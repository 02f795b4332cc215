"""What commands write: never over what they read, never two things into one file."""

import datetime
import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import jax

from swag_jax import _versions
from swag_jax._files import check_apart, check_target, replacing
from swag_jax._types import AnyHostImage, HostAlpha
from swag_jax.images import read_alpha, resize, write_image
from swag_jax.images.io import OUTPUT_FORMATS, check_output
from swag_jax.params.store import stored

# Files with what errors call them; `None` for one that is not asked for.
Files: TypeAlias = Iterable[tuple[str, Path | None]]


def _check_plot(path: Path) -> None:
    from swag_jax import plots  # with all that it measures, for one command

    plots.check_output(path)


# What the files of these flags must be.
_CHECKS: dict[str, Callable[[Path], None]] = {
    **{what: functools.partial(check_target, what=what) for what in ("--json", "--report", "--export")},
    "-o": check_output,
    "--every": check_output,
    "--plot": _check_plot,
}


def check_outputs(outputs: Files, inputs: Files, *, weights: Iterable[str] = ()) -> None:
    """Check, before long work starts, that all outputs can be written, none over a file that is read, none twice.

    `weights` are words, names and paths.
    """
    written = [(what, path) for what, path in outputs if path is not None]
    for what, path in written:
        if what in _CHECKS:
            _CHECKS[what](path)
    read = [*inputs, *(("--weights", Path(words)) for words in dict.fromkeys(weights))]
    check_apart(written, [*read, *((f"the stored weights {name}", path) for name, path in stored().items())])


def labeled(what: str, paths: Sequence[Path]) -> list[tuple[str, Path]]:
    """Return paths that errors call the same."""
    return [(what, path) for path in paths]


def kept_alpha(output: Path, content: Path) -> HostAlpha | None:
    """Return the transparency that a result has of its content; `None` if its format has none."""
    return None if OUTPUT_FORMATS[output.suffix.lower()] == "JPEG" else read_alpha(content)


def write_result(path: Path, image: AnyHostImage, alpha: HostAlpha | None) -> None:
    """Write a result with its content's transparency, `height width` of any size."""
    write_image(path, image, alpha=None if alpha is None else resize(alpha, *image.shape[:2]))


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write what a command found as JSON, with the time, the device and the versions of packages."""
    device = jax.devices()[0]
    conditions = {
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
        "versions": _versions.installed(),
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({**report, **conditions}, indent=1, default=str) + "\n", encoding="utf-8")
