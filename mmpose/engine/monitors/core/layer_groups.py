# Copyright (c) OpenMMLab. All rights reserved.
import os
from collections import Counter
from typing import Dict, Iterable, Iterator, List, Tuple

from mmengine.model import is_model_wrapper
from torch import Tensor, nn

# Names of wrappers around a model or a layer. The name of a parameter should
# not depend on them.
_WRAPPERS = {'_orig_mod', '_fsdp_wrapped_module', '_checkpoint_wrapped_module'}

Path = Tuple[str, ...]


def named_parameters(model: nn.Module) -> Iterator[Tuple[str, nn.Parameter]]:
    """Iterate over the parameters by their names in the bare model.

    Args:
        model (nn.Module): The model without its distributed wrapper.

    Yields:
        tuple[str, nn.Parameter]: The dotted name without the parts that
        ``torch.compile``, FSDP, activation checkpointing or the distributed
        wrapper of a submodule add, and the parameter. A shared parameter
        comes once, by its first name.
    """
    wrappers = [
        f'{name}.' for name, module in model.named_modules()
        if is_model_wrapper(module)
    ]
    for name, parameter in model.named_parameters():
        for wrapper in reversed(wrappers):
            if name.startswith(f'{wrapper}module.'):
                name = wrapper + name[len(f'{wrapper}module.'):]
        yield bare_name(name), parameter


def bare_name(name: str) -> str:
    """Remove the names of wrappers from the name of a parameter or module.

    Args:
        name (str): The dotted name in PyTorch.

    Returns:
        str: The name in the model without wrappers.
    """
    return '.'.join(part for part in name.split('.') if part not in _WRAPPERS)


def layer_groups(parameters: Dict[str, Tensor],
                 max_groups: int) -> Dict[str, List[str]]:
    """Divide the parameters of a model into groups along its module tree.

    Start with one group for the whole model. Replace a group by the groups of
    its child modules, level by level and the largest module of a level first,
    as long as the number of groups stays within the limit. So every parameter
    is in one group. Parameters that belong directly to a module that was
    replaced, like the position embedding of a transformer, form a group with
    the name of the module.

    Args:
        parameters (dict[str, Tensor]): The parameters by their dotted names.
        max_groups (int): The largest number of groups. -1: every parameter
            is a group of its own. 0: no groups.

    Returns:
        dict[str, list[str]]: The names of the parameters by group, in the
        order of the model. The name of a group is the path of its module with
        '/' instead of '.', such as 'backbone/layer1'.
    """
    if max_groups == -1:
        return {name.replace('.', '/'): [name] for name in parameters}
    if max_groups == 0:
        return {}

    def shallow_and_large_first(path: Path):
        return len(path), -sum(parameters[n].numel() for n in groups[path])

    groups: Dict[Path, List[str]] = {(): list(parameters)}
    opened = True
    while opened:
        opened = False
        for path in sorted(groups, key=shallow_and_large_first):
            parts = _open(path, groups[path])
            fits = len(groups) - 1 + len(parts) <= max_groups
            if fits and set(parts) != {path}:
                del groups[path]
                groups.update(parts)
                opened = True
                break

    place = {name: i for i, name in enumerate(parameters)}
    return {
        '/'.join(path) or 'model': names
        for path, names in sorted(
            groups.items(), key=lambda item: place[item[1][0]])
    }


def _open(path: Path, names: Iterable[str]) -> Dict[Path, List[str]]:
    """Divide the parameters of a module by its children."""
    parts: Dict[Path, List[str]] = {}
    for name in names:
        modules = tuple(name.split('.')[:-1])
        parts.setdefault(modules[:len(path) + 1], []).append(name)
    return parts


def covering_modules(names: Iterable[str],
                     among: Iterable[str],
                     max_modules: int = 3) -> Dict[str, int]:
    """Name parameters by the largest modules that contain no others.

    For instance, all thirty parameters of a branch become the name of that
    branch.

    Args:
        names (Iterable[str]): The dotted names of the parameters.
        among (Iterable[str]): The names of all parameters, these included.
        max_modules (int): The largest number of modules. If there are more,
            they are replaced by the one module that contains them all.
            Defaults to 3.

    Returns:
        dict[str, int]: The number of the parameters in each module. Its name
        is its path with '/' instead of '.'; that of a single parameter is its
        own path, that of the whole model is 'model'.
    """
    names = [tuple(name.split('.')) for name in names]
    if not names:
        return {}
    total = Counter(
        path for name in among for path in _ancestry(tuple(name.split('.'))))
    found = Counter(path for name in names for path in _ancestry(name))
    modules = [
        next(path for path in _ancestry(name) if found[path] == total[path])
        for name in names
    ]
    if len(set(modules)) > max_modules:
        modules = [tuple(os.path.commonprefix(modules))] * len(modules)
    return dict(Counter('/'.join(path) or 'model' for path in modules))


def _ancestry(path: Path) -> Iterator[Path]:
    """Iterate over the ancestors of a path, from the root down to itself."""
    return (path[:i] for i in range(len(path) + 1))
