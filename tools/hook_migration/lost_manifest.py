# Copyright (c) OpenMMLab. All rights reserved.
"""Make a lost manifest again; ``git clean`` takes it away, for instance."""
from .exports import edit_file, find_imports, remove_export
from .git_tree import GitTree
from .hook_defaults import is_ours
from .mmpose_tree import EXPORTS_FILE, HOOK_FILE, patch_files
from .transaction import File, Link, fingerprint, follow, read


def find_entries(package, exporting, fixed):
    """Find the files that can only come from a migration.

    Args:
        package (Path): The folder of an MMPose without a manifest.
        exporting (Callable[[str], str]): What a migration does to the text of
            the exports.
        fixed (Path): A file that a migration takes away.

    Returns:
        tuple[dict[Path, dict], dict[Path, File or Link]]: The entries of the
        manifest as it was, as far as that can be found out; and what was
        before where no backup is left of it.
    """
    entries, originals = {}, {}
    history = History(package)

    def add(path, now, after, fits=lambda was: True, otherwise=None):
        known, was, backup = history.before(path, now, fits)
        was = otherwise if was is None else was
        if not known or was in (None, now) and path in (exports, fixed):
            return
        entries[path] = dict(
            before=fingerprint(was), backup=backup, after=after)
        if was is not None and backup is None:
            originals[path] = was

    hook, exports = package / HOOK_FILE, package / EXPORTS_FILE
    for path, source in patch_files(package).items():
        now = read(path)
        if now == Link(str(source)) or (isinstance(now, File)
                                        and now.data == source.read_bytes()):
            add(path, now, fingerprint(now))
    if hook in entries and read(fixed) is None:
        add(fixed, None, None)
    now = read(hook)
    if (hook not in entries and isinstance(now, File)
            and is_ours(now.data.decode('utf-8', 'replace'))):
        # Of another version: what its migration put there is not known.
        add(hook, now, 'another version')
    if now is None or hook in entries:
        now = File(exports.read_bytes(), exports.stat().st_mode & 0o7777)
        # With another hook in its place, the export was of that one.
        mine = entries.get(hook, {}).get('before') is None

        def fits(was):
            edited = _edited(follow(exports, was), exporting)
            return edited is not None and edited.data == now.data

        add(exports, now, fingerprint(now), fits,
            _edited(now, _unexported) if mine else None)
    return entries, originals


def _unexported(text):
    # It may as well be imported from elsewhere.
    return remove_export(text) if find_imports(text) else text


def _edited(content, edit):
    """Edit the exports, if they can be edited."""
    try:
        return File(edit_file(content.data, edit), content.mode)
    except (AttributeError, SyntaxError, ValueError):
        return content


class History:
    """What there was before at a path.

    Args:
        package (Path): The folder of an MMPose.
    """

    def __init__(self, package):
        self.tree = GitTree.around(package)
        self.tracked = self.tree.tracked() if self.tree else set()

    def before(self, path, now, fits):
        """Find out what there was at a path.

        Args:
            path (Path): The path.
            now (File or Link): What is there.
            fits (Callable): Whether a backup can be what there was.

        Returns:
            tuple[bool, File or Link or None, str or None]: Whether a migration
            has put there what is there; what there was before; the name of its
            backup.
        """
        place = path.parent.resolve() / path.name
        if place in self.tracked:
            was = self.tree.content(place)
            return fingerprint(was) != fingerprint(now), was, None
        backups = sorted(
            path.parent.glob(f'{path.name}.backup*'),
            key=lambda backup: (len(backup.name), backup.name))
        for backup in reversed(backups):
            was = read(backup)
            if fingerprint(was) != fingerprint(now) and fits(was):
                return True, was, backup.name
        return True, None, None
