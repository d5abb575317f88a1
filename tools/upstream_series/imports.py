# Copyright (c) OpenMMLab. All rights reserved.
"""What the modules of the hook and their tests need, read from their text."""
import ast
import re
from pathlib import Path

HOOK = 'EnhancedTensorBoardHook'
HOOK_FILE = 'mmpose/engine/hooks/enhanced_tensorboard_hook.py'
HOUSE = 'mmpose/engine/monitors'
PACKAGE = f'{HOUSE}/__init__.py'
# The functions of core/arguments.py that declare an argument of the hook.
DECLARE = ('Argument', 'choice', 'count', 'flag', 'interval', 'number')


class Modules:
    """The modules of the hook, and what each of them needs and defines.

    Args:
        root (Path): The checkout.

    Attributes:
        texts (dict[str, str]): The text of each file, by its path in the
            checkout.
        needs (dict[str, set[str]]): The files that each file imports.
        registered (set[str]): The files that register a class.
        arguments (dict[str, set[str]]): The files that declare each argument
            of the hook.
        tags (dict[str, set[str]]): The files that document each tag.
        classes (dict[str, set[str]]): The files that define each class.
    """

    def __init__(self, root):
        files = [root / HOOK_FILE, *sorted((root / HOUSE).rglob('*.py'))]
        self.texts = {
            file.relative_to(root).as_posix(): file.read_text('utf-8')
            for file in files
        }
        trees = {path: ast.parse(text) for path, text in self.texts.items()}
        self.needs = {
            path:
            self._packages(path).union(*(self.files_of(name)
                                         for name in imported(tree, path))) -
            {path}
            for path, tree in trees.items()
        }
        self.registered = {
            path
            for path, text in self.texts.items() if '.register_module(' in text
        }
        self.classes, self.tags, self.arguments = {}, {}, {}
        for path, tree in trees.items():
            for node in tree.body:
                if isinstance(node, ast.ClassDef):
                    self.classes.setdefault(node.name, set()).add(path)
            for tag in re.findall('^ +``([^`]+/[^`]+)``  ', self.texts[path],
                                  re.M):
                self.tags.setdefault(tag, set()).add(path)
        self._find_arguments(trees)

    def _find_arguments(self, trees):
        shared = {}
        for path, tree in trees.items():
            names = declared(tree)
            if path.endswith('/arguments.py'):
                shared[path] = names
                continue
            for name in names.values():
                self.arguments.setdefault(name, set()).add(path)
        for path, tree in trees.items():
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and node.level:
                    source = absolute(node, path).replace('.', '/') + '.py'
                    for alias in node.names:
                        name = shared.get(source, {}).get(alias.name)
                        if name:
                            self.arguments.setdefault(name, set()).add(path)

    def files_of(self, name):
        """Find the files behind a dotted name.

        Args:
            name (str): A module, or something in one.

        Returns:
            set[str]: The file and those of the packages that it is in; empty
            if it is not one of ours.
        """
        parts = name.split('.')
        for length in (len(parts), len(parts) - 1):
            base = '/'.join(parts[:length])
            for path in (f'{base}.py', f'{base}/__init__.py'):
                if path in self.texts:
                    # Names of the top package are imported lazily.
                    if path == PACKAGE and parts[length:]:
                        return {path} | self.classes.get(parts[-1], set())
                    return {path} | self._packages(path)
        return set()

    def _packages(self, path):
        folder = Path(path).parent
        return {
            f'{place.as_posix()}/__init__.py'
            for place in (folder, *folder.parents)
            if f'{place.as_posix()}/__init__.py' in self.texts
        }

    def closure(self, paths, without=()):
        """Find all that some files need, in an order in which it can come.

        Args:
            paths (Iterable[str]): The files.
            without (Collection[str]): What is there already.

        Returns:
            list[str]: The files and all that they import, each after what it
            imports; those of the lower rooms first.
        """
        order, seen = [], set(without)

        def visit(path):
            if path not in seen:
                seen.add(path)
                for need in sorted(self.needs[path], key=self.floor):
                    visit(need)
                order.append(path)

        for path in paths:
            visit(path)
        return order

    def floor(self, path):
        """Sort files by room, the lowest first.

        Args:
            path (str): A file.

        Returns:
            tuple[list[bool], str]: The key to sort by.
        """
        rooms = [f'{HOUSE}/{room}/' for room in ('writers', 'core')]
        return [not path.startswith(room) for room in rooms], path

    def roots(self):
        """Find the files that no other file imports, and what registers.

        Returns:
            list[str]: The monitors, the detectors and the hook.
        """
        used = set().union(*self.needs.values())
        return [
            path for path in self.texts
            if path in self.registered or path not in used
        ]


def place_of(claim):
    """Return the path that a stage or a guide names.

    Args:
        claim (str): ``'hook'``, or a folder (with a slash at its end) or a
            module in monitors/.
    """
    if claim == 'hook':
        return HOOK_FILE
    return f'{HOUSE}/{claim}' + ('' if claim.endswith('/') else '.py')


def imported(tree, path):
    """Find what a module imports from this package, sooner or later.

    Args:
        tree (ast.Module): The module.
        path (str): Its file.

    Yields:
        str: Dotted names. What only type checkers import, and what is tried
        and may be missing, is not among them.
    """

    def walk(node):
        if isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.dump(node.test):
            return
        if isinstance(node, ast.Try) and any(
                'ImportError' in ast.dump(handler.type)
                for handler in node.handlers if handler.type):
            children = [*node.handlers, *node.orelse, *node.finalbody]
        else:
            children = ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node, path)
            yield from (f'{base}.{alias.name}' for alias in node.names)
        for child in children:
            yield from walk(child)

    return (name for name in walk(tree) if name.startswith('mmpose.engine.'))


def absolute(node, path):
    """Write out what an import is relative to.

    Args:
        node (ast.ImportFrom): The import.
        path (str): The file that it is in.

    Returns:
        str: The dotted name of the module.
    """
    if not node.level:
        return node.module
    parts = Path(path).with_suffix('').parts
    base = parts[:len(parts) - node.level]
    return '.'.join((*base, *filter(None, [node.module])))


def declared(tree):
    """Find the arguments of the hook that a module declares.

    Args:
        tree (ast.Module): The module.

    Returns:
        dict[str, str]: Their names, by the variable they are assigned to, or
        by themselves.
    """
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            name = declaration(node.value)
            if name:
                names[getattr(node.targets[0], 'id', name)] = name
        elif declaration(node) and declaration(node) not in names.values():
            names[declaration(node)] = declaration(node)
    return names


def declaration(node):
    """Read the declaration of an argument.

    Args:
        node (ast.AST): A part of a module.

    Returns:
        str or None: The name of the argument; None if it is something else.
    """
    if isinstance(node, ast.Call) and getattr(node.func, 'id', '') in DECLARE:
        name = node.args[0] if node.args else None
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            return name.value
    return None
