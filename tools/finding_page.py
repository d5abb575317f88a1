# Copyright (c) OpenMMLab. All rights reserved.
"""The page on how the findings were verified, of what the trials found."""
import ast
from pathlib import Path
from typing import Dict, Iterator, List

import mdformat
from make_doc_tables import FORMAT

REPORTED = (
    Path(__file__).resolve().parents[1] /
    'tests/test_engine/test_hooks/test_reported_troubles.py')
# Tests of healthy runs among the others.
IS_HEALTHY = 'healthy'


def page(found: dict, num_families: int) -> str:
    """Return the page.

    Args:
        found (dict): ``planted`` and ``healthy``, by test file the rows of
            :func:`verify_findings.run_tests`; ``families``, by config those
            of :func:`verify_findings.run_family`.
        num_families (int): How many configs there are to be tried.
    """
    planted = [r for r in _rows(found, 'planted') if not _is_healthy(r)]
    healthy = [
        row for part in ('planted', 'healthy') for row in _rows(found, part)
        if _is_healthy(row)
    ]
    families = found.get('families', {})
    trained = {k: v for k, v in families.items() if 'findings' in v}
    text = [
        '# How the findings were verified', '',
        'Made by `tools/verify_findings.py`. A finding of '
        '[health/report](health.md) is tried by real trainings in which the '
        'anomaly is planted, and by healthy ones, in which it may not appear. '
        'Each planted training is a test, which also fails where the finding '
        'has another name, speaks of another step or sample, or is not the '
        'only one.', '', *_summary(planted, healthy, trained), '',
        '## Planted', '',
        'Planted: from that step on; 1 is the beginning. Where something is '
        'planted in the validations, a step is the iteration of a validation. '
        'A finding that follows from a planted one is not listed: the report '
        'does not name it. On two processes, with a NaN and a jump of the '
        'loss in the second one: `test_the_samples_of_another_process_are_'
        'named`.', '', *_planted(planted), '', '## Reported by users', '',
        'Troubles that were read in public trackers, made anew as small '
        'trainings. What the thread does not say is our assumption.', '',
        *_reported(planted), '', '## Healthy runs', '',
        f'{len(healthy)} trainings of a small model, with '
        f'{sum(map(_is_false, healthy))} false findings.', '',
        '| run | iterations | findings |', '| :-- | --: | :-- |', *[
            f'| `{row["test"]}` | {row["iterations"]} | {_names(row)} |'
            for row in healthy
        ], '', '## Families', '', *_families(families, num_families)
    ]
    return mdformat.text(
        '\n'.join(text) + '\n', options=FORMAT, extensions={'openmmlab'})


def _summary(planted: List[dict], healthy: List[dict],
             trained: Dict[str, dict]) -> Iterator[str]:
    """One row for each finding that a detector declares."""
    yield ('| finding | planted trainings | right | iterations later | '
           'samples | false in healthy runs | in families |')
    yield '| :-- | --: | --: | --: | :-- | --: | --: |'
    for name in sorted(_declared()):
        rows = [r for r in planted if any(_is(f, name) for f in r['findings'])]
        later = [
            max(f[2] - min(row['steps'], default=1), 0) for row in rows
            for f in row['findings'] if _is(f, name)
        ]
        samples = any(f[4] for row in rows for f in row['findings']
                      if _is(f, name) and len(f) > 4)
        false = sum(
            any(_is(f, name) and f[1] != 'note' for f in row['findings'])
            for row in healthy)
        in_families = sum(
            any(f.partition('/')[0] == name for f in row['findings'])
            for row in trained.values())
        passed = sum(row.get('passed', True) for row in rows)
        cells = [
            f'`{name}`',
            len(rows), passed, ' to '.join(
                map(str, sorted({min(later), max(later)}))) if later else '',
            'named' * samples, f'{false} of {len(healthy)}',
            f'{in_families} of {len(trained)}'
        ]
        yield _line(cells)


def _planted(rows: List[dict]) -> Iterator[str]:
    yield ('| finding | test | planted | found | iterations later | samples | '
           'it says |')
    yield '| :-- | :-- | --: | --: | --: | :-- | :-- |'
    lines: Dict[tuple, str] = {}
    for row in rows:
        # A test may make several trainings, for instance with other
        # optimizers: the first one counts.
        test = _test(row)
        step_planted = min(row['steps'], default=1)
        for name, _, step, what, *samples in row['findings']:
            lines.setdefault((name, test),
                             _line([
                                 f'`{name}`', f'`{test}`', step_planted, step,
                                 max(step - step_planted, 0),
                                 'named' * any(samples), what
                             ]))
    yield from (lines[key] for key in sorted(lines))


def _reported(rows: List[dict]) -> Iterator[str]:
    """One row for each test of a trouble that was reported."""
    yield '| reported to, and what | the report names | test |'
    yield '| :-- | :-- | :-- |'
    for node in ast.parse(REPORTED.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith('test_'):
            names = dict.fromkeys(f'`{f[0].partition("/")[0]}`' for row in rows
                                  if _test(row) == node.name
                                  for f in row['findings'])
            yield _line([
                ast.get_docstring(node), ', '.join(names) or 'nothing',
                f'`{node.name}`'
            ])


def _families(families: Dict[str, dict], number: int) -> Iterator[str]:
    """What was found in MMPose's own configs."""
    trained = [row for row in families.values() if 'findings' in row]
    without = [row for row in families.values() if 'why' in row]
    num_long = sum(row['iterations'] >= 300 for row in trained)
    yield (
        'One config of each family of MMPose at its own learning rate and '
        'with its own warm-up, on a few generated images, with ten '
        'validations. Input is the factor of the input\'s width and height, '
        'of MotionBERT\'s frames, which makes many iterations possible on a '
        'CPU. A row is kept until its config is tried again. '
        f'{len(without)} of the {number} cannot be trained in MMPose. '
        f'{len(trained)} of the other {number - len(without)} were trained, '
        f'{num_long} of them for 300 iterations, with '
        f'{sum(bool(row["findings"]) for row in trained)} that have a '
        'finding.')
    yield ''
    yield '| config | iterations | images | batch | input | findings |'
    yield '| :-- | --: | --: | --: | --: | :-- |'
    for name, row in families.items():
        sizes = (
            row.get(key, '')
            for key in ('iterations', 'images', 'batch_size', 'scale'))
        names = ', '.join(f'`{f}`' for f in row.get('findings', ()))
        yield _line([f'`{name}`', *sizes, names or row.get('why', 'none')])


def _rows(found: dict, part: str) -> List[dict]:
    return [row for rows in found.get(part, {}).values() for row in rows]


def _test(row: dict) -> str:
    return row['test'].partition('[')[0]


def _is_healthy(row: dict) -> bool:
    return IS_HEALTHY in row['test']


def _is(finding: list, name: str) -> bool:
    return finding[0].partition('/')[0] == name


def _is_false(row: dict) -> bool:
    return any(severity != 'note' for _, severity, *_ in row['findings'])


def _names(row: dict) -> str:
    return ', '.join(f'`{name}`' + ' (a note)' * (severity == 'note')
                     for name, severity, *_ in row['findings']) or 'none'


def _line(cells: list) -> str:
    return f'| {" | ".join(map(str, cells))} |'


def _declared() -> set:
    from mmpose.engine.monitors import build_detectors
    return {name for d in build_detectors() for name in d.findings}
