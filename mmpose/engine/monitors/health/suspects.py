# Copyright (c) OpenMMLab. All rights reserved.
import json
import os.path as osp
from typing import Dict, List, Tuple

from ..core.measurements import SuspectSamples
from ..core.whole_file import whole_file
from .rank_losses import RankLosses
from .recent_batches import RecentBatches
from .report import Finding

FILE = 'suspects.json'
# The number of samples that a finding names; the file has all.
_MAX_NAMED = 8
# The largest number of findings in the file; the last ones are kept.
_MAX_STEPS = 100


class Suspects:
    """Name the samples of a finding, and list them in a file.

    ``suspects.json`` is a list with an entry for each finding: its name, the
    training step, ``samples`` with path and id of each, and ``ids``, those of
    all their annotations; in distributed training the ``rank``, if it is not
    the first one. They are the broken samples of the batch if these are known,
    else all.

    Args:
        batches (RecentBatches): The samples of the last batches.
        folder (str): The folder of the file, that of the event file. Earlier
            entries are kept.
    """

    def __init__(self, batches: RecentBatches, folder: str) -> None:
        self._batches = batches
        self._path = osp.join(folder, FILE)
        self._texts: Dict[tuple, str] = {}
        # By rank and step, with the size of the batch.
        self._of_ranks: Dict[tuple, tuple] = {}
        self._found: List[SuspectSamples] = []

    def add(self, losses: RankLosses) -> None:
        """Add the samples of another rank that stand out."""
        self._of_ranks[losses.rank,
                       losses.step] = (list(losses.samples), losses.batch_size)
        if len(self._of_ranks) > _MAX_STEPS:
            del self._of_ranks[next(iter(self._of_ranks))]

    def name(self, finding: Finding) -> Finding:
        """Add the samples of its step to a finding.

        Args:
            finding (Finding): A finding.

        Returns:
            Finding: The finding, unchanged if its samples are not known.
        """
        if finding.batch is None:
            return finding
        key = (finding.name, finding.rank, finding.batch)
        if key not in self._texts:
            text, samples = self._describe(finding.rank, finding.batch,
                                           finding.batches)
            # Once, even if the file cannot be written.
            self._texts[key] = text
            if len(self._texts) > _MAX_STEPS:
                del self._texts[next(iter(self._texts))]
            if samples:
                self._found.append(
                    SuspectSamples(finding.batch, tuple(samples)))
                self._write(
                    dict(
                        finding=finding.name,
                        step=finding.batch,
                        **({
                            'rank': finding.rank
                        } if finding.rank else {}),
                        ids=[i for s in samples for i in _ids(s)],
                        samples=samples))
        return finding._replace(evidence=finding.evidence + self._texts[key])

    def found(self) -> List[SuspectSamples]:
        """Return those that were named since it was last asked."""
        found, self._found = self._found, []
        return found

    def _describe(self, rank: int, step: int,
                  batches: int) -> Tuple[str, List[dict]]:
        if rank:
            samples, size = self._of_ranks.get((rank, step), ([], 0))
        else:
            samples, size = suspects_of(self._batches, step, batches)
        if not samples:
            return '', samples
        where = f'step {step:,}' + (f' on rank {rank}' if rank else '')
        if batches > 1:
            where = f'steps {step - batches + 1:,} to {step:,}'
        text = f' Samples of {where}: '
        if 'nonfinite' in samples[0]:
            text = (f' Of the {size} samples of {where} these hold a NaN or '
                    'an infinity before they reach the model: ')
        named = ', '.join(map(_name, samples[:_MAX_NAMED]))
        others = len(samples) - _MAX_NAMED
        more = f' and {others} more' if others > 0 else ''
        return f'{text}{named}{more}; see {FILE}.', samples

    def _write(self, entry: dict) -> None:
        entries: List[dict] = []
        if osp.exists(self._path):
            with open(self._path, encoding='utf-8') as file:
                entries = json.load(file)
        entries = [*entries, entry][-_MAX_STEPS:]
        with whole_file(self._path) as file:
            json.dump(entries, file, ensure_ascii=False, indent=1)


def suspects_of(batches: RecentBatches,
                step: int,
                count: int = 1) -> Tuple[List[dict], int]:
    """Return the samples of a batch that may be the cause of a finding.

    Args:
        batches (RecentBatches): The last batches.
        step (int): The training step of the batch.
        count (int): How many batches up to that one. Defaults to 1.

    Returns:
        tuple[list[dict], int]: Those that hold a NaN or an infinity, which
        ``nonfinite`` names, or all if there are none; and how many the batches
        have.
    """
    samples, broken = [], []
    for one in range(step - count + 1, step + 1):
        of_batch = batches.samples(one)
        samples += of_batch
        broken += [
            dict(of_batch[i], nonfinite=tensor)
            for i, tensor in (batches.nonfinite(one) if of_batch else ())
        ]
    return broken or samples, len(samples)


def _ids(sample: dict) -> list:
    """Return the ids of a sample's annotations; there may be several or
    none."""
    ids = sample.get('id', [])
    return ids if isinstance(ids, list) else [ids]


def _name(sample: dict) -> str:
    """Return the end of a sample's path, its id, and which of its values are
    not finite."""
    # Of a video the annotated frame: PoseTrack18's first one, or the last one
    # of those that poses are lifted from.
    path = next(
        (sample[key] if isinstance(sample[key], str) else sample[key][frame]
         for key, frame in (('img_path', 0), ('target_img_path', -1),
                            ('img_paths', -1)) if sample.get(key)), 'a sample')
    path = '/'.join(str(path).replace('\\', '/').split('/')[-3:])
    number = sample.get('id')
    details = [f'id {number}'] if number is not None else []
    details += [sample['nonfinite']] if 'nonfinite' in sample else []
    return f'{path} ({", ".join(details)})' if details else path
