# Copyright (c) OpenMMLab. All rights reserved.
import getpass
import os
import random
import string
import time
from pathlib import Path

import pytest

import mmpose
from mmpose.engine.monitors.run.redaction import redact, without_user

HEX = '0123456789abcdef'
WORD = string.ascii_letters + string.digits
# By shape: where a secret begins, of what it is and how long.
SHAPES = {
    'GitHub': ('ghp_', WORD, 36),
    'fine-grained GitHub': ('github_pat_', WORD + '_', 40),
    'GitLab': ('glpat-', WORD + '-', 20),
    'GitLab, routable': ('glpat-', WORD + '.', 40),
    'GitLab, of a runner': ('glrt-', WORD + '-', 20),
    'Hugging Face': ('hf_', WORD, 34),
    'Hugging Face, of an organization': ('api_org_', WORD, 34),
    'OpenAI': ('sk-', WORD + '-', 48),
    'OpenAI, of a project': ('sk-proj-', WORD + '-_', 120),
    'Groq': ('gsk_', WORD, 52),
    'NVIDIA': ('nvapi-', WORD + '-_', 64),
    'Stripe': ('sk_live_', WORD, 24),
    'npm': ('npm_', WORD, 36),
    'Docker': ('dckr_pat_', WORD + '-', 27),
    'Alibaba Cloud': ('LTAI', WORD, 20),
    'Tencent Cloud': ('AKID', WORD, 32),
    'DingTalk': ('SEC', HEX, 64),
    'Google, for a while': ('ya29.', WORD + '-_', 100),
    'Neptune': ('eyJhcGlf', WORD, 120),
    'Telegram': ('123456789:', WORD + '-_', 35),
    'Discord': ('MTE', WORD, '24.6.38'),
    'Slack, of an application': ('xapp-1-', WORD + '-', 60),
    'Slack, that is renewed': ('xoxe.xoxp-1-', WORD, 60),
    'AWS': ('AKIA', string.ascii_uppercase + string.digits, 16),
    'AWS, for a while': ('ASIA', string.ascii_uppercase + string.digits, 16),
    'Google': ('AIza', WORD + '-_', 35),
    'Slack': ('xoxb-', string.digits, 24),
    'Slack, to post to': ('https://hooks.slack.com/services/', WORD + '/', 44),
    'Slack, of a workflow':
    ('https://hooks.slack.com/triggers/', WORD + '/', 44),
    'Feishu': ('https://open.feishu.cn/open-apis/bot/v2/hook/', HEX + '-', 36),
    'Lark': ('https://open.larksuite.com/open-apis/bot/hook/', HEX, 32),
    'Discord, to post to':
    ('https://discord.com/api/webhooks/1234567890/', WORD + '-_', 68),
    'Discord, its old name':
    ('https://discordapp.com/api/v10/webhooks/12345/', WORD + '-_', 68),
    'Telegram, to post to': ('https://api.telegram.org/bot123456:', WORD, 30),
    'WeCom':
    ('https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=', HEX + '-', 36),
    'Teams': ('https://x.webhook.office.com/webhookb2/', HEX + '-', 36),
    'Mattermost': ('https://chat.example.org/hooks/0', WORD, 25),
    'Bark': ('https://api.day.app/', WORD, 22),
    'ntfy': ('https://ntfy.sh/my-', WORD, 12),
    'ServerChan': ('SCT123456T', WORD, 28),
    'Replicate': ('r8_', WORD, 37),
    'SendGrid': ('SG.', WORD + '-_', '22.43'),
    'DigitalOcean': ('dop_v1_', HEX, 64),
    'Tailscale': ('tskey-auth-', WORD + '-', 40),
    'Atlassian': ('ATATT3', WORD + '-_', 180),
    'Weights & Biases': ('', HEX, 40),
    'Weights & Biases, new': ('wandb_v1_', WORD, 40),
}
# By name: how it stands in configs, logs, commands and URLs.
NAMED = ('password={!r}', "dict(token={!r}, type='X')", '{{"api_key": "{}"}}',
         "{{'secret': '{}'}}", 'password: {}', 'API_KEY = {}',
         'wandb_api_key={}', 'secret_access_key\n    ={!r}',
         'auth_token=\n        {!r},', "password=('{}'\n 'more')",
         "tokens=['{}', 'other']", 'passwd = """{}"""', '--password {}',
         '--hf-token={}', "--api-key '{}'", 'Authorization: Bearer {}',
         'https://x.org/data?token={}&n=1', 'MY_PASSWORD={} python train.py',
         'account_key={!r}', 'init_kwargs=dict(credentials=[{!r}])',
         'x.pwd={!r}', 'https://x.org/data?sv=2024&sig={}&n=1',
         'smtp_pass={!r}', 'Cookie: {}', 'ak={!r}', "dict(sk='{}', ak='x')",
         '--sk {}', 'OSS_SK={}', '"ak": "{}"', 'sk: {}',
         'https://x.org/v1?key={}&n=1', 'https://x.org/v1?n=1&AK={}#top',
         'https://x.org/f?code={}', 'os.environ["X_TOKEN"] = "{}"',
         "os.environ['MY_PASS']='{}'", "x.setdefault('API_KEY', '{}')",
         "putenv('X_TOKEN', {!r})", "'pass': {!r}",
         'Authorization: KakaoAK {}', 'curl -H "authorization: Bot {}" x',
         'Set-Cookie: a=b; c={}; d=e', 'said {{\\"api_key\\": \\"{}\\"}}',
         "tokens=dict(a='x', b='{}')", "credentials={{'x': 'y', 'z': '{}'}}")
