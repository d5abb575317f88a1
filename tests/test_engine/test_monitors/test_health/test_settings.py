# Copyright (c) OpenMMLab. All rights reserved.
"""Settings that cannot be right, and others that look like them."""
import numpy as np
import pytest
import torch
from looking import Looking
from mmengine.optim.scheduler import LinearLR, MultiStepLR
from planted_errors import data_set_meta

from mmpose.datasets.transforms import TopdownAffine
from mmpose.engine.monitors.core.measurements import LocalizationErrors, Sides
from mmpose.engine.monitors.health.detectors.settings.keypoints import (
    KeypointInfoDetector, wrong_flips)
from mmpose.engine.monitors.health.detectors.validations.localization import \
    LeftRightDetector
from mmpose.engine.monitors.health.settings.check import check_settings
from mmpose.engine.monitors.health.settings.description import (DataSet,
                                                                Length,
                                                                Settings)
from mmpose.engine.monitors.health.settings.read_config import read_config

NAMES = ('nose', 'left_eye', 'right_eye', 'left_hip', 'right_hip')
SIZE = (192, 256)
CODEC = dict(
    type='MSRAHeatmap', input_size=SIZE, heatmap_size=(48, 64), sigma=2)
TORCHVISION = dict(type='Pretrained', checkpoint='torchvision://resnet50')
RGB = dict(
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True)


def meta(names=NAMES, **changes):
    """As MMPose parses it."""
    return dict(
        dict(
            dataset_name='mine',
            num_keypoints=len(names),
            keypoint_id2name=dict(enumerate(names)),
            flip_indices=[0, 2, 1, 4, 3],
            skeleton_links=[(0, 1), (0, 2)],
            dataset_keypoint_weights=np.ones(len(names)),
            sigmas=np.array([.026, .025, .025, .107, .107])), **changes)


def config(**changes):
    """A config in which nothing is wrong.

    Args:
        changes: By dotted keys with '__'.
    """

    def loader(ann_file, *encode):
        return dict(
            batch_size=64,
            dataset=dict(
                type='CocoDataset',
                data_root='data/',
                ann_file=ann_file,
                pipeline=[
                    dict(type='LoadImage'),
                    dict(type='TopdownAffine', input_size=SIZE), *encode
                ]))

    made = dict(
        model=dict(
            type='TopdownPoseEstimator',
            data_preprocessor=dict(type='PoseDataPreprocessor', **RGB),
            backbone=dict(type='ResNet', init_cfg=TORCHVISION),
            head=dict(type='HeatmapHead', out_channels=5, decoder=CODEC)),
        train_dataloader=loader('train.json',
                                dict(type='GenerateTarget', encoder=CODEC),
                                dict(type='RandomFlip')),
        val_dataloader=loader('val.json'),
        val_evaluator=dict(type='CocoMetric'),
        train_cfg=dict(by_epoch=True, max_epochs=210),
        param_scheduler=[],
        auto_scale_lr=dict(base_batch_size=64),
        custom_hooks=[dict(type='EMAHook', momentum=0.0002)])
    for key, value in changes.items():
        *parents, last = key.split('__')
        place = made
        for parent in parents:
            place = place[int(parent) if parent.isdigit() else parent]
        place[int(last) if last.isdigit() else last] = value
    return made


def found(train_meta=None, val_meta=None, length=None, processes=1, **changes):
    metas = dict(train=[train_meta or meta()], val=[val_meta or meta()])
    settings = read_config(
        config(**changes), metas, length or Length(iterations=21000),
        processes)
    return check_settings(settings)


def only(findings, name, *words):
    finding, = findings
    assert finding.name == name
    text = f'{finding.what} {finding.evidence} {finding.advice}'
    for word in words:
        assert word in text, text
    return finding


def test_nothing_is_wrong():
    assert found() == []
    assert check_settings(read_config({}, {})) == []


@pytest.mark.parametrize(
    'flips, words',
    [
        # Of one of a pair ``swap`` is missing.
        ([0, 2, 2, 4, 3], ('right_eye with itself, not with left_eye', )),
        ([0, 2, 1, 3, 4], ('2 keypoints', 'left_hip, right_hip')),
        ([1, 2, 0, 4, 3], ('left_eye', 'mine (train)')),
    ])
def test_swap_that_is_not_mutual(flips, words):
    only([f for f in found(meta(flip_indices=flips))], 'flip_indices', *words)


