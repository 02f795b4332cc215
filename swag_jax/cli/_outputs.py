"""What commands write: never over what they read, never two things into one file."""

import datetime
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax

from swag_jax import _versions
from swag_jax._files import check_apart, replacing
from swag_jax._types import AnyHostImage, HostAlpha
from swag_jax.images import read_alpha, resize, write_image
from swag_jax.images.io import OUTPUT_FORMATS
from swag_jax.params.store import stored


def check_outputs(
    outputs: Iterable[tuple[str, Path | None]],
    inputs: Iterable[tuple[str, Path | None]],
    *,
    weights: Iterable[str] = (),
) -> None:
    """Check, before long work starts, that nothing which is written is also read, nor written twice.

    Args:
        outputs: What each file that will be written is called, and the file; `None` if it is not asked for.
        inputs: What each file that is read is called, and the file.
        weights: What `--weights` and the like were given: words, names and paths.

    Raises:
        UserError: If two of them are one file.
    """
    read = [*inputs, *(("--weights", Path(words)) for words in dict.fromkeys(weights))]
    read += [(f"the stored weights {name}", path) for name, path in stored().items()]
    check_apart([(what, path) for what, path in outputs if path is not None], read)


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
