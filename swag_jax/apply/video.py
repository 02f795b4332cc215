"""A video painted frame by frame, resumable: finished segments lie in a folder next to the result until the end."""

import contextlib
import hashlib
import itertools
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import jax
import numpy as np
from jaxtyping import ArrayLike

from swag_jax import devices
from swag_jax._checks import error
from swag_jax._files import check_apart, check_target, make_folder, read_text, sweep, write_whole
from swag_jax._types import HostAlpha
from swag_jax.apply.drivers import Content, Style, repaint_many
from swag_jax.apply.settings import ApplySettings
from swag_jax.apply.stylizer import Stylizer
from swag_jax.images.video import (
    Frame,
    Video,
    check_video_output,
    join_segments,
    open_video,
    read_frames,
    write_segment,
)
from swag_jax.params._files import file_sha256

SEGMENT = 24
"""Frames of a segment: what a kill costs at most. Our choice."""


@dataclass(frozen=True)
class VideoProgress:
    """How far a video is.

    Attributes:
        frame: Frames done, those of earlier runs included.
        frames: Frames in all, by the file's account; 0 if unknown.
        rate: Frames per second of this run.
    """

    frame: int
    frames: int
    rate: float


@dataclass(frozen=True)
class VideoResult:
    """How a video ended.

    Attributes:
        path: The result; with status `stopped` it does not exist yet.
        frames: Frames done.
        status: `done`, or `stopped` if it was interrupted: the same call resumes.
    """

    path: Path
    frames: int
    status: str


class _StoppedError(Exception):
    """The caller asked for a stop."""


@devices.drives_devices
def repaint_video(
    stylizer: Stylizer,
    video: Path,
    styles: Sequence[ArrayLike | Style],
    output: Path,
    *,
    masks: tuple[HostAlpha, ...] = (),
    settings: ApplySettings | None = None,
    batch_size: int | None = None,
    callback: Callable[[VideoProgress], object] | None = None,
    interrupted: Callable[[], bool] | None = None,
) -> VideoResult:
    """Paint all frames of a video in one manner; sound and times are kept, the same call resumes a killed run.

    Until the end, finished segments lie in the folder `OUTPUT.parts`. Those of other inputs are made again.

    Args:
        stylizer: The generator and its encoder.
        video: The file to repaint.
        styles: The style images, which are mixed; read once for all frames. An empty list for Johnson's network.
        output: The file to write: .mp4, .mov, .m4v and .mkv hold H.264, .webm holds VP9.
        masks: How much each style counts at each pixel of a frame, in [0, 1].
        settings: Size, strength, blend, colors, tiles.
        batch_size: Frames at once, at most.
        callback: Called with the progress after every frame.
        interrupted: Asked after every frame; a true answer ends the run.

    Returns:
        How it ended.

    Raises:
        UserError: If PyAV is missing, the file is no video or damaged, the output cannot hold its sound, or
            `repaint_many` would raise.
    """
    settings, source = settings or ApplySettings(), open_video(video)
    check_target(output, what="the output")
    check_video_output(output, source)
    check_apart([("the output", output)], [("the video", video)])
    given = [style if isinstance(style, Style) else Style(style) for style in styles]
    parts = _Parts(output, _fingerprint(stylizer, source, given, masks, settings))
    done, began = parts.count() * SEGMENT, time.perf_counter()

    def told(number: int) -> None:
        if callback is not None:
            rate = (number - done) / (time.perf_counter() - began)
            callback(VideoProgress(number, max(source.frames, number) if source.frames else 0, rate))
        if interrupted is not None and interrupted():
            raise _StoppedError

    painted = _painted(
        stylizer, source, given, masks=masks, settings=settings, batch_size=batch_size, start=done, told=told
    )
    try:
        for number in itertools.count(done // SEGMENT):
            first = next(painted, None)
            if first is None:
                break
            frames = itertools.chain([first], itertools.islice(painted, SEGMENT - 1))
            write_segment(parts[number], frames, suffix=output.suffix, time_base=source.time_base, rate=source.rate)
    except _StoppedError:
        return VideoResult(output, parts.count() * SEGMENT, "stopped")
    if not parts.count():
        raise error(f"{video} must hold frames", got="none")
    join_segments(output, parts.paths(), source=video)
    parts.remove()
    return VideoResult(output, open_video(output).frames, "done")


def _painted(
    stylizer: Stylizer,
    video: Video,
    styles: Sequence[Style],
    *,
    masks: tuple[HostAlpha, ...],
    settings: ApplySettings,
    batch_size: int | None,
    start: int,
    told: Callable[[int], None],
) -> Iterator[Frame]:
    """Yield painted frames in their order."""
    times = deque[int]()

    def contents() -> Iterator[Content]:
        for frame in read_frames(video, start=start):
            times.append(frame.time)
            yield Content(frame.image, masks)

    # Frames have one shape, so they come in their order.
    outcomes = repaint_many(stylizer, contents(), styles, settings=settings, batch_size=batch_size)
    for number, outcome in enumerate(outcomes, start=start + 1):
        if outcome.error is not None:
            raise outcome.error
        assert outcome.image is not None
        assert outcome.index == number - start - 1
        yield Frame(outcome.image, times.popleft())
        told(number)


class _Parts:
    """The finished segments of a video, of one fingerprint."""

    def __init__(self, output: Path, fingerprint: str):
        self.folder = output.with_name(f"{output.name}.parts")
        self.note = self.folder / "settings.json"
        if self.folder.exists():
            if not self.note.is_file():
                raise error(f"{self.folder} must hold the parts of a video", got="something else", cure="move it away")
            sweep(self.folder)
            if read_text(self.note) != fingerprint:
                self.remove()
        make_folder(self.folder)
        write_whole(self.note, fingerprint.encode())

    def __getitem__(self, number: int) -> Path:
        return self.folder / f"{number:06d}.mp4"

    def count(self) -> int:
        """Return how many there are, up to the first that is missing."""
        return next(number for number in itertools.count() if not self[number].is_file())

    def paths(self) -> list[Path]:
        return [self[number] for number in range(self.count())]

    def remove(self) -> None:
        """Remove what is ours."""
        for path in (*self.folder.glob("[0-9]*.mp4"), self.note):
            path.unlink()
        with contextlib.suppress(OSError):  # somebody else's files are in it
            self.folder.rmdir()


def _fingerprint(
    stylizer: Stylizer, video: Video, styles: Sequence[Style], masks: Sequence[HostAlpha], settings: ApplySettings
) -> str:
    """Return all that the frames depend on."""
    encoder = stylizer.encoder
    facts = {
        "video": file_sha256(video.path),
        "networks": _sha256(jax.tree.leaves(stylizer)),
        "generator": repr((stylizer.generator.config, stylizer.generator.compute)),
        "encoder": None if encoder is None else repr((type(encoder).__name__, encoder.normalization, encoder.compute)),
        "styles": [(_sha256([s.image]), None if s.region is None else _sha256([s.region])) for s in styles],
        "masks": _sha256(masks),
        "settings": asdict(settings),
        "segment": SEGMENT,
    }
    return json.dumps(facts, indent=1, sort_keys=True)


def _sha256(arrays: Iterable[ArrayLike]) -> str:
    digest = hashlib.sha256()
    for array in map(np.asarray, arrays):
        digest.update(f"{array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