def test_names_without_a_side_must_be_mutual():
    names = ['kpt_1', 'kpt_2', 'kpt_3', 'kpt_4', 'kpt_5']
    wrong = meta(names, flip_indices=[0, 2, 2, 4, 3])
    only(found(wrong), 'flip_indices', 'kpt_3 with itself, not with kpt_2')
    assert not found(meta(names, flip_indices=[0, 2, 1, 4, 3]))


@pytest.mark.parametrize('left, right', [('left_eye', 'right_eye'),
                                         ('LEFT_EYE', 'RIGHT_EYE'),
                                         ('LeftEye', 'RightEye'),
                                         ('leftEye', 'rightEye'),
                                         ('LEye', 'REye'), ('eye_l', 'eye_r'),
                                         ('EyeLeft', 'EyeRight'),
                                         ('eyeL', 'eyeR')])
def test_sides_in_names_of_any_form(left, right):
    wrong = meta(['nose', left, right, 'a', 'b'], flip_indices=[0, 1, 2, 4, 3])
    only(found(wrong), 'flip_indices', f'{left} with itself, not with {right}')
    other = meta(['nose', left, right, left.lower(), 'b'])
    assert not any(f.name == 'flip_indices' for f in found(other))
    # Words that only look like it.
    names = ['Lip', 'Rip', 'brightSpot', 'bleftSpot', 'ALAR']
    assert not found(meta(names, flip_indices=[0, 1, 2, 3, 4]))


def test_flip_indices_are_judged_where_images_are_flipped():
    """Corners of a sign with text, say, which nobody flips."""
    names = [f'{a}_{b}' for a in ('top', 'low') for b in ('left', 'right')]
    wrong = meta([*names, 'left_a'], flip_indices=[0, 1, 2, 3, 4])
    flip = 'train_dataloader__dataset__pipeline__3'
    crop = dict(type='TopdownAffine', input_size=SIZE)
    assert not found(wrong, **{flip: crop})
    assert [f.name for f in found(wrong)] == ['flip_indices', 'keypoint_names']
    for changes in (dict(model__test_cfg=dict(flip_test=True)),
                    dict(custom_hooks=[
                        dict(
                            type='PipelineSwitchHook',
                            switch_pipeline=[dict(type='mmdet.RandomFlip')])
                    ])):
        assert found(wrong, **{flip: crop}, **changes)


def test_a_name_without_a_partner():
    names = ['nose', 'left_eye', 'right_eye', 'left_hip', 'right_hp']
    wrong = meta(names, flip_indices=[0, 2, 1, 3, 4])
    finding = found(wrong)
    only(finding, 'keypoint_names', 'left_hip', 'there is no right_hip')
    # Nothing is known of names of which none has a partner.
    names = ['left', 'kpt_2', 'kpt_3', 'kpt_4', 'kpt_5']
    assert not found(meta(names, flip_indices=[0, 2, 1, 4, 3]))


def test_a_name_that_is_there_twice():
    names = ['nose', 'eye', 'eye', 'left_hip', 'right_hip']
    wrong = meta(names, flip_indices=[0, 1, 2, 4, 3])
    only(found(wrong), 'keypoint_names', 'the same name', 'eye')


@pytest.mark.parametrize('link', [(0, 5), (1, 1), (-1, 2)])
def test_a_link_to_nowhere(link):
    wrong = meta(skeleton_links=[(0, 1), link])
    only(found(wrong), 'skeleton_links', str(link), '5 keypoints')


@pytest.mark.parametrize(
    'sigmas, words',
    [
        ([], ('It has none', )),
        ([.1] * 4, ('4 sigmas and 5 keypoints', )),
        ([.1, .2, 0, .1, -1], ('2 of 5', 'right_eye 0, right_hip -1')),
        ([.05] * 5, ('All 5 are 0.05', )),
        # Percent: every prediction would be right.
        ([2.6, 2.5, 2.5, 10.7, 10.6], ('left_hip, is 10.7', )),
    ])
def test_sigmas(sigmas, words):
    wrong = meta(sigmas=np.array(sigmas))
    only(found(val_meta=wrong), 'sigmas', 'mine (val)', *words)
    # Another metric does not read them.
    assert not found(val_meta=wrong, val_evaluator=dict(type='PCKAccuracy'))


def test_numbers_of_keypoints():
    only(
        found(model__head__out_channels=17), 'keypoint_count',
        'HeatmapHead: 17', 'mine (train): 5')
    wrong = meta(dataset_keypoint_weights=np.ones(4))
    only(found(wrong), 'keypoint_count', 'joint_weights of mine (train): 4')


