"""What the noise of pixels tells: how many counts a photon makes, and how far the picture is above its noise."""

from __future__ import annotations

import numpy as np

from airflow_provider_ophys.report.movie import MovieSurvey

# Pixels are put together by their mean, and the quietest of each group taken: the others are cells that fire.
GROUPS, FEWEST_PER_GROUP, FEWEST_GROUPS = 30, 20, 6
QUIET_PERCENTILE = 25.0
FEWEST_FRAMES = 50
# How much of the variance of the groups the line must explain.
LEAST_FIT = 0.7


def photon_gain(survey: MovieSurvey) -> float | None:
    """
    Return the slope of the variance of pixels over their mean: how many counts a photon makes.

    :returns: Counts per photon; ``None`` if variance and mean are on no line, as of registered or denoised movies.
    """
    if len(survey.indices) < FEWEST_FRAMES:
        return None
    mean, variance = survey.mean.ravel(), survey.deviation.ravel() ** 2
    order = np.argsort(mean)
    groups = [group for group in np.array_split(order, GROUPS) if len(group) >= FEWEST_PER_GROUP]
    if len(groups) < FEWEST_GROUPS:
        return None
    means = np.array([np.median(mean[group]) for group in groups])
    variances = np.array([np.percentile(variance[group], QUIET_PERCENTILE) for group in groups])
    if np.ptp(means) <= 0 or np.ptp(variances) <= 0:
        return None
    slope = float(np.polyfit(means, variances, 1)[0])
    fit = float(np.corrcoef(means, variances)[0, 1]) ** 2
    return slope if slope > 0 and fit > LEAST_FIT else None


def signal_to_noise(survey: MovieSurvey) -> float:
    """Return the median over pixels of the mean, above what is dark, over the standard deviation."""
    deviation = survey.deviation
    known = deviation > 0
    if not known.any():
        return 0.0
    return float(np.median((survey.mean[known] - min(survey.dark, float(survey.mean.min()))) / deviation[known]))
