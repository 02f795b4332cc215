"""Every test runs on 8 simulated CPU devices, with shapes checked at run time and no silent rank broadcasts."""

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

install_import_hook("swag_jax", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")