def test_a_converter_may_change_the_number():
    converter = dict(type='KeypointConverter', num_keypoints=17, mapping=[])
    cfg = config(model__head__out_channels=17)
    for loader in ('train_dataloader', 'val_dataloader'):
        cfg[loader]['dataset']['pipeline'].insert(0, converter)
    metas = dict(train=[meta()], val=[meta()])
    assert check_settings(read_config(cfg, metas)) == []
    converter['num_keypoints'] = 16
    assert 'mine (train): 16' in check_settings(read_config(cfg,
                                                            metas))[0].evidence


def test_of_combined_data_sets_the_leaves_count():
    cfg = config()
    inner = cfg['train_dataloader']['dataset']
    cfg['train_dataloader']['dataset'] = dict(
        type='RepeatDataset',
        times=2,
        dataset=dict(type='CombinedDataset', datasets=[inner,
                                                       dict(inner)]))
    wrong = meta(
        NAMES[:3],
        dataset_name='small',
        flip_indices=[0, 2, 1],
        sigmas=np.ones(3))
    metas = dict(train=[meta(), meta(), meta(), wrong], val=[meta()])
    only(
        check_settings(read_config(cfg, metas)), 'keypoint_count',
        'mine (train): 5', 'small (train): 3')


@pytest.mark.parametrize('key', [
    'val_dataloader__dataset__pipeline__1__input_size',
    'train_dataloader__dataset__pipeline__1__input_size',
    'model__head__input_size'
])
def test_sizes_of_the_input(key):
    only(found(**{key: (256, 192)}), 'input_size', '256x192', '192x256')


def test_size_of_the_codec():
    other = dict(CODEC, input_size=(288, 384))
    only(
        found(model__head__decoder=other), 'input_size',
        '288x384: decoder MSRAHeatmap')


def test_a_pipeline_that_a_hook_switches_to():
    second = [dict(type='TopdownAffine', input_size=(128, 128))]
    hook = dict(type='mmdet.PipelineSwitchHook', switch_pipeline=second)
    only(
        found(custom_hooks=[hook]), 'input_size',
        '128x128: TopdownAffine of train of PipelineSwitchHook')


@pytest.mark.parametrize(
    'kind', [TopdownAffine, 'mmpose.datasets.transforms.TopdownAffine'])
def test_classes_in_the_place_of_names(kind):
    """As in the configs that are pure Python, and as these are read."""
    other = dict(type=kind, input_size=(256, 192))
    only(
        found(val_dataloader__dataset__pipeline__1=other), 'input_size',
        '256x192: TopdownAffine of val')


def test_udp():
    key = 'val_dataloader__dataset__pipeline__1__use_udp'
    finding = only(
        found(**{key: True}), 'use_udp', 'with UDP: TopdownAffine of val',
        'without UDP: TopdownAffine of train')
    assert finding.severity == 'warning'
    udp = dict(CODEC, type='UDPHeatmap')
    encoder = 'train_dataloader__dataset__pipeline__2__encoder'
    finding = only(
        found(**{
            encoder: udp,
            'model__head__decoder': udp
        }), 'use_udp', 'with UDP: decoder UDPHeatmap')
    assert finding.severity == 'note'


def test_another_codec():
    other = dict(CODEC, heatmap_size=(96, 128))
    only(
        found(model__head__decoder=other), 'codec_differs',
        'MSRAHeatmap 48x64', 'MSRAHeatmap 96x128')
    # Of SimCC, the split ratio is the size of the output.
    simcc = dict(type='SimCCLabel', input_size=SIZE, sigma=6.)
    half = dict(simcc, simcc_split_ratio=1.)
    encoder = 'train_dataloader__dataset__pipeline__2__encoder'
    only(
        found(**{
            encoder: simcc,
            'model__head__decoder': half
        }), 'codec_differs', '192x256, simcc_split_ratio=2.0',
        '192x256, simcc_split_ratio=1.0')
    assert not found(**{
        encoder: simcc,
        'model__head__decoder': dict(simcc, simcc_split_ratio=2)
    })
    # That of a head which predicts visibility is in another one.
    visible = dict(
        type='VisPredictHead',
        pose_cfg=dict(out_channels=5, decoder=dict(other)))
    only(found(model__head=visible), 'codec_differs', 'MSRAHeatmap 96x128')
    # As MSPN, which is decoded from the last of several.
    encoder = 'train_dataloader__dataset__pipeline__2__encoder'
    assert not found(**{encoder: [other, CODEC]})


WARM_UP = dict(
    type='LinearLR', begin=0, end=500, start_factor=0.001, by_epoch=False)
