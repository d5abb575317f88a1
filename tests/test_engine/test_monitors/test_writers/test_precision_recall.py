# Copyright (c) OpenMMLab. All rights reserved.
import numpy as np
from tensorboard.backend.event_processing.event_accumulator import \
    EventAccumulator
from tensorboard.plugins.pr_curve.metadata import (PLUGIN_NAME,
                                                   parse_plugin_metadata)
from tensorboard.plugins.pr_curve.pr_curves_plugin import PrCurvesPlugin
from tensorboard.util.tensor_util import make_ndarray
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import compute_curve

from mmpose.engine.monitors import EventWriter, FailureGuard, Record
from mmpose.engine.monitors.writers.record import PrecisionRecall

THRESHOLDS = np.arange(101) / 100


def curve(scores, hits, positives):
    right, wrong = (
        np.array([(of & (scores >= t)).sum() for t in THRESHOLDS])
        for of in (hits, ~hits))
    return PrecisionRecall('pr/some', right, wrong, positives, 'What *it* is')


def written(tmp_path, *curves):
    summary_writer = SummaryWriter(str(tmp_path))
    writer = EventWriter(summary_writer)
    guard = FailureGuard('SomeMonitor', strict=True)
    for step, value in enumerate(curves, 1):
        writer.write(Record(step, lambda value=value: [value]), guard)
    writer.close()
    return EventAccumulator(
        str(tmp_path), size_guidance=dict(tensors=0)).Reload()


def test_a_curve_is_the_one_that_tensorboard_shows(tmp_path):
    """Against PyTorch's computation from the scores, and for each step."""
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 101, (3, 500)) / 100
    hits = rng.random((3, 500)) < scores
    events = written(tmp_path,
                     *(curve(s, h, h.sum()) for s, h in zip(scores, hits)))
    tensors = events.Tensors('pr/some')
    assert [tensor.step for tensor in tensors] == [1, 2, 3]
    for tensor, of, right in zip(tensors, scores, hits):
        # A little higher, so that 0.29 * 100 is no less than 29.
        expected = compute_curve(right, of + 1e-9, 101)
        np.testing.assert_allclose(
            make_ndarray(tensor.tensor_proto), expected, atol=1e-6)
    metadata = events.SummaryMetadata('pr/some')
    assert metadata.plugin_data.plugin_name == PLUGIN_NAME
    assert metadata.summary_description == 'What *it* is'
    content = parse_plugin_metadata(metadata.plugin_data.content)
    assert content.num_thresholds == 101


def test_what_has_no_prediction_lowers_the_recall(tmp_path):
    scores = np.array([0.2, 0.6, 0.9])
    hits = np.array([False, True, True])
    events = written(tmp_path, curve(scores, hits, 4))
    rows = make_ndarray(events.Tensors('pr/some')[0].tensor_proto)
    shown = PrCurvesPlugin._make_pr_entry(None, 1, 0., rows)
    assert shown['false_negatives'][0] == 2 and shown['recall'][0] == 0.5
    assert shown['false_positives'][:22] == [1] * 21 + [0]
    assert shown['true_negatives'][:22] == [0] * 21 + [1]
    assert shown['precision'][30] == 1
    # No threshold above the highest score.
    assert shown['thresholds'][-1] == 0.9


def test_an_empty_curve_is_no_error(tmp_path):
    events = written(tmp_path, curve(np.zeros(0), np.zeros(0, bool), 0))
    rows = make_ndarray(events.Tensors('pr/some')[0].tensor_proto)
    assert (rows == 0).all()
