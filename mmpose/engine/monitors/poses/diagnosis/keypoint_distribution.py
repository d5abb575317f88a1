# Copyright (c) OpenMMLab. All rights reserved.
import functools
from typing import Iterator

from ...core.monitor import Chart
from ...writers.record import HISTOGRAM, IMAGE, LAYER_SCALAR, Record, Value
from .diagnosis import Diagnosis, Validation
from .distribution.bias import bias_values, heatmap_grid
from .distribution.errors import ErrorDistribution
from .distribution.spread import spread_values


class DistributionDiagnosis(Diagnosis):
    """Log how the errors of the keypoints are distributed.

    ============================================ ===========================
    ``keypoints/error_p<percentile>``            10th, 50th and 90th percentile
                                                 of the error: the distance
                                                 over the box's longer side, of
                                                 all located keypoints
    ``keypoints/error_p<percentile>/<keypoint>`` The same of each keypoint,
                                                 with ``log_details``
    ``keypoints/error/<keypoint>``               Histogram of the error; 0.5
                                                 is 0.5 or more; with
                                                 ``log_details``
    ``keypoints/PCK_curve``                      A figure: the PCK by
                                                 threshold, of all keypoints
                                                 and of the best and worst
                                                 ones, and the areas below
    ``keypoints/PCK_AUC``                        Area under the PCK over the
                                                 thresholds from 0 to 0.2, from
                                                 0 to 1, with ``log_details``
    ``keypoints/PCK_AUC/<keypoint>``             The same of each keypoint,
                                                 with ``log_details``
    ``keypoints/PCK_AUC_of_mean_pose``           ``keypoints/PCK_AUC`` if in
                                                 each box the mean pose of the
                                                 ground truth were predicted,
                                                 with ``log_details``
    ``keypoints/spread``                         Standard deviation of the
                                                 predicted keypoints over the
                                                 instances, relative to their
                                                 boxes, over that of the ground
                                                 truth, with ``log_details``
    ``keypoints/bias/<axis>``                    Mean offset of the prediction
                                                 to the right and downwards,
                                                 over the box's longer side, of
                                                 the keypoints within a tenth
                                                 of it, with ``log_details``
    ``keypoints/bias/<keypoint>/<axis>``         The same of each keypoint,
                                                 with ``log_details``
    ============================================ ===========================

    A median that falls while the 90th percentile stays means that most
    keypoints become more exact and the others are lost. An offset of all
    keypoints in one direction, by half a pixel of the heatmap or so, is that
    of codecs or transforms that do not fit together. A spread near 0 means one
    pose for all instances, and a PCK that is no higher than that of the mean
    pose means that the model has not learned to look at the image.
    """

    charts = (Chart(
        'Keypoints',
        'distance over box size: median, p10 to p90',
        'keypoints/error_p50',
        margins=('keypoints/error_p10', 'keypoints/error_p90')), )

    def records(self, runner, validation: Validation) -> Iterator[Record]:
        step, parts = validation.step, validation.parts
        details, grid = validation.details, heatmap_grid(runner)

        @functools.lru_cache(None)
        def errors() -> ErrorDistribution:  # In the writer's thread, once.
            return ErrorDistribution(parts)

        def values() -> Iterator[Value]:
            yield from errors().scalars(details)
            yield from bias_values(parts, grid, details)
            yield from spread_values(parts, details)

        yield Record(step, values, kind=LAYER_SCALAR)
        yield Record(
            step, lambda: errors().figure(validation.when), kind=IMAGE)
        if details:
            yield Record(step, lambda: errors().histograms(), kind=HISTOGRAM)