STEPS = dict(
    type='MultiStepLR', begin=0, end=210, milestones=[170, 200], by_epoch=True)


def rates(schedule, total, **length):
    """The learning rates of each step, as MMEngine computes them."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.)
    arguments = {k: v for k, v in schedule.items() if k != 'type'}
    kind = dict(LinearLR=LinearLR, MultiStepLR=MultiStepLR)[schedule['type']]
    made = kind(optimizer, **arguments)
    values = []
    for _ in range(total):
        values.append(optimizer.param_groups[0]['lr'])
        made.step()
    return values


@pytest.mark.parametrize('total, wrong', [(120, True), (500, False)])
def test_warm_up_beyond_the_end(total, wrong):
    """The learning rate that is named is MMEngine's at the end."""
    findings = found(
        length=Length(iterations=total), param_scheduler=[WARM_UP])
    highest = max(rates(WARM_UP, total))
    assert (highest < 0.99) is wrong
    if wrong:
        only(findings, 'warm_up_too_long', 'iteration 500', '120 iterations',
             f'{highest:.0%} of its value')
    else:
        assert not findings


@pytest.mark.parametrize('epochs', [171, 200, 201, 210])
def test_milestones_that_never_come(epochs):
    findings = found(
        train_cfg__max_epochs=epochs, param_scheduler=[dict(STEPS)])
    lowered = sum(np.diff(rates(STEPS, epochs)) < 0)
    if lowered == 2:
        assert not findings
    else:
        only(findings, 'milestone_too_late', f'{2 - lowered} of 2 milestones',
             f'{epochs} epochs')


def test_units_of_schedules():
    """Iterations that are taken for epochs; what no length is known of."""
    by_epoch = dict(WARM_UP, by_epoch=True)
    only(
        found(param_scheduler=[by_epoch]), 'warm_up_too_long', 'epoch 500',
        'set by_epoch=False')
    converted = dict(STEPS, convert_to_iter_based=True)
    assert not found(param_scheduler=[converted])
    metas = dict(train=[meta()], val=[meta()])
    unknown = read_config(config(param_scheduler=[WARM_UP]), metas)
    assert check_settings(unknown) == []
    iterations = dict(STEPS, by_epoch=False, milestones=[900, 1100], end=1000)
    # ``end`` comes first.
    assert not found(
        length=Length(None, 1000),
        train_cfg=dict(by_epoch=False, max_iters=1000),
        param_scheduler=[iterations])
    of_several = dict(head=[WARM_UP], backbone=[dict(STEPS)])
    only(
        found(length=Length(210, 120), param_scheduler=of_several),
        'warm_up_too_long')


def test_a_schedule_by_epoch_of_iterations():
    """It never makes a step, since no epoch ends."""
    slow = dict(WARM_UP, by_epoch=True, end=5)
    plateau = dict(type='ReduceOnPlateauLR', monitor='coco/AP')
    changes = dict(
        length=Length(None, 9000), train_cfg=dict(type='IterBasedTrainLoop'))
    only(
        found(param_scheduler=[slow, dict(STEPS), plateau],
              **changes), 'schedule_by_epoch', 'LinearLR, MultiStepLR with',
        '9,000 iterations', 'stays at 0.001 of')
    converted = dict(slow, convert_to_iter_based=True)
    assert not found(param_scheduler=[WARM_UP, plateau, converted], **changes)


@pytest.mark.parametrize('schedule, name, words', [
    (dict(type='StepLR', step_size=70), 'milestone_too_late', 'step_size'),
    (dict(type='OneCycleLR',
          total_steps=61), 'schedule_cut_off', 'Give total_steps'),
    (dict(type='CosineRestartLR',
          periods=[20, 41]), 'schedule_cut_off', 'Give periods'),
])
def test_other_schedules_that_are_too_long(schedule, name, words):
    found_at = {
        epochs:
        found(train_cfg__max_epochs=epochs, param_scheduler=[schedule])
        for epochs in (60, 71)
    }
    only(found_at[60], name, words, '60 epochs')
    assert not found_at[71]


def test_a_decay_that_goes_on_is_a_note():
    cosine = dict(type='CosineAnnealingLR', begin=135, end=270, by_epoch=True)
    finding = only(
        found(train_cfg__max_epochs=60, param_scheduler=[cosine]),
        'schedule_cut_off', 'It never begins', '60 epochs')
    assert finding.severity == 'note'
    assert not found(
        train_cfg__max_epochs=210,
        param_scheduler=[dict(cosine, begin=105, T_max=105)])


