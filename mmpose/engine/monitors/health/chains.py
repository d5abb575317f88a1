# Copyright (c) OpenMMLab. All rights reserved.
"""Which findings follow from which, so that one anomaly is one finding."""
from typing import Dict, List, Set, Tuple

from .report import Finding

_Key = Tuple[int, str]


class Chain:
    """Of findings that follow from each other, keep the one that began first.

    When it ends, the one that began next and is still there takes its place.
    Of findings that begin with the same measurement, that of the detector with
    the lowest number comes first.
    """

    def __init__(self) -> None:
        # By detector and name, in the order in which they began.
        self._present: Dict[_Key, Finding] = {}
        self._shown: Set[_Key] = set()

    def update(self, seen: Dict[int, List[Finding]]) -> List[Finding]:
        """Add what detectors find at present.

        Args:
            seen (dict[int, list[Finding]]): By the number of the detector;
                without those that have nothing to say.

        Returns:
            list[Finding]: Those that do not follow from another one.
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
            # Of one that was hidden it is not known yet whether it has ended
            # as well.
            is_known = key in self._shown or key[0] in seen
            if is_known and not any(
                    self.follows(finding, cause) for cause in causes.values()):
                causes[key] = finding
        self._shown = set(causes)
        return list(causes.values())

    def follows(self, finding: Finding, cause: Finding) -> bool:
        """Return whether a finding may be there because of an earlier one."""
        return True

    def _ordered(self) -> List[Tuple[_Key, Finding]]:
        return list(self._present.items())


class Unrelated(Chain):
    """Keep every finding."""

    def follows(self, finding: Finding, cause: Finding) -> bool:
        return False


class FirstNonfinite(Chain):
    """Where something was NaN or infinite first: all else follows.

    Updates that mixed precision skips and running statistics may follow; they
    explain nothing.
    """

    def follows(self, finding: Finding, cause: Finding) -> bool:
        return not cause.name.startswith(('amp_overflow', 'nonfinite_buffer'))

    def _ordered(self) -> List[Tuple[_Key, Finding]]:
        # Running statistics follow also what began later.
        return sorted(
            self._present.items(),
            key=lambda entry: entry[1].name == 'nonfinite_buffer')


class FirstDivergence(Chain):
    """What goes out of bounds first."""


class StoppedLearning(Chain):
    """Why a module does not learn, once for each."""

    def follows(self, finding: Finding, cause: Finding) -> bool:
        """Return whether one place holds the other."""
        place, other = map(_place, (finding, cause))
        if not place:  # What is wrong everywhere did not begin somewhere.
            return not other
        return place.startswith(other) or other.startswith(place)


class MostSerious(Chain):
    """Keep the findings of the detector that comes first, at any time."""

    def _ordered(self) -> List[Tuple[_Key, Finding]]:
        return sorted(self._present.items(), key=lambda entry: entry[0][0])


def _place(finding: Finding) -> str:
    """Where it is: '' is everywhere."""
    place = finding.name.partition('/')[2]
    return '' if place in ('', 'model') else f'{place}/'
