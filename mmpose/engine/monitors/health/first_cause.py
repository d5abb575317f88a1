# Copyright (c) OpenMMLab. All rights reserved.
from typing import Dict, Iterable, List, Optional, Set, Tuple

from ..core.runner_parts import optim_wrappers
from .health import Detector
from .health_report import Finding

# Readings that must agree: a single one may be that of an odd batch.
RUNNING = 3
# Residual branches start as nothing, where the scale of their last batch norm
# is 0 at first, and heads with weights near 0: gradients and updates in front
# of them may then be as small as those of a layer that is cut off. After so
# many updates everything has got its share that ever will.
STARTED = 1000
# A value around a limit would come and go: what is there ends only when it is
# so far on the other side.
BACK = 0.8


class FirstCauseDetector(Detector):
    """Of findings that follow from each other, only what began first.

    So that one illness is one finding, at the place where it began. When it
    ends, what began next and is still there takes its place.

    Args:
        detectors (list[Detector]): Who finds. Of findings that begin in the
            same event the first detector's come first.
    """

    def __init__(self, detectors: List[Detector]) -> None:
        self._detectors = detectors

    def before_train(self, runner) -> None:
        for detector in self._detectors:
            detector.before_train(runner)
        # By detector and name, in the order in which they began.
        self._present: Dict[Tuple[int, str], Finding] = {}
        self._shown: Set[Tuple[int, str]] = set()

    def see(self, step: int, scalars: Dict[str,
                                           float]) -> Optional[List[Finding]]:
        seen = {
            i: findings
            for i, findings in enumerate(
                detector.see(step, scalars) for detector in self._detectors)
            if findings is not None
        }
        if not seen:
            return None
        found = {(i, finding.name): finding
                 for i, findings in seen.items() for finding in findings}
        before = {
            key: found.get(key, finding)
            for key, finding in self._present.items()
            if key in found or key[0] not in seen
        }
        self._present = {**before, **found}

        causes: Dict[Tuple[int, str], Finding] = {}
        for key, finding in self._present.items():
            # Of what only followed it is not known yet whether it has ended
            # as well.
            is_known = key in self._shown or key[0] in seen
            if is_known and not any(
                    self.follows(finding, cause) for cause in causes.values()):
                causes[key] = finding
        self._shown = set(causes)
        return list(causes.values())

    def follows(self, finding: Finding, cause: Finding) -> bool:
        """Whether a finding may be there because of one that began before.

        Args:
            finding (Finding): What began later.
            cause (Finding): What began before.

        Returns:
            bool: True, unless a subclass knows better.
        """
        return True


class Streaks:
    """What was so in several readings running.

    Args:
        length (int): In how many. Defaults to :data:`RUNNING`.
    """

    def __init__(self, length: int = RUNNING) -> None:
        self._length = length
        self._lengths: Dict[str, int] = {}

    def ease(self, name: str) -> float:
        """What to multiply a limit by, from above which on something is so.

        Args:
            name (str): What may be so.

        Returns:
            float: Less than 1 for what was so in the last readings.
        """
        return BACK if self._lengths.get(name, 0) >= self._length else 1.

    def update(self, names: Iterable[str]) -> List[str]:
        """Take in a reading.

        Args:
            names (Iterable[str]): What is so in it.

        Returns:
            list[str]: What of it was so in the readings before as well, in
            the same order.
        """
        self._lengths = {n: self._lengths.get(n, 0) + 1 for n in names}
        return [
            n for n, lasts in self._lengths.items() if lasts >= self._length
        ]


def started_at(runner) -> int:
    """The step from which on there were :data:`STARTED` updates.

    Args:
        runner (Runner): The runner, when its training begins.

    Returns:
        int: More steps than updates where gradients are accumulated.
    """
    accumulated = max(wrapper._accumulative_counts
                      for _, wrapper in optim_wrappers(runner.optim_wrapper))
    return runner.iter + 1 + STARTED * accumulated


def under(prefix: str, scalars: Dict[str, float]) -> Dict[str, float]:
    """The scalars whose tags begin with a prefix, by the rest of the tag.

    Args:
        prefix (str): What tags begin with.
        scalars (dict[str, float]): All of an event.

    Returns:
        dict[str, float]: In the same order.
    """
    return {
        tag[len(prefix):]: value
        for tag, value in scalars.items() if tag.startswith(prefix)
    }


def dotted(place: str) -> str:
    """How a place in a tag is called in a text.

    Args:
        place (str): The path of a module or parameter with '/', or 'model'.

    Returns:
        str: The dotted name, as in Python, or 'the model'.
    """
    return 'the model' if place == 'model' else place.replace('/', '.')
