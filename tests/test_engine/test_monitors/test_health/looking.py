# Copyright (c) OpenMMLab. All rights reserved.
"""What detectors are shown and asked in tests."""
from types import SimpleNamespace

from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch import nn


def training(max_iters=1000,
             max_epochs=10,
             hooks=(),
             accumulative_counts=1,
             **kwargs):
    """What a detector may ask of a Runner."""
    kind = EpochBasedTrainLoop if max_epochs else IterBasedTrainLoop
    loop = kind.__new__(kind)
    loop.val_interval = kwargs.get('val_interval', 1)
    return SimpleNamespace(
        iter=kwargs.get('start', 0),
        max_iters=max_iters,
        max_epochs=max_epochs or 1,
        train_loop=loop,
        _train_loop=loop,
        hooks=list(hooks),
        cfg={},
        model=nn.Module(),
        optim_wrapper=SimpleNamespace(
            _accumulative_counts=accumulative_counts),
        param_schedulers=kwargs.get('param_schedulers', []),
        _load_from=kwargs.get('load_from'),
        train_dataloader=SimpleNamespace(
            num_workers=kwargs.get('num_workers', 0)))


class Looking:
    """Detectors of one chain at work.

    Args:
        detectors (Detector | list[Detector]): One, or those of a chain.
        runner (Runner): What they may ask.
    """

    def __init__(self, detectors, runner):
        if not isinstance(detectors, list):
            detectors = [detectors]
        self._detectors = detectors
        self._chains = {d.chain: d.chain() for d in detectors}
        for detector in detectors:
            detector.before_train(runner)

    def see(self, step, measurement):
        """All findings; None where nobody has anything to say."""
        seen = {}
        for i, detector in enumerate(self._detectors):
            if isinstance(measurement, detector.wants):
                findings = detector.see(step, measurement)
                if findings is not None:
                    names = {f.name.partition('/')[0] for f in findings}
                    assert names <= set(detector.findings or names)
                    seen.setdefault(detector.chain, {})[i] = list(findings)
        if not seen:
            return None
        return [
            finding for chain, of_chain in seen.items()
            for finding in self._chains[chain].update(of_chain)
        ]
