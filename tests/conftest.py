"""Every test runs on 8 simulated CPU devices, with shapes checked at run time and no silent rank broadcasts."""

import jax
import jaxtyping
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

jaxtyping.install_import_hook("swag_jax", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")


@pytest.fixture
def unchecked(monkeypatch):
    """Let a value pass that its type forbids, so that the package's own check of it is what answers."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
