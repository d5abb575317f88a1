# Copyright (c) OpenMMLab. All rights reserved.
"""Which file goes into which branch."""
import ast
import re
from collections import namedtuple

from .git import PatchError
from .imports import HOOK, HOOK_FILE, Modules, imported, place_of

# Lines of library code in a branch.
LIMIT = 2000
TESTS = 'tests/test_engine'
TOOLS = 'tools/dataset_generators'
PRESETS = 'configs/_base_/enhanced_tensorboard'

# stage: what it is part of. part, parts: which of how many. library, tests,
# others: files that it adds.
Branch = namedtuple('Branch', 'stage part parts library tests others')


def cut(root, stages, limit=LIMIT):
    """Distribute the files of the hook over branches.

    Args:
        root (Path): The checkout.
        stages (Sequence[Stage]): The table.
        limit (int): How many lines of library code a branch may have.

    Returns:
        tuple[list[Branch], Modules]: The branches, each with what it adds to
        those before, and the modules.
    """
    modules = Modules(root)
    parts = []
    for stage, units in zip(stages, stage_units(modules, stages)):
        of_stage = pack(units, modules, limit) if stage.claims else [[]]
        parts += [(stage, i + 1, len(of_stage), library)
                  for i, library in enumerate(of_stage)]
    branch_of = {
        path: i
        for i, (*_, library) in enumerate(parts) for path in library
    }
    tests = place_tests(root, modules, branch_of)
    others = [[] for _ in parts]
    others[branch_of[HOOK_FILE]] += [
        path.relative_to(root).as_posix()
        for path in sorted((root / PRESETS).glob('*.py'))
    ]
    for path, i in tests.items():
        text = (root / path).read_text('utf-8')
        others[i] += re.findall(rf'{TOOLS}/\w+\.py', text)
    branches = [
        Branch(stage, part, count, library,
               sorted(path for path, at in tests.items() if at == i),
               sorted(set(others[i])))
        for i, (stage, part, count, library) in enumerate(parts)
    ]
    return branches, modules


def stage_units(modules, stages):
    """Find what belongs to each stage.

    Args:
        modules (Modules): The modules.
        stages (Sequence[Stage]): The table.

    Returns:
        list[list[list[str]]]: For each stage its units: what one monitor
        needs that was not there before it.
    """
    stage_of = claimed(modules, stages)
    roots = modules.roots()
    done, units = set(), []
    for i, stage in enumerate(stages):
        named = [
            path for path in map(place_of, stage.claims)
            if path in modules.texts
        ]
        # What needs little fills what the others leave.
        named += sorted(
            (path for path in roots
             if stage_of.get(path) == i and path not in named),
            key=lambda path: lines_of(modules.closure([path]), modules))
        units.append([])
        for path in named:
            unit = modules.closure([path], done)
            done |= set(unit)
            units[-1].append(unit)
    rest = [path for path in modules.texts if path not in done]
    if rest:
        raise PatchError(f'nothing imports {", ".join(rest)}')
    return units


def claimed(modules, stages):
    """Find the stage of each file.

    Args:
        modules (Modules): The modules.
        stages (Sequence[Stage]): The table.

    Returns:
        dict[str, int]: Which stage claims the file, or the innermost of the
        folders that it is in.
    """
    claims = {
        place_of(claim): i
        for i, stage in enumerate(stages) for claim in stage.claims
    }
    gone = [
        place for place in claims
        if place.endswith('.py') and place not in modules.texts
    ]
    stage_of = {}
    for path in modules.texts:
        places = [
            place for place in claims
            if place == path or place.endswith('/') and path.startswith(place)
        ]
        if places:
            stage_of[path] = claims[max(places, key=len)]
    homeless = [
        path for path in modules.texts
        # It comes with the first module of its folder.
        if path not in stage_of and not path.endswith('/__init__.py')
    ]
    if gone or homeless:
        said = [f'there is no {place}, which a stage claims' for place in gone]
        said += [f'no stage claims {path}' for path in homeless]
        raise PatchError(
            f'{"; ".join(said)}: change upstream_series/stages.py')
    return stage_of


def pack(units, modules, limit):
    """Fill branches with units.

    Args:
        units (list[list[str]]): In their order.
        modules (Modules): The modules.
        limit (int): How many lines a branch may have.

    Returns:
        list[list[str]]: The files of each branch. A unit that is larger than
        a branch is split by its modules.
    """
    branches, room = [], 0
    for unit in units:
        for piece in split(unit, modules, limit):
            size = lines_of(piece, modules)
            if not branches or size > room:
                branches.append([])
                room = limit
            branches[-1] += piece
            room -= size
    return [branch for branch in branches if branch]


def split(unit, modules, limit):
    """Split a unit that is larger than a branch.

    Args:
        unit (list[str]): Files, each after what it imports.
        modules (Modules): The modules.
        limit (int): How many lines a branch may have.

    Returns:
        list[list[str]]: The pieces; the unit alone if it is small enough.
    """
    if lines_of(unit, modules) <= limit:
        return [unit] if unit else []
    others = set(modules.texts) - set(unit)
    return [[
        path
    ] for path in modules.closure(sorted(unit, key=modules.floor), others)]


