# Copyright (c) OpenMMLab. All rights reserved.
"""Add an argument to the dicts of a config, with LibCST."""
import libcst as cst


def add_argument(source, kind, name, value):
    """Add an argument to every dict of a type that is written out.

    Comments and layout stay. A dict that has the argument, or a preset, which
    sets it, is left alone. A preset that is None is none.

    Args:
        source (bytes): A config.
        kind (str): The type, ``EnhancedTensorBoardHook`` say.
        name (str): The argument.
        value (str): Its value, as it is written in Python.

    Returns:
        bytes: The config with the arguments.
    """
    return cst.parse_module(source).visit(Editor(kind, name, value)).bytes


class Editor(cst.CSTTransformer):
    """See :func:`add_argument`."""

    def __init__(self, kind, name, value):
        super().__init__()
        self.kind = kind
        self.name = name
        self.value = cst.parse_expression(value)

    def leave_Call(self, original_node, updated_node):
        call = updated_node
        if not isinstance(call.func, cst.Name) or call.func.value != 'dict':
            return call
        known = {arg.keyword.value: arg for arg in call.args if arg.keyword}
        if not self._is_wanted(known):
            return call
        *others, last = call.args
        before = (
            others[-1].comma.whitespace_after
            if others else call.whitespace_before_args)
        separator, comma, tail = append(last.comma, before,
                                        last.whitespace_after_arg)
        added = cst.Arg(
            self.value,
            keyword=cst.Name(self.name),
            equal=cst.AssignEqual(
                cst.SimpleWhitespace(''), cst.SimpleWhitespace('')),
            comma=comma,
            whitespace_after_arg=tail)
        last = last.with_changes(
            comma=separator, whitespace_after_arg=cst.SimpleWhitespace(''))
        return call.with_changes(args=[*others, last, added])

    def leave_Dict(self, original_node, updated_node):
        node = updated_node
        known = {
            element.key.raw_value: element
            for element in node.elements
            if isinstance(getattr(element, 'key', None), cst.SimpleString)
        }
        if not self._is_wanted(known):
            return node
        *others, last = node.elements
        before = (
            others[-1].comma.whitespace_after
            if others else node.lbrace.whitespace_after)
        separator, comma, tail = append(last.comma, before,
                                        node.rbrace.whitespace_before)
        quote = known['type'].key.quote
        added = cst.DictElement(
            cst.SimpleString(f'{quote}{self.name}{quote}'),
            self.value,
            comma=comma)
        return node.with_changes(
            elements=[*others,
                      last.with_changes(comma=separator), added],
            rbrace=node.rbrace.with_changes(whitespace_before=tail))

    def _is_wanted(self, known):
        if 'type' not in known or self.name in known:
            return False
        preset = getattr(known.get('preset'), 'value', None)
        if preset and getattr(preset, 'value', '') != 'None':
            return False
        kind = known['type'].value
        if isinstance(kind, (cst.SimpleString, cst.ConcatenatedString)):
            return str(kind.evaluated_value).split('.')[-1] == self.kind
        if isinstance(kind, cst.Attribute):
            kind = kind.attr
        return isinstance(kind, cst.Name) and kind.value == self.kind


def append(last_comma, before, tail):
    """Lay out a new last item as the one that was last.

    Args:
        last_comma (cst.Comma or MaybeSentinel): What follows the item that
            was last. In a call it holds the white space up to the bracket.
        before (cst.BaseParenthesizableWhitespace): The white space before it.
        tail (cst.BaseParenthesizableWhitespace): Otherwise, the white space
            before the closing bracket.

    Returns:
        tuple[cst.Comma, cst.Comma or MaybeSentinel, white space]: What follows
        the item that was last, what follows the new one, and the new tail.
    """
    in_comma = isinstance(
        getattr(last_comma, 'whitespace_after', None),
        cst.ParenthesizedWhitespace)
    end = last_comma.whitespace_after if in_comma else tail
    between = cst.SimpleWhitespace(' ')
    if isinstance(before, cst.ParenthesizedWhitespace):
        # Each on a line of its own; a comment stays with its item.
        between = before.with_changes(
            first_line=cst.TrailingWhitespace(
                newline=before.first_line.newline),
            empty_lines=[])
        if isinstance(end, cst.ParenthesizedWhitespace):
            between = between.with_changes(first_line=end.first_line)
            end = end.with_changes(
                first_line=between.first_line.with_changes(
                    whitespace=cst.SimpleWhitespace(''), comment=None))
    separator = cst.Comma(whitespace_after=between)
    if in_comma:
        return separator, last_comma.with_changes(whitespace_after=end), tail
    return separator, last_comma, end
