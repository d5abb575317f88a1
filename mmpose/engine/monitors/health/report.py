# Copyright (c) OpenMMLab. All rights reserved.
from collections import Counter, deque
from typing import (Container, Dict, Iterable, Iterator, List, NamedTuple,
                    Optional, Tuple)

# The most serious first.
ERROR, WARNING, NOTE = SEVERITIES = ('error', 'warning', 'note')
# The page that explains each finding, and lists how it was verified.
DOCS = ('https://github.com/DH-dot131/mmpose/blob/main/docs/en/health.md',
        'docs/en/health.md')
# How many resolved findings the report names.
_MAX_RESOLVED = 10


class Finding(NamedTuple):
    """An anomaly in the training.

    Attributes:
        name (str): Its name, which stays the same while it lasts: letters,
            digits and '_', followed by '/' and the place if it may be in
            several places.
        what (str): One sentence on what is going wrong and where.
        evidence (str): The numbers that show it; they may change.
        advice (str): What to check or to try first.
        severity (str): 'error' if the training is lost unless it is ended or
            changed, 'warning' if its result is likely to be worse than it
            could be, 'note' if it may be intended. Defaults to 'warning'.
        batch (int, optional): The training step whose samples may be the
            cause; the report names them. Defaults to None.
        rank (int): The rank in distributed training whose batch it is.
            Defaults to 0.
        batches (int): How many batches up to that one may be the cause, as
            gradients are accumulated. Defaults to 1.
    """
    name: str
    what: str
    evidence: str
    advice: str
    severity: str = WARNING
    batch: Optional[int] = None
    rank: int = 0
    batches: int = 1


class Change(NamedTuple):
    """A finding that begins, changes, becomes more serious, or ends.

    Attributes:
        kind (str): 'begins', 'changes', 'worsens' or 'ends'.
        finding (Finding): The finding.
    """
    kind: str
    finding: Finding


class HealthReport:
    """Keep the report on the findings of a training up to date.

    A finding begins when a detector first names it, changes when ``what`` or
    its severity is not the same any more, and ends when the detector no longer
    names it.

    Args:
        documented (Container[str]): The names, without the place, of the
            findings that the documentation explains. Defaults to ().
    """

    def __init__(self, documented: Container[str] = ()) -> None:
        self._documented = documented
        # By detector and name, with the step at which it began.
        self._present: Dict[tuple, tuple] = {}
        self._resolved: deque = deque(maxlen=_MAX_RESOLVED)
        self._remarks: Dict[str, Tuple[int, str]] = {}

    @property
    def names(self) -> List[str]:
        """The names of the present findings, sorted; without notes."""
        return sorted(finding.name for finding, _ in self._present.values()
                      if finding.severity != NOTE)

    def update(self, step: int, detector: str,
               findings: Iterable[Finding]) -> List[Change]:
        """Add all that a detector finds at present.

        Args:
            step (int): The training step.
            detector (str): The detector, or the chain of detectors.
            findings (Iterable[Finding]): All its findings, not just new ones.

        Returns:
            list[Change]: What has changed, in the order to report it.
        """
        found = {(detector, finding.name): finding for finding in findings}
        changes = []
        for key in [k for k in self._present if k[0] == detector]:
            if key not in found:
                finding, since = self._present.pop(key)
                changes.append(Change('ends', finding))
                self._resolved.append(
                    f'- {finding.what} (from step {since:,} to {step:,}, '
                    f'{step - since:,} steps)')
        for key, finding in found.items():
            before, since = self._present.get(key, (None, step))
            self._present[key] = (finding, since)
            if before is None:
                changes.append(Change('begins', finding))
            elif is_worse(finding, before):
                changes.append(Change('worsens', finding))
            elif (before.what, before.severity) != (finding.what,
                                                    finding.severity):
                changes.append(Change('changes', finding))
        return changes

    def remark(self, step: int, name: str, text: str) -> None:
        """Add a sentence that is no finding, see :class:`Remark`."""
        self._remarks.pop(name, None)
        if text:
            self._remarks[name] = step, text

    def markdown(self, step: int, ended: bool = False) -> str:
        """Return the report.

        Args:
            step (int): The training step.
            ended (bool): Whether the training is over. Defaults to False.

        Returns:
            str: Markdown, the newest finding first.
        """
        lines = [self._summary(step, ended), '']
        newest = sorted(
            self._present.values(), key=lambda entry: entry[1], reverse=True)
        for finding, since in newest:
            lasted = f', {step - since:,} steps ago' if ended else ''
            lines += [
                f'#### {finding.severity}: {finding.what}', '',
                f'Since step {since:,}{lasted}.', '',
                f'- **Evidence:** {finding.evidence}',
                f'- **Suggested action:** {finding.advice}',
                *self._link(finding), ''
            ]
        if self._remarks:
            lines += ['#### Remarks', '']
            lines += [
                f'- {text} (step {since:,})'
                for since, text in self._remarks.values()
            ] + ['']
        if self._resolved:
            lines += ['#### Resolved', '', *reversed(self._resolved)]
        return '\n'.join(lines)

    def _link(self, finding: Finding) -> Iterator[str]:
        name = finding.name.partition('/')[0]
        if name in self._documented:
            url, path = (f'{page}#{name}' for page in DOCS)
            yield f'- **More:** [{path}]({url})'

    def _summary(self, step: int, ended: bool) -> str:
        """Return the most important in one line."""
        counts = Counter(f.severity for f, _ in self._present.values())
        number = ', '.join(f'{counts[s]} {s}{"s" * (counts[s] > 1)}'
                           for s in SEVERITIES if counts[s])
        if counts[ERROR]:
            verdict = 'This training needs attention now'
        elif counts[WARNING]:
            verdict = 'This training may end worse than it could'
        else:
            verdict = 'Healthy run: no anomaly was found'
        at = f'the end, step {step:,}' if ended else f'step {step:,}'
        return f'**{verdict}.** At {at}: {number or "no findings"}.'


def is_worse(finding: Finding, before: Finding) -> bool:
    """Return whether a finding is more serious than it was."""
    now, then = (SEVERITIES.index(f.severity) for f in (finding, before))
    return now < then
