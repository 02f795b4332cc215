"""Videos: frames as players show them, their times and their sound, and errors for what cannot be read or held."""

from fractions import Fraction

import av
import numpy as np
import pytest

from swag_jax._checks import UserError
from swag_jax.images import video as videos
from swag_jax.images.video import (
    Frame,
    check_video_output,
    join_segments,
    open_video,
    read_frames,
    write_segment,
)


def colors(count, height=32, width=48):
    """Flat frames, each in another color."""
    random = np.random.default_rng(0)
    return [np.full((height, width, 3), random.uniform(0.2, 0.8, 3), np.float32) for _ in range(count)]


def write(path, frames, *, times=None, rate=25, sound=None):
    """Write a video of frames with their times in 1/1000 s."""
    times = times or [40 * i for i in range(len(frames))]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        track = None if sound is None else container.add_stream(sound, rate=48000)
        for image, time in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray((image * 255).astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if track is not None:
            for place in range(0, 48 * 1000, 1024):
                tone = np.sin(np.arange(place, place + 1024)[None] / 20).astype(np.float32)
                frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
                frame.sample_rate, frame.pts = 48000, place
                container.mux(track.encode(frame))
            container.mux(track.encode(None))
    return path


def seconds(video):
    return [float(frame.time * video.time_base) for frame in read_frames(video)]


def test_frames_times_and_sound_survive(tmp_path):
    times = [0, 40, 90, 100, 200, 240, 300]
    source = open_video(write(tmp_path / "in.mp4", colors(7), times=times, sound="aac"))
    assert (source.height, source.width, source.frames, source.sound) == (32, 48, 7, ("aac",))
    frames = list(read_frames(source))
    for frame, color in zip(frames, colors(7), strict=True):
        np.testing.assert_allclose(frame.image, color, atol=3 / 255)
    parts = [tmp_path / "0.mp4", tmp_path / "1.mp4"]
    for part, own in zip(parts, (frames[:4], frames[4:]), strict=True):
        write_segment(part, own, suffix=".mp4", time_base=source.time_base, rate=source.rate)
    join_segments(tmp_path / "out.mp4", parts, source=source.path)
    result = open_video(tmp_path / "out.mp4")
    assert (result.height, result.width, result.frames, result.sound) == (32, 48, 7, ("aac",))
    assert seconds(result) == pytest.approx(seconds(source), abs=1e-4) == [time / 1000 for time in times]
    for frame, before in zip(read_frames(result), frames, strict=True):
        np.testing.assert_allclose(frame.image, before.image, atol=4 / 255)
    heard = [b"".join(bytes(p) for p in av.open(str(v.path)).demux(audio=0)) for v in (source, result)]
    assert heard[0] == heard[1] != b""


def test_odd_sides_lose_a_row_and_a_column(tmp_path):
    frames = [Frame(image, 40 * i) for i, image in enumerate(colors(2, 33, 49))]
    write_segment(tmp_path / "0.mp4", frames, suffix=".mp4", time_base=Fraction(1, 1000), rate=Fraction(25))
    found = open_video(tmp_path / "0.mp4")
    assert (found.height, found.width) == (32, 48)


def test_a_start_in_the_middle(tmp_path):
    source = open_video(write(tmp_path / "in.mp4", colors(5)))
    assert [frame.time for frame in read_frames(source, start=3)] == [frame.time for frame in read_frames(source)][3:]


class Turned:
    """A decoded frame of a video that asks to be turned, as a phone held upright films."""

    rotation = 90  # counterclockwise

    def to_ndarray(self, **options):
        assert options == {"format": "rgb24"}
        return np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


def test_turned_videos_stand_upright():
    upright = videos._upright(Turned())
    assert upright.shape == (3, 2, 3)
    np.testing.assert_array_equal(upright[-1, 0], [0, 1, 2])  # the upper left corner comes to the lower left one


def test_webm_holds_vp9(tmp_path):
    frames = [Frame(image, 40 * i) for i, image in enumerate(colors(3))]
    part = tmp_path / "0.mp4"
    write_segment(part, frames, suffix=".webm", time_base=Fraction(1, 1000), rate=Fraction(25))
    join_segments(tmp_path / "out.webm", [part], source=part)
    with av.open(str(tmp_path / "out.webm")) as container:
        assert container.streams.video[0].codec_context.name == "vp9"
        assert [round(frame.time, 3) for frame in container.decode(video=0)] == [0, 0.04, 0.08]


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("out.gif", "a video must be one of .mp4, .mov, .m4v, .mkv, .webm, got out.gif"),
        ("out.webm", "a .webm file must be able to hold the sound of in.mp4, got aac: write a .mkv file"),
    ],
)
def test_what_cannot_be_written_is_said_first(tmp_path, name, rule):
    source = open_video(write(tmp_path / "in.mp4", colors(1), sound="aac"))
    with pytest.raises(UserError) as raised:
        check_video_output(tmp_path / name, source)
    assert rule in str(raised.value)


def test_what_is_no_video(tmp_path):
    path = tmp_path / "text.mp4"
    path.write_text("no video")
    with pytest.raises(UserError, match=r"text\.mp4 must be a video that can be read, got Invalid data"):
        open_video(path)
    with pytest.raises(UserError, match=r"none\.mp4 must be a video that can be read, got No such file"):
        open_video(tmp_path / "none.mp4")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        track = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        container.mux(track.encode(frame))
        container.mux(track.encode(None))
    with pytest.raises(UserError, match=r"sound\.mp4 must hold a video, got none, only sound"):
        open_video(tmp_path / "sound.mp4")
