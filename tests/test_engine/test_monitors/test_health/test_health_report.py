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
    assert 'Step 1,234' in text and 'Nothing is wrong' in text


def test_the_report_says_what_since_when_and_what_to_do():
    report = HealthReport()
    report.update(10, 'A', [finding()])
    report.update(2000, 'B', [finding('dark', 'It is dark.')])
    # With the numbers of now, and since it began.
    report.update(2010, 'A', [finding(evidence='1 degree.')])
    text = report.markdown(2020)
    assert 'Nothing is wrong' not in text
    assert '**It is cold.** (since step 10)' in text
    assert '**It is dark.** (since step 2,000)' in text
    assert 'Seen by: 1 degree.' in text and '3 degrees' in text
    assert 'What to do: Close the window.' in text
    assert text.index('dark') < text.index('cold'), 'the newest first'


def test_what_is_over_is_still_there_and_the_text_stays_short():
    report = HealthReport()
    for step in range(0, 100, 2):
        report.update(step, 'A', [finding(what=f'Cold {step}.')])
        report.update(step + 1, 'A', [])
    text = report.markdown(100)
    assert 'Nothing is wrong' in text
    assert '- steps 98 to 99: Cold 98.' in text
    assert text.index('Cold 98.') < text.index('Cold 96.')
    assert sum('Cold' in line for line in text.splitlines()) == 10
    # Nor does the rest stay in memory.
    assert len(report._past) == 10
