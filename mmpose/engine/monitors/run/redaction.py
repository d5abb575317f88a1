# Copyright (c) OpenMMLab. All rights reserved.
"""Remove secrets and names of users from a text that is shared.

Only the standard library is used: a bug report has to work where nothing else
can be imported.
"""
import getpass
import os.path as osp
import re
from contextlib import suppress
from typing import Match

HIDDEN = '***'

# Names whose values are secrets.
SECRET_NAME = (r'passwd|password|passphrase|pwd|secret|token|credential|'
               r'auth(?!ors?\b)|signature|\bsig\b|_pass\b|cookie|'
               r'(?:api|access|private|account)[_-]?key')
# Secrets that are known by their shape: tokens of GitHub, GitLab, Hugging
# Face, OpenAI, AWS, Google, Slack, PyPI and Weights & Biases, JSON web tokens,
# private keys; and the addresses that post to Slack.
_SHAPES = re.compile(
    r'gh[pousr]_\w+|github_pat_\w+|glpat-[\w-]+|hf_\w{16,}|sk-[\w-]{16,}|'
    r'(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[\w-]{35}|xox\w-[\w-]+|pypi-[\w-]{16,}|'
    r'wandb_v\d_\w+|(?<![0-9A-Za-z])[0-9a-f]{40}(?![0-9A-Za-z])|'
    r'eyJ[\w-]+\.[\w-]+\.[\w-]+|(?<=hooks\.slack\.com/services/)[\w/-]+|'
    r'-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----',
    re.DOTALL)
# The user and password in a URL; a password may have any character.
_URL_USER = re.compile(
    r'''(?<=://)(?:[^\s/:@'"]*:[^\s'"]{0,500}|[^\s/'"]{1,500})@''')
_EMAIL = re.compile(r'(?<![\w.+-])[\w.+-]+@(?:[\w-]+\.)+[A-Za-z]{2,}')
# The user in an address of scp or rsync.
_REMOTE_USER = re.compile(r'(?<![\w.+!$-])[\w.+!$-]+(?=@[\w.-]+:[/~])')

_QUOTED = (r'''[rRbBuUfF]{0,2}(?:"""(?:\\.|[^\\])*?"""|\'\'\'(?:\\.|[^\\])*?'''
           r'''\'\'\'|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')''')
_NAMED = re.compile(
    rf'(?i)((?:{SECRET_NAME})[\w-]{{0,64}}["\']?\s*(?:=(?!=)|:))(?:'
    # A string, which may be several literals on several lines, or a list.
    rf'(\s*)(?:{_QUOTED}(?:\s*{_QUOTED})*|'
    rf'[\[(]\s*{_QUOTED}(?:[\s,]*{_QUOTED})*)'
    # An authentication scheme and its value; or a bare word that is not a
    # boolean, a call or hidden already.
    r'|([ \t]*)(?:(?:bearer|basic|token)[ \t]+\S+|'
    r'(?!(?:true|false|none|null)\b|[\w.]*\(|\*\*\*)'
    r"""[^\s,;&'"()\[\]{}][^\s,;&'"()\]}]*))""")
_OPTION = re.compile(
    rf'(?i)((?<![\w.-])--?[\w.-]{{0,64}}(?:{SECRET_NAME})[\w-]{{0,64}}[ \t]+)'
    rf'(?:{_QUOTED}|(?!\*\*\*)[^\s=:-]\S*)')

# Home directories on Linux, also below another folder, on macOS and Windows,
# in configs with two backslashes. The group is the user's name. A web page
# may have a path like that.
_HOME = re.compile(r'(?:(?<![\w.:/-])(?:/[\w.-]+){1,6}|(?<![\w.-]))'
                   r'/(?:home|Users)/([^/\s\'":,;()\[\]{}|<>]+)|'
                   r'[A-Za-z]:(?:\\\\|[\\/])Users(?:\\\\|[\\/])'
                   r'([^\\/:*?"<>|\'\r\n]+)')


def redact(text: str) -> str:
    """Remove secrets and the names of users from a text.

    Args:
        text (str): Any text: a config, a log.

    Returns:
        str: The text with '***' for passwords and tokens, known by their
        shape or their name, for the user in a URL, and for e-mail addresses;
        and with '~' for home directories and the names of their users.
    """
    users = {(a or b).rstrip('.') for a, b in _HOME.findall(text)}
    users -= {'root', '', HIDDEN, '~'}
    text = without_secrets(text)
    text = without_user(_HOME.sub('~', text))
    for user in sorted(users, key=len, reverse=True):
        text = _without_word(text, user)
    return text


def without_secrets(text: str) -> str:
    """Remove passwords, tokens and e-mail addresses from a text.

    Args:
        text (str): Any text.

    Returns:
        str: The text with '***' in their place.
    """
    text = _URL_USER.sub(f'{HIDDEN}@', text)
    text = _REMOTE_USER.sub(HIDDEN, text)
    text = _SHAPES.sub(HIDDEN, text)
    text = _NAMED.sub(_hide_value, text)
    text = _OPTION.sub(rf'\1{HIDDEN}', text)
    return _EMAIL.sub(HIDDEN, text)


def _hide_value(match: Match) -> str:
    name, before_string, before_word = match.groups()
    if before_word is None:
        return f"{name}{before_string}'{HIDDEN}'"
    return f'{name}{before_word}{HIDDEN}'


def without_user(text: str) -> str:
    """Replace the home directory and the name of the user by '~'.

    Args:
        text (str): Any text.

    Returns:
        str: The text. Words that contain the name are not changed.
    """
    names = [osp.expanduser('~')]
    names.append(osp.realpath(names[0]))
    with suppress(Exception):  # A container may have no such user.
        names.append(getpass.getuser())
    for name in names:
        # 'root' identifies nobody, and is a word in configs.
        if name.strip('/\\~') and name != 'root':
            text = _without_word(text, name)
    return text


def _without_word(text: str, word: str) -> str:
    return re.sub(rf'(?<![\w.-]){re.escape(word)}(?![\w.-])', '~', text)
