import numpy as np

from dnr_jax.evaluation.intervals import wilson


def test_the_wilson_interval_is_that_of_the_tables():
    low, high = wilson(np.array([0, 5, 81, 10]), np.array([10, 10, 263, 10]))
    # Of 81 of 263: Newcombe (1998), Table I.
    np.testing.assert_allclose(low, [0.0, 0.2366, 0.2553, 0.7225], atol=1e-4)
    np.testing.assert_allclose(high, [0.2775, 0.7634, 0.3662, 1.0], atol=1e-4)


def test_the_wilson_interval_of_nothing_is_all():
    low, high = wilson(np.array(0), np.array(0))
    assert (low, high) == (0, 1)