URLS = ('https://{}@github.com/x/y.git', 'https://jane:{}@host:8080/x',
        's3://{}:abc@bucket/key', 'redis://:{}@localhost/0',
        "dict(proxy='http://user:{}@proxy:3128')", '{}@cluster01:/data/coco')
AROUND = ('{}', '11/24 03:17:12 - mmengine - INFO - {}', '({})', '  {},\n',
          '로그 {} 끝', 'x\n{}\ny')


def secret_of(rng, alphabet, length):
    if isinstance(length, str):  # Parts, with a dot between them.
        parts = map(int, length.split('.'))
        return '.'.join(secret_of(rng, alphabet, part) for part in parts)
    return ''.join(rng.choice(alphabet) for _ in range(length))


def assert_hidden(secret, text):
    hidden = redact(text)
    assert secret not in hidden, hidden
    assert redact(hidden) == hidden


@pytest.mark.parametrize('around', AROUND)
@pytest.mark.parametrize('kind', SHAPES)
def test_a_token_is_known_by_its_shape(kind, around):
    rng = random.Random(kind + around)
    start, alphabet, length = SHAPES[kind]
    for _ in range(10):
        secret = secret_of(rng, alphabet, length)
        assert_hidden(secret, around.format(f'"{start}{secret}"'))


@pytest.mark.parametrize('around', AROUND)
@pytest.mark.parametrize('form', NAMED)
def test_a_secret_is_known_by_its_name(form, around):
    rng = random.Random(form + around)
    for length in range(3, 30, 3):
        secret = secret_of(rng, WORD + '-_.+/!$', length)
        secret = 'k' + secret + 'z'  # That it is no switch, option or call.
        assert_hidden(secret, around.format(form.format(secret)))


@pytest.mark.parametrize('around', AROUND)
@pytest.mark.parametrize('form', URLS)
def test_what_stands_before_the_host(form, around):
    rng = random.Random(form + around)
    for length in range(3, 30, 3):
        secret = secret_of(rng, WORD + '-_.+!$', length)
        text = around.format(form.format(secret))
        assert_hidden(secret, text)
    hidden = redact('https://u:p@ss/w@host/data')
    assert hidden == 'https://***@host/data'


def test_other_shapes():
    key = ('-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n'
           '-----END RSA PRIVATE KEY-----')
    assert redact(f'a {key} b') == 'a *** b'
    assert redact('by jane.doe@mail.example.org.') == 'by ***.'
    assert redact('Bearer eyJhbGci.eyJzdWIi.abc-_') == 'Bearer ***'


def absolute(*parts):
    return '/'.join(['', *parts])


# Of nobody: on Linux, on macOS, on Windows.
HOME = absolute('home', 'jane')
MAC = absolute('Users', 'jane')
WINDOWS = '\\'.join(['C:', 'Users', 'jane'])


@pytest.mark.parametrize('path', [
    f'{HOME}/x', f'{MAC}/x', rf'{WINDOWS}\x', rf'{WINDOWS}\x'.replace(
        '\\', r'\\'), f'C:{MAC}/x', f'"{HOME}"', f'{HOME}:/usr/lib',
    f'/nfs{HOME}/x', f'file://{HOME}/x', f'In {HOME}.',
    absolute('data', 'users', 'jane', 'x'),
    absolute('mnt', 'lustre', 'users', 'jane'),
    absolute('users', 'jane', 'a'),
    absolute('scratch', 'users', 'jane', 'coco')
])
def test_a_home_directory_and_its_owner_everywhere(path):
    hidden = redact(f'{path} and /data/jane/coco of jane, not janet')
    assert 'jane' not in hidden.replace('janet', '')
    assert hidden.endswith(' and /data/~/coco of ~, not janet')
    assert '~' in hidden.split(' and ')[0]


