# Copyright (c) OpenMMLab. All rights reserved.
import json
import re
from pathlib import Path
from types import SimpleNamespace

from mmpose.engine.monitors import Finding
from mmpose.engine.monitors.health.recent_batches import RecentBatches
from mmpose.engine.monitors.health.suspects import Suspects

PAGE = Path(__file__).resolve().parents[2] / 'docs/en/health.md'


def test_the_code_that_leaves_them_out_works_as_it_is_printed(
        tmp_path, monkeypatch):
    """Of a bottom-up sample too, which has several ids, and of one without."""
    samples = [
        SimpleNamespace(img_path='1.jpg', id=[7, 8]),
        SimpleNamespace(img_path='2.jpg'),
        SimpleNamespace(img_path='3.jpg', id=3)
    ]
    batches = RecentBatches()
    batches.add(5, dict(inputs=[], data_samples=samples))
    Suspects(batches, str(tmp_path)).name(
        Finding('loss_spike', 'The loss jumped.', '', 'Look.', batch=5))
    annotations = [dict(id=i) for i in range(10)]
    (tmp_path /
     'train.json').write_text(json.dumps(dict(annotations=annotations)))
    code, = [
        code for code in re.findall('```python\n(.*?)```',
                                    PAGE.read_text(encoding='utf-8'), re.S)
        if 'suspects.json' in code
    ]
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    kept = json.loads((tmp_path / 'train_without_suspects.json').read_text())
    assert [a['id'] for a in kept['annotations']] == [0, 1, 2, 4, 5, 6, 9]
