"""Every test runs on 8 simulated CPU devices, without silent rank broadcasts.

With SWAG_JAX_CHECK_SHAPES=1 every call's shapes and types are checked, too, which takes a quarter longer.
"""

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
gc.set_threshold(100_000, 20, 50)  # traces are many small objects, of which little is garbage

if os.environ.get("SWAG_JAX_CHECK_SHAPES") == "1":  # before any import of the package
    jaxtyping.install_import_hook("swag_jax", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")


def pytest_configure(config):
    """Compile equal programs once: all test processes, and the commands that they start, share one folder."""
    if not hasattr(config, "workerinput"):
        folder = tempfile.TemporaryDirectory(prefix="swag-jax-programs-")
        config.add_cleanup(folder.cleanup)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])


def pytest_collection_modifyitems(items):
    """Mark the tests of `slow.txt`: those that take over five seconds and are not the only ones to hold a law."""
    slow = set((Path(__file__).parent / "slow.txt").read_text().splitlines())
    for item in items:
        if item.nodeid in slow:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish():
    """Leave what was imported out of garbage collection: it stays to the end."""
    gc.collect()
    gc.freeze()


def drop_all_programs():
    """Drop all programs, and give their memory back to the system."""
    jax.clear_caches()
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)  # else what is freed stays with the process


@pytest.fixture(scope="session")
def drop_programs():
    """Return what drops all programs, for a test that takes much memory itself."""
    return drop_all_programs


def memory():
    """The bytes of this process that are in memory; endless if the system does not say."""
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if pages.exists() else float("inf")


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """Drop programs once they are many: some thousands take gigabytes, and about five memory maps each.

    Within a module they are kept longer, as its tests share them; a test may need one more gigabyte.
    """
    same = nextitem is not None and nextitem.path == item.path
    if memory() > (1.9e9 if same else 1.2e9):
        drop_all_programs()


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
