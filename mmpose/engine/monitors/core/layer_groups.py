# Copyright (c) OpenMMLab. All rights reserved.
import os
from collections import Counter
from typing import Dict, Iterable, Iterator, List, Tuple

from mmengine.model import is_model_wrapper
from torch import Tensor, nn

# Modules that others put around a model or a layer; a parameter's name
# should not depend on them.
_WRAPPERS = {'_orig_mod', '_fsdp_wrapped_module', '_checkpoint_wrapped_module'}

Path = Tuple[str, ...]


def named_parameters(model: nn.Module) -> Iterator[Tuple[str, nn.Parameter]]:
    """Every parameter once, by the name it has in the bare model.

    Args:
        model (nn.Module): The model without its distributed wrapper.

    Yields:
        tuple[str, nn.Parameter]: The dotted name without what
        ``torch.compile``, FSDP, activation checkpointing or the distributed
        wrapper of a part put into it, and the parameter. A shared parameter
        has the name of its first place.
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
    """The name of a parameter or module, without what wrappers put into it.

    Args:
        name (str): Dotted, as PyTorch gives it.

    Returns:
        str: The name it has in the model as it was built.
    """
    return '.'.join(part for part in name.split('.') if part not in _WRAPPERS)


def layer_groups(parameters: Dict[str, Tensor],
                 max_groups: int) -> Dict[str, List[str]]:
    """Cut a model along its module tree into a few groups of parameters.

    The tree is opened from the root, level by level, and in each level the
    largest module first. A module is opened only where the number of groups
    stays within the limit, so together the groups hold every parameter. What
    belongs to an opened module directly (the position embedding of a
    transformer, say) forms a group by the module's own name.

    Args:
        parameters (dict[str, Tensor]): The parameters by their dotted names.
        max_groups (int): The largest number of groups. -1: every parameter
            is a group of its own. 0: no groups.

    Returns:
        dict[str, list[str]]: The names of the parameters of every group, in
        the order of the model. The group's name is the module path with '/'
        for '.', such as 'backbone/layer1'.
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
    """The children of a module, and the module for what is its own."""
    parts: Dict[Path, List[str]] = {}
    for name in names:
        modules = tuple(name.split('.')[:-1])
        parts.setdefault(modules[:len(path) + 1], []).append(name)
    return parts


def covering_modules(names: Iterable[str],
                     among: Iterable[str],
                     max_modules: int = 3) -> Dict[str, int]:
    """The largest modules of which some parameters are everything there is.

    So that thirty parameters of one branch become one name.

    Args:
        names (Iterable[str]): The dotted names of the parameters.
        among (Iterable[str]): The names of all that count, these included.
        max_modules (int): If there were more, all become the one module that
            has them in it, among others. Defaults to 3.

    Returns:
        dict[str, int]: For each module how many of the parameters are in it.
        Its name is the module path with '/' for '.', of a parameter alone
        that of the parameter, of everything 'model'.
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
    """All that a path is in, from the root down to itself."""
    return (path[:i] for i in range(len(path) + 1))
