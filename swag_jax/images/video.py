"""Video files as frames and back, with PyAV (`pip install 'swag-jax[video]'`).

A long video is written in segments, each a file with frames of its own, and joined at the end without being encoded
again: what is finished survives a kill.
"""

import contextlib
import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from swag_jax._checks import error
from swag_jax._files import replacing
from swag_jax._types import AnyHostImage

SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")
"""Files that are taken for videos."""

H264 = ("libx264", {"crf": "16", "preset": "medium"})
VP9 = ("libvpx-vp9", {"crf": "24", "b": "0", "row-mt": "1"})
ENCODERS = {".mp4": H264, ".mov": H264, ".m4v": H264, ".mkv": H264, ".webm": VP9}
"""Encoder and quality by the output's suffix. Our choice: brush strokes without visible loss."""

_BT709 = 1  # in the enumerations of FFmpeg, of all three: matrix, primaries, transfer


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        image: `height width 3` in [0, 1].
        time: When it is shown, in units of the video's `time_base`.
    """

    image: AnyHostImage
    time: int


@dataclass(frozen=True)
class Video:
    """What a video file holds.

    Attributes:
        path: The file.
        height: Of a frame as it is shown, in pixels.
        width: Likewise.
        frames: How many frames there are, by the file's own account or by its length; 0 if it tells neither.
        rate: Frames per second, on the mean.
        time_base: Seconds in a unit of time.
        sound: Codecs of its sound tracks.
    """

    path: Path
    height: int
    width: int
    frames: int
    rate: Fraction
    time_base: Fraction
    sound: tuple[str, ...]


def is_video(path: Path) -> bool:
    """Return whether a file's suffix is that of a video."""
    return path.suffix.lower() in SUFFIXES


def open_video(path: Path) -> Video:
    """Return what a video file holds; frames are read by `read_frames`.

    Raises:
        UserError: If PyAV is missing, or the file is no video.
    """
    with _opened(path) as (container, stream):
        frame = next(_decoded(path, container, stream), None)
        if frame is None:
            raise error(f"{path} must hold frames", got="none", cure="pass a video that plays")
        height, width = _upright(frame).shape[:2]
        rate = _fraction(stream.average_rate or stream.guessed_rate or Fraction(25))
        time_base = _fraction(stream.time_base)
        length = stream.duration * time_base if stream.duration else (container.duration or 0) / 10**6
        sound = tuple(track.codec_context.name for track in container.streams.audio)
        frames = stream.frames or round(length * rate)
        return Video(path, height, width, frames, rate, time_base, sound)


def read_frames(video: Video, *, start: int = 0) -> Iterator[Frame]:
    """Yield frames from number `start` on, upright as a player shows them.

    Raises:
        UserError: If the file is damaged, or a frame has another size.
    """
    step, last = max(round(1 / (video.rate * video.time_base)), 1), -1
    with _opened(video.path) as (container, stream):
        for number, frame in enumerate(_decoded(video.path, container, stream)):
            # Times of broken files stand still or are missing.
            last = frame.pts if frame.pts is not None and frame.pts > last else last + (step if number else 1)
            if number < start:
                continue
            image = _upright(frame)
            if image.shape[:2] != (video.height, video.width):
                got = f"{image.shape[0]} x {image.shape[1]} after {video.height} x {video.width}"
                raise error(f"all frames of {video.path} must have one size", got=got, cure="encode it again")
            yield Frame(image.astype(np.float32) / 255, last)


def check_video_output(path: Path, video: Video) -> None:
    """Check, before long work, that a video can be written to `path`, with the sound of `video`.

    Raises:
        UserError: If its suffix is none of a video that can be written, or that kind of file cannot hold the sound.
    """
    av = _av()
    if path.suffix.lower() not in ENCODERS:
        raise error(f"a video must be one of {', '.join(ENCODERS)}", got=path.name)
    form = av.format.ContainerFormat(_FORMATS[path.suffix.lower()], "w")
    with av.open(_Sink(), "w", format=form.name) as container:
        held = container.supported_codecs
    if missing := [codec for codec in video.sound if codec not in held]:
        rule = f"a {path.suffix} file must be able to hold the sound of {video.path.name}"
        raise error(rule, got=", ".join(missing), cure="write a .mkv file")


_FORMATS = {".mp4": "mp4", ".mov": "mov", ".m4v": "mp4", ".mkv": "matroska", ".webm": "webm"}


