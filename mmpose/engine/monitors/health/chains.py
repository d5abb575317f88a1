# Copyright (c) OpenMMLab. All rights reserved.
"""Causes and consequences, so that one anomaly is one finding."""
from typing import Dict, List, Set, Tuple

from .report import NOTE, SEVERITIES, Finding

_Key = Tuple[int, str]


class Chain:
    """Keep the first of findings that follow from each other.

    When it is resolved, the one that began next and is still present takes its
    place. Of findings that begin with the same measurement, that of the
    detector with the lowest number comes first. A note, which may be intended,
    is no cause of a warning; and what is more serious than its cause makes the
    cause as serious.
    """

    def __init__(self) -> None:
        # By detector and name, in the order in which they began.
        self._present: Dict[_Key, Finding] = {}
        self._shown: Set[_Key] = set()

    def update(self, seen: Dict[int, List[Finding]]) -> List[Finding]:
        """Add the present findings of detectors.

        Args:
            seen (dict[int, list[Finding]]): By the number of the detector;
                without detectors whose findings are unchanged.

        Returns:
            list[Finding]: The findings that do not follow from another one.
        """
        found = {(i, finding.name): finding
                 for i, findings in sorted(seen.items())
                 for finding in findings}
        before = {
            key: found.get(key, finding)
            for key, finding in self._present.items()
            if key in found or key[0] not in seen
        }
        self._present = {**before, **found}

        causes: Dict[_Key, Finding] = {}
        for key, finding in self._ordered():
            # A hidden finding may be resolved as well: its detector has to
            # confirm it.
            is_known = key in self._shown or key[0] in seen
            cause = next(
                (k for k, cause in causes.items()
                 if (cause.severity != NOTE or finding.severity == NOTE)
                 and self.follows(finding, cause)), None)
            if cause is not None:
                causes[cause] = _as_serious(causes[cause], finding)
            elif is_known:
                causes[key] = finding
        self._shown = set(causes)
        return list(causes.values())

    def follows(self, finding: Finding, cause: Finding) -> bool:
        """Return whether an earlier finding may have caused this one."""
        return True

    def _ordered(self) -> List[Tuple[_Key, Finding]]:
        return list(self._present.items())


def _as_serious(cause: Finding, finding: Finding) -> Finding:
    """Return a cause that is as serious as what follows from it."""
    severity = min(cause.severity, finding.severity, key=SEVERITIES.index)
    if severity == cause.severity:
        return cause
    return cause._replace(
        severity=severity, evidence=f'{cause.evidence} {finding.what}')


class Unrelated(Chain):
    """Keep every finding."""

    def follows(self, finding: Finding, cause: Finding) -> bool:
        return False


# Findings that do not affect the training, in the order of their effects.
_LAST = ('nonfinite_buffer', 'nonfinite_ema')


class FirstNonfinite(Chain):
    """Keep the finding of the first NaN or infinity, the cause of the others.

    Skipped updates of mixed precision, running statistics and the EMA model
    follow from other findings, and the training does not depend on them.
    """

    def follows(self, finding: Finding, cause: Finding) -> bool:
        if cause.name == 'nonfinite_buffer':
            return finding.name == 'nonfinite_ema'
        return not cause.name.startswith(('amp_', 'nonfinite_ema'))

    def _ordered(self) -> List[Tuple[_Key, Finding]]:
        # These also follow from findings that began later.
        return sorted(
            self._present.items(),
            key=lambda entry: _LAST.index(entry[1].name)
            if entry[1].name in _LAST else -1)


class FirstDivergence(Chain):
    """Keep the finding of the first divergence."""


class StoppedLearning(Chain):
    """Keep one reason why each module does not learn."""

    def follows(self, finding: Finding, cause: Finding) -> bool:
        """Return whether one place contains the other."""
        place, other = map(_place, (finding, cause))
        if not place:  # An anomaly everywhere has no cause in one place.
            return not other
        return place.startswith(other) or other.startswith(place)


class MostSerious(Chain):
    """Keep the findings of the detector that comes first."""

    def _ordered(self) -> List[Tuple[_Key, Finding]]:
        return sorted(self._present.items(), key=lambda entry: entry[0][0])


class NothingLearned(MostSerious):
    """Keep the plainest reason why nothing is learned."""


# What is seen in the training or validation, and the setting that causes it.
_SETTINGS = {
    'left_right_exchanged': 'flip_indices',
    'shared_images': 'same_annotations'
}


class FromSettings(Chain):
    """Keep the setting that a finding follows from."""

    def follows(self, finding: Finding, cause: Finding) -> bool:
        return _SETTINGS.get(finding.name) == cause.name


def _place(finding: Finding) -> str:
    """Return the place of a finding; '' is everywhere."""
    place = finding.name.partition('/')[2]
    return '' if place in ('', 'model') else f'{place}/'
