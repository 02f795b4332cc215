"""`stylize_batch` and `stylize_stream`: many pairs, each as it would be alone."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swag_jax import devices
from swag_jax._checks import UserError, error
from swag_jax._programs import KEPT
from swag_jax.images import sample
from swag_jax.losses import Objective
from swag_jax.optimize import (
    OutOfMemoryError,
    Pair,
    StylizeSettings,
    drivers,
    engine,
    memory,
    stylize,
    stylize_batch,
    stylize_stream,
)
from swag_jax.optimize.engine import Programs
from swag_jax.optimize.pairs import Reader

COFFEE, CAT, ASTRONAUT = sample("coffee", size=64), sample("cat", size=64)[:, :48], sample("astronaut", size=64)
SWIRLS, MOSAIC, DOTS = sample("swirls", size=64), sample("mosaic", size=50), sample("dots", size=40)[:30]

SHALLOW = Objective(("relu1_1",), ("relu1_1",), style_weight=60.0, tv_weight=5.0)

TWO_SCALES = StylizeSettings(
    size=48, smallest_size=24, steps=4, weights="random", precision="float32", objective=SHALLOW
)
TINY = TWO_SCALES.replace(size=32, smallest_size=32, steps=2, solver="adam")


@pytest.fixture(autouse=True)
def empty_store(monkeypatch, tmp_path):
    monkeypatch.setenv("SWAG_JAX_HOME", str(tmp_path / "store"))


def check_equal(result, single):
    np.testing.assert_allclose(result.image, single.image, rtol=1e-4, atol=1e-5)
    assert result.history.keys() == single.history.keys()
    for name, values in single.history.items():
        np.testing.assert_allclose(result.history[name], values, rtol=1e-4, atol=1e-7)
    facts = ("sizes", "steps", "status", "settings", "source")
    assert [getattr(result, fact) for fact in facts] == [getattr(single, fact) for fact in facts]
    assert set(result.seconds) == {"load", "compile", "optimize"}


@pytest.mark.parametrize(("solver", "mapping"), [("lbfgs", "pmap"), ("adam", "shard_map")])
def test_every_pair_comes_out_as_alone(solver, mapping):
    """Two shapes of contents, three of styles, two scales, and settings that differ in what is no shape."""
    contents, styles = [COFFEE, CAT, ASTRONAUT], [SWIRLS, [MOSAIC, DOTS], DOTS]
    settings = TWO_SCALES.replace(solver=solver)
    each = [settings, settings.replace(blend=(1.0, 2.0), init="statistics"), settings.replace(colors="luminance")]
    found = stylize_batch(contents, styles, settings=each, mapping=mapping)
    assert [outcome.index for outcome in found.outcomes] == [0, 1, 2]
    assert found.failed == []
    assert {image.shape for image in found.images} == {(36, 48, 3), (48, 48, 3)}
    for content, style, own, outcome in zip(contents, styles, each, found.outcomes, strict=True):
        check_equal(outcome.result, stylize(content, style, settings=own))


@pytest.mark.parametrize(
    "change", [{"colors": "match"}, {"style_scale": 2.0}, {"objective": SHALLOW.replace(smoothing="softmax")}]
)
def test_settings_reach_every_pair(change):
    settings = TINY.replace(**change)
    found = stylize_batch([COFFEE, ASTRONAUT], SWIRLS, settings=settings)
    for content, outcome in zip([COFFEE, ASTRONAUT], found.outcomes, strict=True):
        check_equal(outcome.result, stylize(content, SWIRLS, settings=settings))


def test_neighbors_do_not_matter_bit_by_bit():
    contents = [COFFEE, COFFEE[::-1], COFFEE[:, ::-1], ASTRONAUT]
    first = stylize_batch(contents, SWIRLS, settings=TWO_SCALES)
    other = stylize_batch([COFFEE, ASTRONAUT, ASTRONAUT, COFFEE], [SWIRLS, MOSAIC, DOTS, DOTS], settings=TWO_SCALES)
    np.testing.assert_array_equal(first.images[0], other.images[0])


def test_a_pair_with_nan_disturbs_no_other(monkeypatch):
    """Images with NaN are refused as they are read; here one is let through, to see it fail in the solver."""
    broken = np.where(ASTRONAUT > 0.5, np.nan, ASTRONAUT)
    refused = stylize_batch([COFFEE, broken], SWIRLS, settings=TINY)
    assert refused.images[1] is None
    assert str(refused.failed[0].error).startswith("the content image must be finite, got ")

    monkeypatch.setattr("swag_jax.optimize.pairs.host_image", lambda image, what, copy: np.float32(image))
    monkeypatch.setattr("swag_jax.optimize.pairs.resize", lambda image, *shape: image[: shape[0], : shape[1]])
    found = stylize_batch([COFFEE, broken, ASTRONAUT], SWIRLS, settings=TINY)
    clean = stylize_batch([COFFEE, ASTRONAUT, ASTRONAUT], SWIRLS, settings=TINY)
    assert [outcome.index for outcome in found.failed] == [1]
    assert "the term content/relu1_1 must be finite, got nan at step 1" in str(found.failed[0].error)
    np.testing.assert_array_equal(found.images[0], clean.images[0])
    np.testing.assert_array_equal(found.images[2], clean.images[2])


def test_each_pair_has_its_own_seed():
    settings = TINY.replace(init="noise", weights="embedded")
    seeds = [settings.replace(seed=seed) for seed in (3, 4, 3)]
    found = stylize_batch(COFFEE, SWIRLS, settings=seeds)
    np.testing.assert_array_equal(found.images[0], found.images[2])
    assert np.abs(found.images[0] - found.images[1]).max() > 0.1
    check_equal(found.outcomes[1].result, stylize(COFFEE, SWIRLS, settings=seeds[1]))
    for keys in (jax.random.split(jax.random.key(7), 2), list(jax.random.split(jax.random.key(7), 2))):
        keyed = stylize_batch(COFFEE, [SWIRLS, SWIRLS], settings=settings, keys=keys)
        check_equal(keyed.outcomes[1].result, stylize(COFFEE, SWIRLS, settings=settings, key=keys[1]))


def test_a_pair_may_start_from_a_image():
    found = stylize_batch(COFFEE, SWIRLS, settings=TINY, inits=[None, ASTRONAUT, lambda: CAT[..., :2]])
    check_equal(found.outcomes[1].result, stylize(COFFEE, SWIRLS, settings=TINY, init=ASTRONAUT))
    # The basis gives an image back to rounding.
    assert found.outcomes[0].result.history["content/relu1_1"][0] < 1e-10
    assert found.outcomes[1].result.history["content/relu1_1"][0] > 0.01
    assert "the init image must have shape (height, width, 3)" in str(found.outcomes[2].error)


def test_random_weights_by_seed_share_their_programs():
    one = stylize_batch([COFFEE, COFFEE], SWIRLS, settings=TINY)
    seeds = [TINY, TINY.replace(seed=1)]
    two = stylize_batch(COFFEE, SWIRLS, settings=seeds)
    assert one.compilations == two.compilations
    for settings, outcome in zip(seeds, two.outcomes, strict=True):
        check_equal(outcome.result, stylize(COFFEE, SWIRLS, settings=settings))


def test_objectives_of_one_shape_do_not_meet():
    """Two buckets whose states have equal arrays but terms of other names."""
    settings = [TINY, TINY.replace(objective=SHALLOW.replace(content_layers=("conv1_1",)))]
    found = stylize_batch(COFFEE, SWIRLS, settings=settings)
    for own, outcome in zip(settings, found.outcomes, strict=True):
        check_equal(outcome.result, stylize(COFFEE, SWIRLS, settings=own))


def test_compilations_depend_on_shapes_not_on_pairs():
    # targets of content and style, start, chunk, image
    assert stylize_batch(COFFEE, SWIRLS, settings=TINY).compilations == 5
    assert stylize_batch([COFFEE, ASTRONAUT] * 4, [SWIRLS, SWIRLS[::-1]] * 4, settings=TINY).compilations == 5
    # another shape of style: its targets only; another shape of content: everything but the style's
    assert stylize_batch(COFFEE, [SWIRLS, DOTS], settings=TINY).compilations == 6
    assert stylize_batch([COFFEE, CAT], SWIRLS, settings=TINY).compilations == 9


def test_targets_are_computed_once_per_image(monkeypatch):
    computed, original = [], engine.compiled

    def counted(function, *arguments, **static):
        program = original(function, *arguments, **static)

        def call(*arguments, **options):
            computed.append(getattr(function, "__name__", ""))
            return program(*arguments, **options)

        return call

    monkeypatch.setattr(engine, "compiled", counted)
    monkeypatch.setattr(memory, "needed_bytes", lambda program: 0)
    contents, styles = [COFFEE, ASTRONAUT], [SWIRLS, SWIRLS[::-1], SWIRLS[:, ::-1]]
    combined = [(content, style.copy()) for content in contents for style in styles]
    stylize_batch(*map(list, zip(*combined, strict=True)), settings=TINY)
    assert (computed.count("content_targets"), computed.count("style_targets")) == (2, 3)


def test_images_are_read_once():
    reads = []

    def reading(name, image):
        return lambda: reads.append(name) or image

    content, styles = reading("content", COFFEE), [reading("a", SWIRLS), reading("b", MOSAIC)]
    found = stylize_batch(content, styles, settings=TINY)
    assert sorted(reads) == ["a", "b", "content"]
    np.testing.assert_array_equal(found.images[0], stylize_batch(COFFEE, [SWIRLS, MOSAIC], settings=TINY).images[0])


def test_uneven_batches_are_filled_up():
    """11 pairs on 8 devices: two for each, five of them copies."""
    contents = [np.roll(COFFEE, 5 * shift, axis=1) for shift in range(11)]
    many = stylize_batch(contents, SWIRLS, settings=TINY, batch_size=16)
    assert len(many.images) == 11
    for place in (0, 7, 10):
        check_equal(many.outcomes[place].result, stylize(contents[place], SWIRLS, settings=TINY))


def test_a_batch_size_below_the_devices_is_kept():
    contents, seen = [np.roll(COFFEE, shift, axis=1) for shift in range(5)], []
    found = stylize_batch(contents, SWIRLS, settings=TINY, batch_size=2, callback=lambda p: seen.append(p.done))
    assert found.failed == []
    assert seen == [0, 2, 4]


@pytest.mark.parametrize(
    ("shapes", "number"),
    [((3, 1), 3), ((1, 3), 3), ((3, 3), 3), ((1, 1), 1), ((None, 2), 2), ((2, None), 2), ((None, None), 1)],
)
def test_one_image_serves_all(shapes, number):
    contents, styles = (
        array if count is None else np.stack([array] * count)
        for array, count in zip((COFFEE, SWIRLS), shapes, strict=True)
    )
    assert [image.shape for image in stylize_batch(contents, styles, settings=TINY).images] == [(24, 32, 3)] * number


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"styles": [SWIRLS] * 3}, "there must be one of each per pair, or one for all, got 2 contents, 3 styles"),
        ({"contents": []}, "one for all, got 0 contents"),
        ({"settings": [TINY] * 3}, "got 2 contents, 3 settings"),
        ({"inits": [COFFEE] * 3}, "got 2 contents, 3 inits"),
        ({"keys": [jax.random.key(0)]}, r"one key per pair \(2\), got 1"),
        ({"batch_size": 0}, "batch size must be at least 1, got 0"),
        ({"max_shapes": 0}, "max shapes must be at least 1, got 0"),
        ({"mapping": "vmap"}, "unknown mapping 'vmap': did you mean pmap"),
        (
            {"settings": TINY.replace(objective=SHALLOW.replace(content_layers=("relu11",)))},
            "unknown layer 'relu11': did you mean relu1_1",
        ),
    ],
)
def test_bad_usage_is_refused_before_any_work(unchecked, change, message):
    arguments = {"contents": [COFFEE, CAT], "styles": SWIRLS, "settings": TINY, **change}
    with pytest.raises(UserError, match=message):
        stylize_batch(arguments.pop("contents"), arguments.pop("styles"), **arguments)


def unreadable():
    raise error("a source must be an image", got="text")


def missing():
    raise FileNotFoundError("no such file: x.png")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (unreadable, "a source must be an image, got text."),
        (missing, "the content image must be readable, got FileNotFoundError: no such file: x.png."),
        (COFFEE[..., :2], "the content image must have shape (height, width, 3), got (48, 64, 2)."),
        ("x.png", "the content image must be an array, got the path 'x.png': read it with swag_jax.read_image."),
        (np.zeros((1, 64, 3), np.float32), "the shorter side must be at least 2 pixels for the deepest layer"),
    ],
)
def test_a_bad_image_is_one_pairs_failure(unchecked, bad, message):
    settings = TINY.replace(objective=SHALLOW.replace(content_layers=("relu2_1",)))
    found = stylize_batch([COFFEE, bad], SWIRLS, settings=settings)
    assert [outcome.index for outcome in found.failed] == [1]
    assert str(found.failed[0].error).startswith(message)
    assert found.images[0].shape == (24, 32, 3)


def test_the_batch_follows_from_memory(monkeypatch):
    """Three pairs per device would need 130 bytes, and each device may take 125: the batches are of two per device."""
    seen, chunk = [], Programs.chunk

    def sized(self, problem, scale, *, steps, size):
        program = chunk(self, problem, scale, steps=steps, size=size)
        needed[program] = 100 + 10 * size
        return program

    needed = {}
    monkeypatch.setattr(Programs, "chunk", sized)
    monkeypatch.setattr(memory, "needed_bytes", needed.get)
    monkeypatch.setattr(memory, "free_bytes", lambda: devices.count() * 125 / memory.HEADROOM)
    monkeypatch.setattr(engine, "weight_bytes", lambda problem: 0)
    contents = [np.roll(COFFEE, shift, axis=1) for shift in range(24)]
    found = stylize_batch(contents, SWIRLS, settings=TINY, callback=lambda p: seen.append(p.done))
    assert found.failed == []
    assert seen == [0, 16]
    assert set(needed.values()) == {110, 120, 130}


@pytest.mark.parametrize(("number", "above", "below"), [(1, 1, 1), (7, 7, 7), (9, 10, 8), (11, 12, 10), (17, 20, 16)])
def test_sizes_of_batches_are_few(number, above, below):
    assert (drivers._class_above(number), drivers._class_below(number)) == (above, below)


def test_little_of_a_batch_is_copies():
    assert max(1 - number / drivers._class_above(number) for number in range(1, 1000)) < 0.2


def test_a_pair_that_cannot_fit_fails_with_the_cure(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 2**20)
    found = stylize_batch([COFFEE, CAT], SWIRLS, settings=TINY)
    assert [type(outcome.error) for outcome in found.outcomes] == [OutOfMemoryError] * 2
    assert "GiB needed at size 32" in str(found.failed[0].error)


def test_out_of_memory_halves_the_batch():
    """Three pairs per device are too many once; then there is one."""
    seen = []

    def callback(progress):
        seen.append((progress.done, round(progress.seconds_left, 3) == 0))
        if len(seen) == 1:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")

    contents = [np.roll(COFFEE, shift, axis=1) for shift in range(20)]
    found = stylize_batch(contents, SWIRLS, settings=TINY, batch_size=40, callback=callback)
    assert seen == [(0, True), (0, False), (8, False), (16, True)]
    assert found.failed == []
    check_equal(found.outcomes[19].result, stylize(contents[19], SWIRLS, settings=TINY))


def test_other_failures_are_not_hidden():
    def callback(progress):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        stylize_batch(COFFEE, SWIRLS, settings=TINY, callback=callback)


def test_progress(monkeypatch):
    monkeypatch.setitem(engine.STEPS_BETWEEN_CALLBACKS, "cpu", 2)
    seen = []
    settings = TINY.replace(steps=4)
    stylize_batch([COFFEE[..., :2], COFFEE, CAT], SWIRLS, settings=settings, callback=seen.append)
    assert [(p.done, p.failed, p.pairs) for p in seen] == [(0, 1, 3), (0, 1, 3), (1, 1, 3), (1, 1, 3)]
    assert all(p.rate > 0 for p in seen)
    assert seen[0].seconds_left > seen[-1].seconds_left == 0
    assert [p.compilations for p in seen] == sorted(p.compilations for p in seen)


def test_a_callback_stops_the_run(monkeypatch):
    monkeypatch.setitem(engine.STEPS_BETWEEN_CALLBACKS, "cpu", 1)
    stop = lambda progress: progress.done == 1  # noqa: E731
    found = stylize_batch([COFFEE, CAT], SWIRLS, settings=TINY, callback=stop)
    assert found.images[0].shape == (24, 32, 3)
    assert (found.outcomes[1].result, found.outcomes[1].error, found.failed) == (None, None, [])


def test_a_stop_at_the_last_step_keeps_the_image():
    found = stylize_batch(COFFEE, SWIRLS, settings=TINY, callback=lambda progress: True)
    assert found.images[0] is not None


def test_a_stream_draws_only_a_window_of_pairs():
    drawn = []

    def pairs():
        for place in range(40):
            drawn.append(place)
            yield Pair(np.roll(COFFEE, place, axis=1), SWIRLS, TINY, name=str(place))

    stream = stylize_stream(pairs(), ahead=8, total=40)
    first = next(stream)
    assert (first.index, first.name) == (0, "0")
    assert len(drawn) <= 8 + 8
    rest = [outcome.index for outcome in stream]
    assert sorted([0, *rest]) == list(range(40))


def test_a_stream_of_many_shapes_does_not_wait_forever():
    contents = [COFFEE[: 40 + place] for place in range(4)]
    pairs = [Pair(content, SWIRLS, TINY) for content in contents]
    found = list(stylize_stream(iter(pairs), ahead=2))
    assert sorted(outcome.index for outcome in found) == [0, 1, 2, 3]


def test_few_shapes_bound_the_programs():
    contents = [COFFEE[: 40 + place] for place in range(4)]
    found = stylize_batch(contents, SWIRLS, settings=TINY, max_shapes=3)
    assert [image.shape[:2] for image in found.images] == [(20, 32), (21, 32), (21, 32), (22, 32)]
    assert {outcome.result.sizes for outcome in found.outcomes} == {((16, 32),)}
    assert found.compilations == 5
    square = COFFEE[:, :48]
    check_equal(
        stylize_batch(square, SWIRLS[:48, :48], settings=TINY, max_shapes=3).outcomes[0].result,
        stylize(square, SWIRLS[:48, :48], settings=TINY),
    )


def test_an_abandoned_stream_ends_its_threads():
    before = threading.active_count()
    stream = stylize_stream([Pair(COFFEE, SWIRLS, TINY)] * 9)
    next(stream)
    stream.close()
    assert threading.active_count() <= before + 1


@pytest.mark.parametrize("mapping", devices.MAPPINGS)
def test_no_device_waits_for_another(mapping):
    """The compiled program of a chunk on eight devices holds no collective operation."""
    problem = Reader().prepare(Pair(COFFEE, SWIRLS, TWO_SCALES)).problem
    program = Programs(mapping=mapping).chunk(problem, problem.scales[0], steps=2, size=2).as_text()
    assert "num_partitions=8" in program
    assert "while" in program
    for operation in ("all-reduce", "all-gather", "all-to-all", "collective", "reduce-scatter", "send", "recv"):
        assert f" {operation}" not in program


def test_collectives_would_be_seen():
    text = jax.pmap(lambda x: jax.lax.psum(x, "i"), axis_name="i").lower(jnp.zeros((8, 2))).compile().as_text()
    assert " all-reduce" in text


def test_programs_of_the_last_sizes_are_kept():
    heights, compiled = (48, 46, 44, 42, 40, 38, 38, 40, 42, 44, 48), []
    pairs = [Pair(COFFEE[:height], SWIRLS, TINY) for height in heights]
    found = stylize_stream(pairs, ahead=1, callback=lambda p: compiled.append(p.compilations))
    assert [outcome.error for outcome in found] == [None] * len(pairs)
    new = np.diff([0, *compiled])  # the images of one batch are compiled after its callback
    assert KEPT == 4
    assert (new[:6] > 0).all()
    assert new[7:10].tolist() == [0, 0, 0]
    assert new[10] > 0