def lines_of(paths, modules):
    """Count lines.

    Args:
        paths (Iterable[str]): Files.
        modules (Modules): The modules.

    Returns:
        int: All lines of the files, comments and docstrings too.
    """
    return sum(len(modules.texts[path].splitlines()) for path in paths)


# Tests


def place_tests(root, modules, branch_of):
    """Find the first branch in which each test can run.

    Args:
        root (Path): The checkout.
        modules (Modules): The modules.
        branch_of (dict[str, int]): The branch of each file of the library.

    Returns:
        dict[str, int]: The branch of each test and of what tests share.
    """
    files = {
        path.relative_to(root).as_posix(): path.read_text('utf-8')
        for path in sorted((root / TESTS).rglob('*.py'))
    }
    trees = {path: ast.parse(text) for path, text in files.items()}
    # What compares this repository's documentation with the code stays.
    tools = {path.stem for path in (root / 'tools').glob('*.py')}
    trees = {
        path: tree
        for path, tree in trees.items() if not modules_named(tree) & tools
    }
    # Some tests import from others.
    helpers = {
        path.split('/')[-1][:-3]: path
        for path in trees if not path.endswith('conftest.py')
    }
    fixtures = hook_fixtures(trees)
    first = min(branch_of.values())
    branches, users = {}, {}
    for path, tree in trees.items():
        if not path.split('/')[-1].startswith('test_'):
            continue
        used = with_helpers([path], trees, helpers)
        needs = set().union(*(needs_of(trees[name], name, modules, branch_of)
                              for name in used))
        if fixtures & parameters(tree):
            needs.add(HOOK_FILE)
        at = max((branch_of[need] for need in needs), default=first)
        branches[path] = at
        folder = path.rpartition('/')[0]
        used += [
            name for name in trees if name.endswith('/conftest.py')
            and folder.startswith(name.rpartition('/')[0])
        ]
        for name in with_helpers(used, trees, helpers):
            users[name] = min(users.get(name, at), at)
    branches.update(users)
    return branches


def with_helpers(paths, trees, helpers):
    """Add the helpers that tests import.

    Args:
        paths (list[str]): The tests.
        trees (dict[str, ast.Module]): All tests and helpers.
        helpers (dict[str, str]): The file of each helper, by its module.

    Returns:
        list[str]: The tests and their helpers.
    """
    used = list(paths)
    for path in used:
        used += [
            helpers[name] for name in sorted(modules_named(trees[path]))
            if name in helpers and helpers[name] not in used
        ]
    return used


def needs_of(tree, path, modules, branch_of):
    """Find what a test needs of the library.

    Args:
        tree (ast.Module): The test.
        path (str): Its file.
        modules (Modules): The modules.
        branch_of (dict[str, int]): The branch of each file of the library.

    Returns:
        set[str]: The files that it imports or names, as classes (``NEEDS``
        lists those that it does not name otherwise), as arguments of the hook
        or as tags.
    """

    def first(paths):
        return {min(paths, key=lambda path: (branch_of[path], path))}

    needs = set()
    for name in imported(tree, path):
        needs |= modules.files_of(name)
    prefixes = {
        re.split('<', tag)[0]: paths
        for tag, paths in modules.tags.items()
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
            for name in re.findall(r'mmpose\.engine\.\w[\w.]*\w', text):
                needs |= modules.files_of(name)
            needs |= modules.classes.get(text, set())
            tags = [tag for tag in prefixes if text.startswith(tag)]
            if tags:
                needs |= first(prefixes[max(tags, key=len)])
        for name, value in named_values(node):
            if name in modules.arguments and switches_on(value):
                needs |= first(modules.arguments[name])
    return needs


def named_values(node):
    """Find the keyword arguments and dictionary entries of a node.

    Args:
        node (ast.AST): A part of a test.

    Yields:
        tuple[str, ast.expr]: Name and value.
    """
    if isinstance(node, ast.Call):
        yield from ((k.arg, k.value) for k in node.keywords if k.arg)
    elif isinstance(node, ast.Dict):
        yield from ((k.value, v) for k, v in zip(node.keys, node.values)
                    if isinstance(k, ast.Constant))


def switches_on(value):
    """Whether a value of an argument asks for what it belongs to.

    Args:
        value (ast.expr): The value.

    Returns:
        bool: False for what switches off: the tests leave it out where there
        is nothing to switch off.
    """
    return not isinstance(value, ast.Constant) or bool(value.value)


def modules_named(tree):
    """Find the top-level modules that a test imports.

    Args:
        tree (ast.Module): The test.

    Returns:
        set[str]: Their names.
    """
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def parameters(tree):
    """Find the fixtures that the functions of a test ask for.

    Args:
        tree (ast.Module): The test.

    Returns:
        set[str]: Their names.
    """
    return {
        argument.arg
        for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
        for argument in node.args.args
    }


def hook_fixtures(trees):
    """Find the shared fixtures that make a run with the hook.

    Args:
        trees (dict[str, ast.Module]): The tests.

    Returns:
        set[str]: Their names.
    """
    functions = [
        node for path, tree in trees.items() if path.endswith('/conftest.py')
        for node in tree.body if isinstance(node, ast.FunctionDef)
    ]
    found = {node.name for node in functions if f"'{HOOK}'" in ast.dump(node)}
    return found | {
        node.name
        for node in functions
        if found & {argument.arg
                    for argument in node.args.args}
    }
