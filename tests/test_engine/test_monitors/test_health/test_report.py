# Copyright (c) OpenMMLab. All rights reserved.
from mmpose.engine.monitors import Finding, HealthReport


def finding(name='cold', what='It is cold.', evidence='3 degrees.'):
    return Finding(name, what, evidence, 'Close the window.')


def kinds(changes):
    return [(kind, f.name) for kind, f in changes]


def test_a_finding_begins_changes_and_ends_once():
    report = HealthReport()
    assert kinds(report.update(1, 'A', [])) == []
    assert kinds(report.update(2, 'A', [finding()])) == [('begins', 'cold')]
    assert report.update(3, 'A', [finding()]) == []
    # Numbers may change without being news.
    assert report.update(4, 'A', [finding(evidence='2 degrees.')]) == []
    changes = report.update(5, 'A', [finding(what='It is icy.')])
    assert kinds(changes) == [('changes', 'cold')]
    assert changes[0].finding.what == 'It is icy.'
    assert report.names == ['cold']
    assert kinds(report.update(6, 'A', [])) == [('ends', 'cold')]
    assert report.update(7, 'A', []) == [] and report.names == []


def test_a_finding_that_becomes_more_serious_is_told():
    """Defect: memory that grows is a note in the first epoch, and a warning
    that nobody heard of afterwards."""
    report = HealthReport()
    report.update(1, 'A', [finding()._replace(severity='note')])
    assert kinds(report.update(2, 'A', [finding()])) == [('worsens', 'cold')]
    assert report.update(3, 'A', [finding()]) == []
    changes = report.update(4, 'A', [finding()._replace(severity='note')])
    assert kinds(changes) == [('changes', 'cold')]
    assert 'Since step 1.' in report.markdown(5)


def test_what_ends_is_told_before_what_begins():
    report = HealthReport()
    report.update(1, 'A', [finding('cold'), finding('damp')])
    changes = report.update(2, 'A', [finding('damp'), finding('dark')])
    assert kinds(changes) == [('ends', 'cold'), ('begins', 'dark')]
    assert report.names == ['damp', 'dark']


def test_detectors_do_not_end_the_findings_of_others():
    report = HealthReport()
    report.update(1, 'A', [finding()])
    assert report.update(2, 'B', []) == []
    assert report.names == ['cold']


def test_the_report_of_a_healthy_training():
    text = HealthReport().markdown(1234)
    assert text.startswith('**Healthy run: no anomaly was found.** At step '
                           '1,234: no findings.')


def test_the_report_says_what_since_when_and_what_to_do():
    report = HealthReport()
    report.update(10, 'A', [finding()])
    report.update(2000, 'B', [finding('dark', 'It is dark.')])
    # With the numbers of now, and since it began.
    report.update(2010, 'A', [finding(evidence='1 degree.')])
    text = report.markdown(2020)
    assert text.startswith('**This training may end worse than it could.** '
                           'At step 2,020: 2 warnings.')
    assert '#### warning: It is cold.\n\nSince step 10.' in text
    assert '#### warning: It is dark.\n\nSince step 2,000.' in text
    assert '**Evidence:** 1 degree.' in text and '3 degrees' in text
    assert '**Suggested action:** Close the window.' in text
    assert text.index('dark') < text.index('cold'), 'the newest first'


def test_remarks_are_no_findings_and_the_last_one_counts():
    report = HealthReport()
    report.remark(10, 'gain', 'Small ones cost 3 points.')
    report.remark(20, 'gain', 'Large ones cost 2 points.')
    report.remark(20, 'other', 'And so on.')
    text = report.markdown(20)
    assert 'Healthy run' in text and 'no findings' in text
    assert ('#### Remarks\n\n- Large ones cost 2 points. (step 20)\n'
            '- And so on. (step 20)\n') in text
    assert 'Small' not in text
    report.remark(30, 'gain', '')
    assert 'Large' not in report.markdown(30)


def test_what_is_over_is_still_there_and_the_text_stays_short():
    report = HealthReport()
    for step in range(0, 100, 2):
        report.update(step, 'A', [finding(what=f'Cold {step}.')])
        report.update(step + 1, 'A', [])
    text = report.markdown(100)
    assert 'Healthy run' in text and '#### Resolved' in text
    assert '- Cold 98. (from step 98 to 99, 1 steps)' in text
    assert text.index('Cold 98.') < text.index('Cold 96.')
    assert sum('Cold' in line for line in text.splitlines()) == 10
    # Nor does the rest stay in memory.
    assert len(report._resolved) == 10


def test_the_first_line_is_as_serious_as_the_worst_finding():
    report = HealthReport()
    report.update(1, 'A', [finding()._replace(severity='note')])
    assert report.names == []
    text = report.markdown(2)
    assert text.startswith('**Healthy run') and '1 note.' in text
    assert '#### note: It is cold.' in text
    report.update(2, 'B', [finding('fire')._replace(severity='error')])
    report.update(2, 'C', [finding('dark')])
    assert report.names == ['dark', 'fire']
    line = report.markdown(2).splitlines()[0]
    assert line == ('**This training needs attention now.** At step 2: 1 '
                    'error, 1 warning, 1 note.')


def test_at_the_end_it_says_how_long_a_finding_has_lasted():
    report = HealthReport()
    report.update(10, 'A', [finding()])
    text = report.markdown(100, ended=True)
    assert 'At the end, step 100: 1 warning.' in text
    assert 'Since step 10, 90 steps ago.' in text


def test_a_finding_of_ours_refers_to_its_documentation():
    report = HealthReport({'cold'})
    report.update(1, 'A', [finding('cold/kitchen'), finding('dark')])
    line, = [t for t in report.markdown(2).splitlines() if 'health.md' in t]
    assert line.startswith('- **More:** [docs/en/health.md#cold](https://')
    assert line.endswith('/docs/en/health.md#cold)')
