"""Programs on eight devices do what one would do with all the data."""

import functools
import platform
import re
import resource
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swag_jax import devices
from swag_jax._checks import UserError


def test_eight_simulated_devices():
    assert devices.count() == 8


def test_shares_keep_the_order():
    batch = np.arange(24).reshape(24, 1)
    shares = devices.shares(batch)
    assert shares.shape == (8, 3, 1)
    np.testing.assert_array_equal(shares.reshape(24, 1), batch)


def test_a_batch_must_divide():
    with pytest.raises(UserError, match="multiple of the number of devices, got a batch of 12 on 8 devices"):
        devices.shares(np.zeros(12))


def test_a_parallel_step_of_descent_equals_one_on_the_whole_batch():
    x = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    y = x @ np.float32([1, -2, 3]) + 1

    def loss(weights, x, y):
        return jnp.mean((x @ weights["slope"] + weights["offset"] - y) ** 2)

    def step(weights, rate, x, y):
        value, gradient = devices.mean(jax.value_and_grad(loss)(weights, x, y))
        return jax.tree.map(lambda w, g: w - rate * g, weights, gradient), value

    weights = {"slope": jnp.zeros(3), "offset": jnp.zeros(())}
    expected = jax.tree.map(lambda w, g: w - 0.1 * g, weights, jax.grad(loss)(weights, x, y))
    mapped = devices.parallel(step, split=(2, 3), arguments=4)
    found, value = mapped(weights, 0.1, devices.shares(x), devices.shares(y))
    np.testing.assert_allclose(value, loss(weights, x, y), rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)


def test_every_device_knows_its_number():
    gather = devices.parallel(
        lambda share: jax.lax.all_gather(share[0] + devices.index(), devices.AXIS), split=(0,), arguments=1
    )
    np.testing.assert_array_equal(gather(devices.shares(np.arange(0, 80, 10))), 11 * np.arange(8))


def polynomial(network, x, y):
    return {"value": network["slope"] * x + y.sum(), "count": jnp.int32(1)}


@pytest.mark.parametrize("mapping", devices.MAPPINGS)
def test_spread_equals_one_at_a_time(mapping):
    network = {"slope": np.float32(3)}
    x, y = np.random.default_rng(0).normal(size=(2, 16, 5)).astype(np.float32)
    program = devices.map_batch(polynomial, shared=["network"], mapping=mapping)
    found = program(devices.replicate(network), *devices.split((x, y)))
    assert found["value"].shape == (8, 2, 5)
    assert len(found["value"].addressable_shards) == 8
    expected = np.stack([polynomial(network, a, b)["value"] for a, b in zip(x, y, strict=True)])
    np.testing.assert_allclose(devices.gather(found)["value"], expected, rtol=1e-6)
    np.testing.assert_array_equal(devices.gather(found)["count"], np.ones(16))


@pytest.mark.parametrize("mapping", devices.MAPPINGS)
def test_spread_is_compiled_ahead_and_takes_its_own_results(mapping):
    program = devices.map_batch(lambda step, x: x + step, shared=["step"], donated=["x"], mapping=mapping)
    number = jax.ShapeDtypeStruct((), jnp.float32)
    compiled = program.lower(number, jax.ShapeDtypeStruct((8, 3, 4), jnp.float32)).compile()
    step, x = devices.replicate(np.float32(1)), devices.split(np.zeros((24, 4), np.float32))
    with jax.transfer_guard("disallow"):  # the second call copies nothing: not the shared argument, not the result
        x = compiled(step, compiled(step, x))
    np.testing.assert_array_equal(devices.gather(x, length=17), np.full((17, 4), 2))


def test_spread_takes_partial_functions():
    power = devices.map_batch(functools.partial(lambda x, *, exponent: x**exponent, exponent=3))
    np.testing.assert_array_equal(devices.gather(power(devices.split(np.full(8, 2.0, np.float32)))), np.full(8, 8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shared": ["netwrok"]}, "unknown argument 'netwrok': did you mean network?"),
        ({"donated": ["z"]}, "unknown argument 'z': known: network, x, y"),
        ({"mapping": "vmap"}, "unknown mapping 'vmap'"),
    ],
)
def test_spread_checks_names(unchecked, options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        devices.map_batch(polynomial, **options)


def test_a_batch_is_filled_up_with_its_last_entry():
    assert devices.pad([*"abc"], size=1) == [*"abcccccc"]
    assert devices.pad([1] * 16, size=2) == [1] * 16
    for wrong in ([], [1] * 17):
        with pytest.raises(UserError, match=f"holds 1 to 16 items, got {len(wrong)}"):
            devices.pad(wrong, size=2)


@pytest.fixture
def joined(monkeypatch):
    """What `jax.distributed.initialize` is called with."""
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args, **options: calls.append((*args, options)))
    for name in ("SLURM_JOB_ID", "SLURM_NTASKS", "OMPI_MCA_orte_hnp_uri"):
        monkeypatch.delenv(name, raising=False)
    return calls


