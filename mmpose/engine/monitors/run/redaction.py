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
SECRET_NAME = (
    r'passwd|password|passphrase|pwd|secret|token(?!i[sz])|credential|'
    r'auth(?!ors?\b)|signature|\bsig\b|_pass\b|(?<=["\'])pass(?=["\'])|cookie|'
    # The two parts of a key to an object store.
    r'(?<![A-Za-z0-9])[as]k(?![\w-])|'
    r'(?:api|access|private|account)[_-]?key')
# Secrets that are known by their shape: tokens of GitHub, GitLab, Hugging
# Face, OpenAI, Groq, Stripe, NVIDIA, AWS, Alibaba Cloud, Tencent Cloud,
# Google, Slack, PyPI, npm, Docker, Weights & Biases, Replicate, SendGrid,
# DigitalOcean, Tailscale, Atlassian, DingTalk, ServerChan, Telegram and
# Discord; JSON web tokens, Neptune's among them; private keys.
_SHAPES = re.compile(
    r'gh[pousr]_\w+|github_pat_\w+|'
    r'gl(?:pat|ptt|dt|rt|cbt|soat|ft|imt|agent|oas)-[\w.-]{16,}|'
    r'(?:hf|npm|gsk|api_org)_\w{16,}|dckr_pat_[\w-]{16,}|'
    r'(?:sk|pypi|nvapi|xapp)-[\w-]{16,}|[rs]k_(?:live|test)_\w{16,}|'
    r'(?<!\w)(?:AKIA|ASIA)[A-Z0-9]{16}|(?<!\w)(?:LTAI|AKID)[A-Za-z0-9]{12,40}|'
    r'AIza[\w-]{35}|ya29\.[\w-]{16,}|xox\w-[\w-]+|(?<!\w)SEC[0-9a-f]{64}|'
    r'(?<!\w)r8_\w{30,}|(?<!\w)SG\.[\w-]{16,}\.[\w-]{16,}|'
    r'do[opr]_v1_\w{32,}|tskey-[\w-]{16,}|ATATT[\w-]{16,}|'
    r'(?<!\w)SC[TU]\d+T\w{16,}|'
    r'wandb_v\d_\w+|(?<![0-9A-Za-z])[0-9a-f]{40}(?![0-9A-Za-z])|'
    r'eyJ[\w-]+\.[\w-]+\.[\w-]+|(?<!\w)eyJ[\w-]{40,}={0,2}|'
    r'\d{8,12}:[\w-]{35}(?![\w-])|'
    r'(?<![\w.-])[MNO][\w-]{23,27}\.[\w-]{6}\.[\w-]{27,40}(?![\w.-])|'
    r'-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----',
    re.DOTALL)
# Who knows the rest of such an address can post there: Slack, Feishu and Lark,
# Discord, Telegram, Teams, Bark, ntfy, and any other with something long
# behind "hook".
_WEBHOOK = re.compile(
    r'(hooks\.slack\.com/(?:services|workflows|triggers)/|'
    r'(?:feishu\.cn|larksuite\.com)/open-apis/bot/(?:v\d/)?hook/|'
    r'discord(?:app)?\.com/api/(?:v\d{1,2}/)?webhooks/|'
    r'api\.telegram\.org/(?:file/)?bot|webhook\.office\.com/webhookb2/|'
    r'api\.day\.app/|ntfy\.sh/|'
    r'https?://[^\s\'"<>?]{1,200}/(?:web)?hooks?/'
    r'(?=[\w/-]{0,64}\d)(?=[\w/-]{0,64}[\w-]{16}))'
    r'(?!\*\*\*)[^\s\'"?&<>]+')
# What a URL names ``key`` and so on, such as the addresses that post to WeCom.
_QUERY = re.compile(r'([?&](?:key|code|appid|[as]k)=)(?!\*\*\*)[^\s\'"&<>#]+',
                    re.IGNORECASE)
# The user and password in a URL; a password may have any character.
_URL_USER = re.compile(
    r'''(?<=://)(?:[^\s/:@'"]*:[^\s'"]{0,500}|[^\s/'"]{1,500})@''')
_EMAIL = re.compile(r'(?<![\w.+-])[\w.+-]+@(?:[\w-]+\.)+[A-Za-z]{2,}')
# The user in an address of scp or rsync.
_REMOTE_USER = re.compile(r'(?<![\w.+!$-])[\w.+!$-]+(?=@[\w.-]+:[/~])')