class _Sink:
    """A file that forgets."""

    def write(self, data: bytes) -> int:
        return len(data)


def write_segment(path: Path, frames: Iterable[Frame], *, suffix: str, time_base: Fraction, rate: Fraction) -> None:
    """Write consecutive frames as a file that `join_segments` takes; whole or not at all.

    Args:
        path: The file.
        frames: At least one; an odd last row or column is left out, since players want even sides.
        suffix: Of the video that it will be a part of.
        time_base: Seconds in a unit of the frames' times.
        rate: Frames per second, about.
    """
    codec, options = ENCODERS[suffix.lower()]
    with replacing(path) as temporary, _av().open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=rate, options=dict(options))
        context = stream.codec_context
        context.time_base, context.pix_fmt, context.max_b_frames = time_base, "yuv420p", 0
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        for frame in frames:
            made = _encodable(frame.image)
            if not context.is_open:
                context.height, context.width = made.height, made.width
            made.pts, made.time_base = frame.time, time_base
            container.mux(stream.encode(made))
        container.mux(stream.encode(None))


def join_segments(path: Path, segments: Sequence[Path], *, source: Path) -> None:
    """Write a video of the segments' frames and the sound of `source`, without encoding anything again.

    Raises:
        UserError: If it cannot be written.
    """
    av = _av()
    with contextlib.ExitStack() as opened, replacing(path) as temporary:
        parts = [opened.enter_context(av.open(str(segment))) for segment in segments[:1]]
        heard = opened.enter_context(av.open(str(source)))
        output = opened.enter_context(av.open(str(temporary), "w", format=_FORMATS[path.suffix.lower()]))
        image = output.add_stream_from_template(parts[0].streams.video[0])
        tracks = {track.index: output.add_stream_from_template(track) for track in heard.streams.audio}
        packets = heapq.merge(_seen(av, segments, image), _heard(heard, tracks), key=lambda packet: _seconds(packet))
        for packet in packets:
            output.mux(packet)


def _seen(av: Any, segments: Sequence[Path], stream: Any) -> Iterator[Any]:
    for segment in segments:
        with av.open(str(segment)) as part:
            for packet in part.demux(part.streams.video[0]):
                if packet.dts is not None:
                    packet.stream = stream
                    yield packet


def _heard(container: Any, tracks: dict[int, Any]) -> Iterator[Any]:
    if not tracks:
        return
    for packet in container.demux(*container.streams.audio):
        if packet.dts is not None:
            packet.stream = tracks[packet.stream.index]
            yield packet


def _seconds(packet: Any) -> float:
    return float(packet.dts * _fraction(packet.time_base))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    av = _av()
    try:
        container = av.open(str(path))
    except (OSError, ValueError) as problem:  # PyAV's errors are both
        got = getattr(problem, "strerror", None) or problem
        raise error(f"{path} must be a video that can be read", got=got, cure="pass another file") from problem
    with container:
        if not container.streams.video:
            raise error(f"{path} must hold a video", got="none, only sound", cure="pass another file")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        yield container, stream


def _decoded(path: Path, container: Any, stream: Any) -> Iterator[Any]:
    try:
        yield from container.decode(stream)
    except (OSError, ValueError) as problem:
        got = getattr(problem, "strerror", None) or problem
        raise error(f"{path} must be undamaged", got=got, cure="repair it, e.g. by ffmpeg -i IN OUT") from problem


def _upright(frame: Any) -> np.ndarray:
    """Return the 8-bit image, turned as the file asks for."""
    turns = round(frame.rotation / 90)
    return np.rot90(frame.to_ndarray(format="rgb24"), turns)


def _encodable(image: AnyHostImage) -> Any:
    height, width = (side // 2 * 2 for side in image.shape[:2])
    pixels = np.ascontiguousarray(np.rint(np.clip(image[:height, :width], 0, 1) * 255).astype(np.uint8))
    frame = _av().VideoFrame.from_ndarray(pixels, format="rgb24")
    made = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
    made.colorspace = made.color_primaries = made.color_trc = _BT709
    return made


def _av() -> Any:
    try:
        import av
    except ModuleNotFoundError as problem:
        cure = "pip install 'swag-jax[video]'"
        raise error("videos are read with PyAV", got="no such package", cure=cure) from problem
    return av


def _fraction(value: Any) -> Fraction:
    """Return a rational number of PyAV, which has a type of its own in some versions, as a fraction."""
    return Fraction(value.numerator, value.denominator)