def test_one_process_joins_nothing(joined):
    assert devices.initialize() is False
    assert joined == []
    assert (devices.process_index(), devices.process_count()) == (0, 1)
    devices.wait_for_all(name="alone")


def test_processes_are_joined_by_arguments(joined):
    devices.initialize(coordinator="127.0.0.1:80", processes=2, process=1)
    assert joined == [("127.0.0.1:80", {"num_processes": 2, "process_id": 1})]


@pytest.mark.parametrize(
    ("environment", "several"),
    [
        ({"SLURM_NTASKS": "2"}, True),
        ({"SLURM_NTASKS": "1"}, False),
        ({"OMPI_MCA_orte_hnp_uri": "x", "OMPI_COMM_WORLD_SIZE": "4"}, True),
    ],
)
def test_processes_are_joined_by_a_launcher(joined, monkeypatch, environment, several):
    if "SLURM_NTASKS" in environment:
        environment |= dict.fromkeys(("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID"), "1")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    devices.initialize()
    assert joined == ([({},)] if several else [])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"processes": 2}, "coordinator, processes and process belong together, got None, 2, None"),
        ({"coordinator": "a:1", "processes": 2, "process": 2}, "process must be at least 0 and less than processes"),
    ],
)
def test_contradictory_processes(joined, options, message):
    with pytest.raises(UserError, match=message):
        devices.initialize(**options)
    assert joined == []


MEMORY = """
import resource
import jax, jax.numpy as jnp
from swag_jax import devices

devices.run_inline()
program = jax.jit(lambda x: (jnp.sin(jnp.outer(x, x)) @ x)[0])  # 47 MiB of temporary memory
x = jnp.arange(3500.0)


def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    float(program(x))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


print(min(faults() for _ in range(4)))
devices.keep_memory()
print(min(faults() for _ in range(4)))
"""


def test_memory_that_is_kept_is_not_asked_for_again():
    ended = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    given, kept = map(int, ended.stdout.split())
    # Each of glibc's arenas can keep a block of 47 MiB; one of 64 MiB, the first only.
    assert given >= 45 * 2**20 // resource.getpagesize()
    assert (kept < 1000) == (platform.libc_ver()[0] == "glibc")  # of other libraries' memory nothing is kept


@pytest.mark.parametrize(("size", "batched"), [(1, False), (2, True)])
@pytest.mark.parametrize("mapping", devices.MAPPINGS)
def test_a_batch_of_one_has_no_batch_axis_inside(mapping, size, batched):
    """XLA's products with a batch axis of one are slower on a CPU."""
    square = devices.map_batch(lambda x: x @ x, mapping=mapping)
    argument = jax.ShapeDtypeStruct((devices.count(), size, 3, 3), np.float32)
    assert ("batching_dims" in square.lower(argument).as_text()) == batched


def average(share, factor):
    return {"mean": devices.mean(factor * share.mean()), "place": devices.mean(devices.index().astype(jnp.float32))}


def test_parallel_steps_that_are_not_compiled():
    batch = devices.shares(np.arange(16.0, dtype=np.float32).reshape(16, 1))
    step = {"split": (0,), "arguments": 2}
    with jax.disable_jit():
        found = devices.parallel(average, **step)(batch, jnp.float32(2))
    assert {name: float(value) for name, value in found.items()} == {"mean": 15.0, "place": 3.5}
    assert jax.tree.map(float, devices.parallel(average, **step)(batch, jnp.float32(2))) == {"mean": 15.0, "place": 3.5}


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("mapping", devices.MAPPINGS)
def test_independent_problems_that_are_not_compiled(mapping, size):
    problems = np.random.default_rng(0).random((8 * size, 3), np.float32)
    arguments = devices.replicate(np.float32(2)), devices.split(problems)
    with jax.disable_jit():
        found = devices.map_batch(lambda factor, x: factor * x, shared=["factor"], mapping=mapping)(*arguments)
    assert found.shape == (8, size, 3)
    np.testing.assert_array_equal(devices.gather(found), 2 * problems)


def test_steps_that_move_arrays_let_no_others_do_so():
    @devices.moves_arrays
    def doubled(numbers):
        for number in numbers:
            yield float(2 * jnp.asarray(number))

    with jax.transfer_guard("disallow"):
        steps = doubled([1.0, 2.0])
        assert next(steps) == 2.0
        with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
            jnp.asarray(1.0) + 1
        assert list(steps) == [4.0]
