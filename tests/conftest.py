"""Every test runs on 8 simulated CPU devices, with shapes checked at run time and no silent rank broadcasts."""

import jax
import jaxtyping
import pytest
from jax.experimental.compilation_cache import compilation_cache

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

jaxtyping.install_import_hook("swag_jax", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")


@pytest.fixture(scope="module")
def programs_kept(tmp_path_factory):
    """Compile equal programs of a module's tests once; they are kept on disk, which no other test does."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("programs")),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture
def unchecked(monkeypatch):
    """Let a value pass that its type forbids, so that the package's own check of it is what answers."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
