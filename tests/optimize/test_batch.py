"""`stylize_batch` and `stylize_stream`: many pairs, each as it would be alone."""

import threading
import time

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
    batch,
    memory,
    preparation,
    stylize,
    stylize_batch,
    stylize_stream,
)
from swag_jax.optimize.joint import Joint
from swag_jax.optimize.once import Once
from swag_jax.optimize.programs import Programs
from swag_jax.optimize.reader import Reader

COFFEE, CAT, ASTRONAUT = sample("coffee", size=64), sample("cat", size=64)[:, :48], sample("astronaut", size=64)
SWIRLS, MOSAIC, DOTS = sample("swirls", size=64), sample("mosaic", size=50), sample("dots", size=40)[:30]

OBJECTIVE = Objective(("relu1_2",), ("relu1_1", "relu1_2"), style_weight=60.0, tv_weight=5.0)
SHALLOW = OBJECTIVE.replace(content_layers=("relu1_1",), style_layers=("relu1_1",))

TWO_SCALES = StylizeSettings(
    size=48, smallest_size=24, steps=4, weights="random", precision="float32", objective=OBJECTIVE
)
TINY = TWO_SCALES.replace(size=32, smallest_size=32, steps=2, objective=SHALLOW)


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

    monkeypatch.setattr("swag_jax.optimize.reader.host_image", lambda image, what: np.float32(image))
    monkeypatch.setattr("swag_jax.optimize.reader.resize", lambda image, *shape: image[: shape[0], : shape[1]])
    monkeypatch.setattr("swag_jax.optimize.preparation.resize", lambda image, *shape: image[: shape[0], : shape[1]])
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
    computed = []
    original = Programs._target

    def spy(self, what, *arguments):
        computed.append(what)
        return original(self, what, *arguments)

    monkeypatch.setattr(Programs, "_target", spy)
    contents, styles = [COFFEE, ASTRONAUT], [SWIRLS, SWIRLS[::-1], SWIRLS[:, ::-1]]
    combined = [(content, style.copy()) for content in contents for style in styles]
    stylize_batch(*map(list, zip(*combined, strict=True)), settings=TINY)
    assert sorted(computed) == ["content"] * 2 + ["style"] * 3


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


def test_a_batch_size_below_the_devices_is_kept(monkeypatch):
    solved, original = [], Joint.solve

    def solve(self):
        solved.append(len(self.works))
        return original(self)

    monkeypatch.setattr(Joint, "solve", solve)
    contents = [np.roll(COFFEE, shift, axis=1) for shift in range(5)]
    assert stylize_batch(contents, SWIRLS, settings=TINY, batch_size=2).failed == []
    assert solved == [2, 2, 1]


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
    asked = []

    def chunk(self, work, scale, *, steps, size):
        asked.append(size)
        return 100 + 10 * size

    monkeypatch.setitem(batch.LARGEST, "cpu", 64)
    monkeypatch.setattr(memory, "needed_bytes", lambda program: program)
    monkeypatch.setattr(
        Programs, "chunk", lambda self, work, scale, *, steps, size: asked.append(size) or 10 * size + 100
    )
    monkeypatch.setattr(memory, "free_bytes", lambda: devices.count() * 180 / memory.HEADROOM)
    run = batch._Run(total=None, callback=None, batch_size=None, ahead=128, max_shapes=None, mapping="pmap")
    work = run.reader.prepare(0, Pair(COFFEE, SWIRLS, TINY))
    assert [len(works) for works in run._cut([work] * 150)] == [64, 64, 22]
    assert asked[:2] == [20, 1]


@pytest.mark.parametrize(("number", "above", "below"), [(1, 1, 1), (7, 7, 7), (9, 10, 8), (11, 12, 10), (17, 20, 16)])
def test_sizes_of_batches_are_few(number, above, below):
    assert (batch._class_above(number), batch._class_below(number)) == (above, below)


def test_little_of_a_batch_is_copies():
    assert max(1 - number / batch._class_above(number) for number in range(1, 1000)) < 0.2


def test_a_pair_that_cannot_fit_fails_with_the_cure(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 2**20)
    found = stylize_batch([COFFEE, CAT], SWIRLS, settings=TINY)
    assert [type(outcome.error) for outcome in found.outcomes] == [OutOfMemoryError] * 2
    assert "GiB needed at size 32" in str(found.failed[0].error)


