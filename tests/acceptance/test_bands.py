"""The bands within which the demonstration and these tests accept a random split."""

import pytest

from headgate.demo.core import band


@pytest.mark.parametrize(
    ("trials", "share", "accepted"),
    [
        (2_000, 0.10, (138, 269)),
        (10_000, 0.10, (856, 1_150)),
        (10_000, 0.01, (55, 152)),
        (10_000, 0.50, (4_755, 5_245)),
        (500, 0.0, (0, 0)),
        (500, 1.0, (500, 500)),
    ],
)
def test_a_band_holds_the_exact_binomial_quantiles(
    trials: int, share: float, accepted: tuple[int, int]
) -> None:
    """Figures of published tables, for one false alarm in a million."""
    assert band(trials, share) == accepted
