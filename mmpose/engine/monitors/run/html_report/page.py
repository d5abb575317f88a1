# Copyright (c) OpenMMLab. All rights reserved.
import base64
import html
import math
import re
import time
from typing import Iterator, List, Tuple

from ...core.metric_names import better, direction, main_metric
from .curves import draw_charts
from .run_log import RunLog

# The page stays under 5 MB: base64 needs a third more.
_MAX_PICTURE_BYTES = 3 << 20
# Their pictures by the beginnings of the tags.
_SECTIONS = (
    ('Accuracy and errors by keypoint', ('keypoints/', 'errors/by_keypoint',
                                         'instances/', 'calibration/')),
    ('Examples of errors', ('errors/examples/', )),
    ('Validation', ('val/', )),
    ('Training', ('train/', )),
)
_STYLE = """
body { font: 15px/1.5 system-ui, 'Noto Sans', 'Noto Sans CJK KR', sans-serif;
       color: #222; margin: 0 auto; padding: 16px; max-width: 1200px; }
h1 { font-size: 1.5em; overflow-wrap: anywhere; margin-bottom: 0; }
h2 { border-bottom: 1px solid #ccc; margin-top: 2em; }
.verdict { background: #f3f5f8; padding: 10px 14px; border-radius: 6px; }
.grid { display: grid; gap: 12px;
        grid-template-columns:
        repeat(auto-fill, minmax(min(100%, 360px), 1fr)); }
.grid svg, .grid img { width: 100%; height: auto; }
figure { margin: 0; } figcaption { color: #666; font-size: 0.85em; }
table { border-collapse: collapse; } td, th { padding: 2px 10px 2px 0;
        text-align: left; overflow-wrap: anywhere; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { overflow-x: auto; background: #f3f5f8; padding: 10px; font-size: 12px; }
@media print { h2 { break-after: avoid; } svg, img, tr { break-inside: avoid; }
               pre { white-space: pre-wrap; } }
"""


def report_page(log: RunLog, title: str) -> str:
    """Return the report on a run: one page that needs nothing else.

    Args:
        log (RunLog): What the run has logged.
        title (str): Its name.

    Returns:
        str: HTML, without scripts.
    """
    body = '\n'.join(_body(log, title))
    return ('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, '
            'initial-scale=1">'
            f'<title>{html.escape(title)}</title><style>{_STYLE}</style>'
            f'</head><body>\n{body}\n</body></html>\n')


def _body(log: RunLog, title: str) -> Iterator[str]:
    began = time.strftime('%Y-%m-%d %H:%M', time.localtime(log.began))
    state = 'finished' if log.finished else 'not finished'
    yield f'<h1>{html.escape(title)}</h1>'
    yield (f'<p>Began {began}, took {_duration(log.ended - log.began)}, '
           f'{state}.</p>')
    report = log.texts.get('health/report', '')
    if report:
        verdict = _markdown(report.partition('\n')[0])
        yield f'<div class="verdict">{verdict}</div>'
    yield from _metrics(log)
    charts = draw_charts(log.scalars)
    if charts:
        yield '<h2>Curves</h2><div class="grid">'
        yield from charts
        yield '</div>'
    yield from _pictures(log)
    if report:
        yield '<h2>Findings</h2>'
        yield _markdown(report.partition('\n')[2])
    for heading, tag in (('Changes to the base config', 'run/config_changes'),
                         ('Environment', 'run/environment')):
        if tag in log.texts:
            yield f'<h2>{heading}</h2>{_markdown(log.texts[tag])}'


def _metrics(log: RunLog) -> Iterator[str]:
    """A table of the validations' metrics: last, best, and when."""
    tags = [tag for tag in log.scalars if tag.startswith('val/')]
    if not tags:
        return
    main = main_metric(tag[len('val/'):] for tag in tags)
    if main is not None:
        tag = f'val/{main.name}'
        tags.sort(key=lambda other: other != tag)
    yield '<h2>Metrics</h2><table><tr><th>metric</th><th>last</th>'
    yield '<th>best</th><th>at step</th></tr>'
    for i, tag in enumerate(tags):
        best, step = _best(log, tag)
        name = html.escape(tag)  # 'loss' alone is that of the training.
        name = f'<b>{name}</b>' if i == 0 and main is not None else name
        yield (f'<tr><td>{name}</td>'
               f'<td class="number">{log.scalars[tag][-1].value:.4g}</td>'
               f'<td class="number">{best}</td>'
               f'<td class="number">{step}</td></tr>')
    yield '</table>'


def _best(log: RunLog, tag: str) -> Tuple[str, str]:
    rule = direction(tag)
    if not rule:
        return '', ''
    best = None
    for point in log.scalars[tag]:
        best = better(rule, best, point.value)
    if math.isnan(best):  # So is every value.
        return '', ''
    step = next(p.step for p in log.scalars[tag] if p.value == best)
    return f'{best:.4g}', f'{step:,}'


def _pictures(log: RunLog) -> Iterator[str]:
    left = _MAX_PICTURE_BYTES
    for heading, tags in _SECTIONS:
        figures: List[str] = []
        for tag in sorted(t for t in log.pictures if t.startswith(tags)):
            step, pictures = log.pictures[tag]
            for i, picture in enumerate(pictures):
                if len(picture) > left:
                    break
                left -= len(picture)
                figures.append(_figure(picture, f'{tag}/{i}, step {step:,}'))
        if figures:
            yield f'<h2>{heading}</h2><div class="grid">'
            yield from figures
            yield '</div>'


def _figure(picture: bytes, caption: str) -> str:
    kind = 'png' if picture.startswith(b'\x89PNG') else 'jpeg'
    data = base64.b64encode(picture).decode()
    return (f'<figure><img alt="{caption}" src="data:image/{kind};base64,'
            f'{data}"><figcaption>{caption}</figcaption></figure>')


def _markdown(text: str) -> str:
    # TensorBoard needs it, too. What is no Markdown comes from file names.
    from markdown import markdown
    text = re.sub('<(?=[a-zA-Z/!])', '&lt;', text)
    return markdown(text, extensions=['tables', 'fenced_code'])


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f'{seconds:.0f} seconds'
    return f'{minutes // 60} h {minutes % 60} min' if minutes > 59 else (
        f'{minutes} min')
