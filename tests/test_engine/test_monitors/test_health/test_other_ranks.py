# Copyright (c) OpenMMLab. All rights reserved.
"""What the first rank reads of the others' losses."""
import json
import threading

from mmpose.engine.monitors.core.schedule import Every
from mmpose.engine.monitors.health.other_ranks import FILE, OtherRanksMonitor


def test_a_rank_that_had_a_spike_is_waited_for(tmp_path, monkeypatch):
    """Defect: what it wrote before was taken for the loss that is NaN."""

    def write(*entries):
        path = tmp_path / FILE.format(1)
        path.with_suffix('.part').write_text(json.dumps(entries))
        path.with_suffix('.part').replace(path)

    module = 'mmpose.engine.monitors.health.other_ranks'
    monkeypatch.setattr(f'{module}.get_world_size', lambda: 2)
    monitor = OtherRanksMonitor(Every(1), strict=True)
    monitor.before_train(type('Runner', (), dict(log_dir=str(tmp_path))))
    spike = dict(step=400, samples=[], batch_size=4, spike=[400, 20., 9.])
    nonfinite = dict(
        step=900, samples=[dict(id=7)], batch_size=4, nonfinite=['loss'])
    write(spike)
    assert [losses.step for losses in monitor._read(500, False)] == [400]
    writing = threading.Timer(0.3, write, (spike, nonfinite))
    writing.start()
    found = list(monitor._read(901, True))
    writing.join()
    assert [(losses.rank, losses.step) for losses in found] == [(1, 900)]