def test_out_of_memory_halves_the_batch(monkeypatch):
    tried = []
    original = Joint.solve

    def solve(self):
        tried.append((len(self.works), self.size))
        if self.size > 1:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")
        return original(self)

    monkeypatch.setattr(Joint, "solve", solve)
    contents = [np.roll(COFFEE, shift, axis=1) for shift in range(20)]
    found = stylize_batch(contents, SWIRLS, settings=TINY, batch_size=40)
    assert tried == [(20, 3), (8, 1), (8, 1), (4, 1)]
    assert found.failed == []
    check_equal(found.outcomes[19].result, stylize(contents[19], SWIRLS, settings=TINY))


def test_other_failures_are_not_hidden(monkeypatch):
    def fail(self):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(Joint, "solve", fail)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        stylize_batch(COFFEE, SWIRLS, settings=TINY)


def test_progress(monkeypatch):
    monkeypatch.setitem(preparation.STEPS_BETWEEN_CALLBACKS, "cpu", 2)
    seen = []
    settings = TINY.replace(steps=4)
    stylize_batch([COFFEE[..., :2], COFFEE, CAT], SWIRLS, settings=settings, callback=seen.append)
    assert [(p.done, p.failed, p.pairs) for p in seen] == [(0, 1, 3), (0, 1, 3), (1, 1, 3), (1, 1, 3)]
    assert all(p.rate > 0 for p in seen)
    assert seen[0].seconds_left > seen[-1].seconds_left == 0
    assert [p.compilations for p in seen] == sorted(p.compilations for p in seen)


def test_a_callback_stops_the_run(monkeypatch):
    monkeypatch.setitem(preparation.STEPS_BETWEEN_CALLBACKS, "cpu", 1)
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
    work = Reader().prepare(0, Pair(COFFEE, SWIRLS, TWO_SCALES))
    program = Programs(mapping=mapping).chunk(work, work.scales[0], steps=2, size=2).as_text()
    assert "num_partitions=8" in program
    assert "while" in program
    for operation in ("all-reduce", "all-gather", "all-to-all", "collective", "reduce-scatter", "send", "recv"):
        assert f" {operation}" not in program


def test_collectives_would_be_seen():
    text = jax.pmap(lambda x: jax.lax.psum(x, "i"), axis_name="i").lower(jnp.zeros((8, 2))).compile().as_text()
    assert " all-reduce" in text


def test_once_computes_once_in_many_threads():
    once, calls = Once(capacity=1000), []

    def slow():
        calls.append(1)
        time.sleep(0.05)
        return "value"

    with batch.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: once.get("key", slow), range(8))) == ["value"] * 8
    assert len(calls) == 1


def test_once_forgets_the_oldest():
    once, calls = Once(capacity=250), []

    def make(key):
        return once.get(key, lambda: calls.append(key) or np.zeros(100, np.uint8))

    for key in "abacab":  # c pushes b out, the oldest by then
        make(key)
    assert calls == ["a", "b", "c", "b"]


def test_once_remembers_bad_input_and_forgets_accidents():
    once, calls = Once(capacity=10), []

    def fail(failure):
        calls.append(failure)
        raise failure

    for failure in (UserError("bad"), MemoryError()):
        for _ in range(2):
            with pytest.raises(type(failure)):
                once.get(type(failure), lambda failure=failure: fail(failure))
    assert [type(call) for call in calls] == [UserError, MemoryError, MemoryError]


def test_programs_of_the_last_sizes_are_kept():
    run = batch._Run(total=None, callback=None, batch_size=8, ahead=1, max_shapes=None, mapping="pmap")
    pairs = [Pair(COFFEE[:height], SWIRLS, TINY) for height in (48, 46, 44, 42, 40, 38, 38)]
    assert all(outcome.error is None for outcome in run.outcomes(pairs))
    assert len(run.programs.kept) == KEPT
    compiled = run.programs.compiled
    assert compiled > 6
    assert [outcome.error for outcome in run.outcomes(pairs[-KEPT:])] == [None] * KEPT
    assert run.programs.compiled == compiled
    assert [outcome.error for outcome in run.outcomes(pairs[:1])] == [None]
    assert run.programs.compiled > compiled
