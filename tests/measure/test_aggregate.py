"""Means with standard errors, and the distances of sets."""

import numpy as np
import pytest

from swag_jax.measure import Comparison, Estimate, artfid, estimate, frechet_distance
from swag_jax.measure.aggregate import Aggregate
from swag_jax.measure.evaluator import CANDIDATES
from swag_jax.measure.frechet import Moments


def comparison(value, seed=None, **more):
    rng = np.random.default_rng(seed)
    vectors = {} if seed is None else {candidate: rng.standard_normal((2, 5)) for candidate in CANDIDATES}
    return Comparison({"lpips": dict.fromkeys(CANDIDATES, value), **more}, vectors)


def test_estimate_is_numpys_mean_and_standard_error():
    values = [0.5, 1.5, 4.0]
    found = estimate(values)
    assert found.mean == pytest.approx(2.0)
    assert found.standard_error == pytest.approx(np.std(values, ddof=1) / np.sqrt(3))
    assert estimate([0.25]) == Estimate(0.25, None, 1)


def test_means_over_the_pairs_that_have_the_metric():
    aggregate = Aggregate()
    aggregate.add(comparison(1.0))
    aggregate.add(comparison(3.0, identity={"output": 0.5, "content": 0.0, "style": 0.0}))
    found = aggregate.estimates()
    assert set(found) == {"lpips", "identity"}
    assert found["lpips"]["style"] == Estimate(2.0, 1.0, 2)
    assert found["identity"]["output"] == Estimate(0.5, None, 1)


def test_distances_of_the_sets_are_those_of_all_vectors():
    aggregate, parts = Aggregate(), [comparison(0.5, seed) for seed in range(4)]
    for part in parts:
        aggregate.add(part)
    found = aggregate.estimates()
    moments = {c: Moments.empty(5).add(np.concatenate([part.vectors[c] for part in parts])) for c in CANDIDATES}
    for candidate in CANDIDATES:
        expected = frechet_distance(moments[candidate], moments["style"])
        fid = found["fid"][candidate]
        assert (fid.mean, fid.standard_error, fid.count) == (pytest.approx(expected, rel=1e-9, abs=1e-9), None, 8)
        assert found["artfid"][candidate].mean == pytest.approx(artfid(0.5, expected), rel=1e-9)
    assert found["fid"]["style"].mean == pytest.approx(0, abs=1e-9)
    assert found["fid"]["output"].mean > 0.1


def test_one_image_is_no_set():
    aggregate = Aggregate()
    alone = comparison(0.5, 0)
    aggregate.add(Comparison(alone.values, {candidate: vectors[:1] for candidate, vectors in alone.vectors.items()}))
    assert set(aggregate.estimates()) == {"lpips"}
    assert Aggregate().estimates() == {}