@pytest.mark.parametrize('path', [
    absolute('scratch', 'jane', 'x'),
    absolute('scratch', 'jane'),
    absolute('mnt', 'scratch', 'jane', 'x'),
    absolute('gpfs', 'scratch', 'jane'),
    absolute('scratch2', 'jane'),
    absolute('scratch-ssd', 'jane', 'x')
])
def test_a_user_on_the_disks_of_a_cluster(path):
    hidden = redact(f"data_root='{path}', coco/AP")
    assert 'jane' not in hidden and '~' in hidden
    # What is a word as well is not taken out everywhere.
    data = absolute('scratch', 'coco', 'val')
    assert redact(f'{data}, coco/AP') == '~/val, coco/AP'


def test_a_korean_home():
    home = HOME.replace('jane', '김철수')
    assert redact(f'{home}/실험/a.py, 김철수') == '~/실험/a.py, ~'


def test_the_own_user(monkeypatch):
    home = absolute('scratch', 'jane')
    monkeypatch.setenv('HOME', home)
    monkeypatch.setattr(getpass, 'getuser', lambda: 'jane')
    text = (f'{home}/x --a={home} /data/jane/y jane@host /data/janet '
            'janes.py')
    expected = '~/x --a=~ /data/~/y ~@host /data/janet janes.py'
    assert without_user(text) == redact(text) == expected


@pytest.mark.parametrize('home', ['/', ''])
def test_a_user_without_name_or_home(monkeypatch, home):
    """In a container, and then nothing else may be changed."""

    def fail():
        raise KeyError('getpwuid(): uid not found: 1234')

    monkeypatch.setattr(getpass, 'getuser', fail)
    monkeypatch.setattr(os.path, 'expanduser', lambda path: home)
    assert without_user('/data/x') == '/data/x'


def test_root_is_a_word(monkeypatch):
    monkeypatch.setattr(getpass, 'getuser', lambda: 'root')
    assert redact('dict(root=1, data_root=2)') == 'dict(root=1, data_root=2)'


@pytest.mark.parametrize('text', [
    'with_cls_token=False', 'use_auth: true', 'tokenizer=dict(type=Bert)',
    'lr=0.01, loss_kpt: 0.3', 'https://github.com/open-mmlab/mmpose@main',
    'a@b', 'hf_', '', 'sk-learn', 'Epoch(train) [1][4/4] author',
    'https://x.org/home/page', 'commit: 537bd8e5', 'PCK@0.1',
    'https://x.org/users/page', 'https://x.org/scratch/page', 'key=3',
    'task=1', 'disk: 3', 'sk_learn=1', 'mask: x', 'for key in x?y',
    'https://pre-commit.com/hooks/flake8', 'mmpose/engine/hooks/x_hook.py',
    'mmpose/engine/hooks/enhanced_tensorboard_hook.py', 'scratch/x',
    'glyphs-of-a-font-file', 'MODEL.backbone.layer1.conv1.weight',
    '12345678:91', 'AKIDA', 'if num_token == 3', "author='A, B and C'",
    "type='TopdownPoseEstimator'", 'SCTModel', "tokenizer=dict(type='PCT')",
    "token=dict(type='Embed', mode='x')", "tokenizer=dict(ckpt='a.pth')",
    "passes=['one']"
])
def test_what_is_left_alone(text):
    assert redact(text) == text


def test_configs_of_mmpose_stay_as_they_are():
    configs = sorted((Path(mmpose.__file__).parent / '.mim').rglob('*.py'))
    if not configs:
        pytest.skip('this MMPose has no .mim')
    changed = set()
    for config in configs:
        text = config.read_text(encoding='utf-8')
        changed |= set(text.splitlines()) - set(redact(text).splitlines())
    words = ('token', 'auth', 'key')
    assert not [
        line for line in changed if not any(w in line.lower() for w in words)
    ]
    assert len(changed) < 20, changed


@pytest.mark.parametrize(
    'word', ['x=1 ', 'token ', 'a', '-', 'token', "'", 'a.', '://', 'token="'])
def test_a_long_text_takes_no_time(word):
    begin = time.perf_counter()
    redact(word * (200000 // len(word)))
    assert time.perf_counter() - begin < 10
