# Copyright (c) OpenMMLab. All rights reserved.
from collections import deque
from typing import Dict, Iterable, List, NamedTuple

# Of findings that have ended the report names so many.
_MAX_PAST = 10


class Finding(NamedTuple):
    """Something that goes wrong in the training.

    Attributes:
        name (str): What it is, the same while it lasts: letters, digits and
            '_', and where it may be in several places '/' and the place.
        what (str): One sentence on what is going wrong and where.
        evidence (str): The numbers it is seen by; they may change.
        advice (str): What to look at or to try first.
    """
    name: str
    what: str
    evidence: str
    advice: str


class Change(NamedTuple):
    """A finding that begins, is another than before, or ends.

    Attributes:
        kind (str): 'begins', 'changes' or 'ends'.
        finding (Finding): The finding.
    """
    kind: str
    finding: Finding


class HealthReport:
    """The findings of a training, as a text that is kept up to date.

    A finding begins when a detector first names it, changes when ``what`` is
    not the same any more, and ends when the detector no longer names it.
    """

    def __init__(self) -> None:
        # By detector and name, with the step at which it began.
        self._present: Dict[tuple, tuple] = {}
        self._past: deque = deque(maxlen=_MAX_PAST)

    @property
    def names(self) -> List[str]:
        """The names of the present findings, sorted."""
        return sorted(finding.name for finding, _ in self._present.values())

    def update(self, step: int, detector: str,
               findings: Iterable[Finding]) -> List[Change]:
        """Take in all that a detector finds at present.

        Args:
            step (int): The training step.
            detector (str): Who found it.
            findings (Iterable[Finding]): All its findings, not just new ones.

        Returns:
            list[Change]: What is new, in the order in which to tell it.
        """
        found = {(detector, finding.name): finding for finding in findings}
        changes = []
        for key in [k for k in self._present if k[0] == detector]:
            if key not in found:
                finding, since = self._present.pop(key)
                changes.append(Change('ends', finding))
                self._past.append(
                    f'- steps {since:,} to {step:,}: {finding.what}')
        for key, finding in found.items():
            before, since = self._present.get(key, (None, step))
            self._present[key] = (finding, since)
            if before is None:
                changes.append(Change('begins', finding))
            elif before.what != finding.what:
                changes.append(Change('changes', finding))
        return changes

    def markdown(self, step: int) -> str:
        """The report.

        Args:
            step (int): The training step.

        Returns:
            str: Markdown, the newest finding first.
        """
        lines = [f'### Step {step:,}', '']
        if not self._present:
            lines.append('Nothing is wrong that could be seen from here.')
        newest = sorted(
            self._present.values(), key=lambda entry: entry[1], reverse=True)
        for finding, since in newest:
            lines += [
                f'**{finding.what}** (since step {since:,})', '',
                f'- Seen by: {finding.evidence}',
                f'- What to do: {finding.advice}', ''
            ]
        if self._past:
            lines += ['', '#### It was, and is no more', '']
            lines += reversed(self._past)
        return '\n'.join(lines)
