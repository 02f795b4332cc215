"""Every test runs on 8 simulated CPU devices, with shapes checked at run time and no silent rank broadcasts."""

import ctypes
import gc
import os
import platform
import tempfile
from pathlib import Path

import jax
import jaxtyping
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Most of the suite's time is compilation of small programs that run once. `optimized` is for others.
jax.config.update("jax_disable_most_optimizations", True)
jax.config.update("jax_traceback_in_locations_limit", 0)  # lowering is a tenth faster without
if jax.__version_info__ < (0, 11):  # XLA's older code generator compiles twice as fast; later versions lack the flag
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_use_fusion_emitters=false"
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

jaxtyping.install_import_hook("swag_jax", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")


def pytest_configure(config):
    """Compile equal programs once: all test processes, and the commands that they start, share one folder."""
    if not hasattr(config, "workerinput"):
        folder = tempfile.TemporaryDirectory(prefix="swag-jax-programs-")
        config.add_cleanup(folder.cleanup)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])


def pytest_collection_modifyitems(items):
    """Mark the tests of `slow.txt`: those that take over five seconds and are not the only ones to hold a law."""
    slow = set((Path(__file__).parent / "slow.txt").read_text().splitlines())
    for item in items:
        if item.nodeid in slow:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def drop_programs():
    """Return what drops all programs, and gives their memory back to the system."""

    def drop():
        jax.clear_caches()
        gc.collect()
        if platform.libc_ver()[0] == "glibc":
            ctypes.CDLL(None).malloc_trim(0)  # else what is freed stays with the process

    return drop


@pytest.fixture(autouse=True, scope="module")
def few_programs(drop_programs):
    """Drop a module's programs after it: some thousands take gigabytes, and about five memory maps each."""
    yield
    drop_programs()


@pytest.fixture
def optimized():
    """Compile with optimizations, for tests that compute for longer than that takes."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture
def unchecked(monkeypatch):
    """Turn off type checks, so that a wrong value reaches the package's own check."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