@pytest.mark.parametrize('processes, base, factor', [(1, 512, '0.125'),
                                                     (8, 64, '8')])
def test_batch_size(processes, base, factor):
    auto = dict(base_batch_size=base)
    finding = only(
        found(processes=processes, auto_scale_lr=auto), 'batch_size',
        f'{64 * processes} samples', f'{base}', f'by {factor},')
    assert finding.severity == 'note'
    assert not found(auto_scale_lr=dict(auto, enable=True))
    # Accumulated gradients count.
    assert not found(
        auto_scale_lr=dict(base_batch_size=512),
        optim_wrapper=dict(accumulative_counts=8))


def test_the_other_momentum():
    hook = dict(type='EMAHook', momentum=0.9998)
    only(found(custom_hooks=[hook]), 'ema_momentum', '0.9998', 'to 0.0002')


def test_same_annotations():
    key = 'val_dataloader__dataset__ann_file'
    only(found(**{key: './train.json'}), 'same_annotations', 'data/train.json')
    # Another part of the same file.
    assert not found(**{
        key: 'train.json',
        'val_dataloader__dataset__indices': [1, 2]
    })


@pytest.mark.parametrize('changes, words', [
    (dict(bgr_to_rgb=False), ('order RGB', 'order BGR', 'torchvision://')),
    (dict(mean=RGB['mean'][::-1]), ('order BGR, and the channels', )),
    (dict(mean=RGB['mean'][::-1], bgr_to_rgb=False),
     ('the backbone expects RGB', )),
    (dict(mean=[.485, .456, .406], std=[.229, .224, .225]),
     ('0 to 1', '0 to 255')),
    (dict(mean=[], std=[]), ('not normalized as the backbone', )),
])
def test_channels(changes, words):
    preprocessor = dict(RGB, **changes)
    only(found(model__data_preprocessor=preprocessor), 'normalization', *words)


def test_settings_that_stand_in_other_places():
    """As MMEngine reads them."""
    given = config()
    given['data_preprocessor'] = dict(RGB, bgr_to_rgb=False)
    del given['model']['data_preprocessor']
    metas = dict(train=[meta()], val=[meta()])
    only(check_settings(read_config(given, metas)), 'normalization')
    ema = dict(default_hooks=dict(ema=dict(type='EMAHook', momentum=.999)))
    only(check_settings(read_config(ema, {})), 'ema_momentum')
    grouped = dict(type='Evaluator', metrics=[dict(type='mmpose.CocoMetric')])
    only(
        found(val_meta=meta(sigmas=[.1] * 5), val_evaluator=grouped), 'sigmas')
    whole = dict(
        model__init_cfg=TORCHVISION,
        model__backbone={},
        model__data_preprocessor={})
    only(found(**whole), 'normalization')


def test_channels_of_a_backbone_that_nobody_knows():
    """YOLOX's was trained on BGR; other values may be right."""
    yolox = dict(
        type='Pretrained',
        checkpoint='https://download.openmmlab.com/mmpose/v1/'
        'pretrained_models/yolox_m_8x8_300e_coco_20230829.pth')
    plain = dict(mean=[0, 0, 0], std=[1, 1, 1])
    assert not found(
        model__data_preprocessor=plain, model__backbone__init_cfg=yolox)
    assert not found(
        model__data_preprocessor=plain, model__backbone__init_cfg=None)
    caffe = dict(mean=[103.53, 116.28, 123.675], bgr_to_rgb=False)
    assert not found(
        model__data_preprocessor=caffe, model__backbone__init_cfg=None)


def test_what_follows_from_wrong_flip_indices_is_not_named():
    names = ('nose', 'left_knee', 'right_knee')
    sides = (Sides(names[1:], 900, 300, 400), )
    for flips, expected in (([0, 1, 2], 'flip_indices'),
                            ([0, 2, 1], 'left_right_exchanged')):
        data_set = DataSet(
            'train', 'CocoDataset',
            dict(
                num_keypoints=3,
                keypoint_id2name=dict(enumerate(names)),
                flip_indices=flips))
        looking = Looking([KeypointInfoDetector(), LeftRightDetector()], None)
        looking.see(1, Settings((data_set, )))
        for step in range(3):
            finding = looking.see(step, LocalizationErrors({}, sides))
        assert [f.name for f in finding] == [expected]


@pytest.mark.parametrize('name', ['coco', 'crowdpose', 'mpii'])
def test_names_and_flip_indices_of_mmpose_agree(name):
    assert not wrong_flips(DataSet('train', '', data_set_meta(name)))