# A header is a secret to its end, whatever scheme it names.
_HEADER = re.compile(
    r'((?<![\w-])(?:(?:proxy-)?authorization|(?:set-)?cookie):[ \t]*)'
    r'(?!\*\*\*)[^\s\'"][^\r\n\'"]*', re.IGNORECASE)
_QUOTED = (r'''[rRbBuUfF]{0,2}(?:"""(?:\\.|[^\\])*?"""|\'\'\'(?:\\.|[^\\])*?'''
           r'''\'\'\'|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')''')
_NAMED = re.compile(
    rf'(?i)((?:{SECRET_NAME})[\w-]{{0,64}}["\']?\]?\s*(?:=(?!=)|:))(?:'
    # A string, which may be several literals on several lines, a list, or a
    # dict.
    rf'(\s*)(?:{_QUOTED}(?:\s*{_QUOTED})*|'
    rf'[\[(]\s*{_QUOTED}(?:[\s,]*{_QUOTED})*|'
    rf'\{{\s*{_QUOTED}\s*:\s*{_QUOTED}[^{{}}]{{0,999}}\}}|'
    rf'dict\(\s*(?!type\b)\w+\s*=\s*{_QUOTED}[^()]{{0,999}}\))'
    # An authentication scheme and its value; or a bare word that is not a
    # boolean, a call or hidden already.
    r'|([ \t]*)(?:(?:bearer|basic|token)[ \t]+\S+|'
    r'(?!(?:true|false|none|null)\b|[\w.]*\(|\*\*\*)'
    r"""[^\s,;&'"()\[\]{}][^\s,;&'"()\]}]*))""")
_OPTION = re.compile(
    rf'(?i)((?<![\w.-])--?[\w.-]{{0,64}}(?:{SECRET_NAME})[\w-]{{0,64}}[ \t]+)'
    rf'(?:{_QUOTED}|(?!\*\*\*)[^\s=:-]\S*)')

# In JSON that is a string itself; in os.environ.setdefault('NAME', 'value').
_ESCAPED = re.compile(
    rf'(?i)((?:{SECRET_NAME})[\w-]{{0,64}}\\+"\s*:\s*\\+")(?!\*\*\*)[^"\\]+')
_SET = re.compile(r'(?i)((?:setdefault|putenv|setenv)\(\s*["\'][\w-]{0,64}'
                  rf'(?:{SECRET_NAME})[\w-]{{0,64}}["\']\s*,\s*){_QUOTED}')

# Home directories on Linux, also below another folder, on macOS and Windows,
# in configs with two backslashes. The group is the user's name. A web page
# may have a path like that.
_NAME = r'([^/\s\'":,;()\[\]{}|<>]+)'
_HOME = re.compile(rf'(?:(?<![\w.:/-])(?:/[\w.-]+){{1,6}}|(?<![\w.-]))'
                   rf'/(?:home|[Uu]sers)/{_NAME}|'
                   r'[A-Za-z]:(?:\\\\|[\\/])Users(?:\\\\|[\\/])'
                   r'([^\\/:*?"<>|\'\r\n]+)')
# A user's folder on the fast disks of a cluster. It may as well be the name of
# a data set: that is not a word to be taken out everywhere.
_SCRATCH = re.compile(
    rf'(?<![\w.:/-])(?:/[\w.-]+){{0,3}}/scratch[\w.-]{{0,16}}/{_NAME}')


def redact(text: str) -> str:
    """Remove secrets and the names of users from a text.

    Args:
        text (str): Any text: a config, a log.

    Returns:
        str: The text with '***' for passwords and tokens, known by their
        shape or their name, for the user in a URL, and for e-mail addresses;
        and with '~' for home directories, folders of users on the disks of a
        cluster, and the names of the users.
    """
    users = {(a or b).rstrip('.') for a, b in _HOME.findall(text)}
    users -= {'root', '', HIDDEN, '~'}
    text = without_secrets(text)
    text = without_user(_SCRATCH.sub('~', _HOME.sub('~', text)))
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
    text = _WEBHOOK.sub(rf'\1{HIDDEN}', text)
    text = _QUERY.sub(rf'\1{HIDDEN}', text)
    text = _SHAPES.sub(HIDDEN, text)
    text = _HEADER.sub(rf'\1{HIDDEN}', text)
    text = _ESCAPED.sub(rf'\1{HIDDEN}', text)
    text = _SET.sub(rf"\1'{HIDDEN}'", text)
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
