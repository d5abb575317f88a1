# Copyright (c) OpenMMLab. All rights reserved.
import pytest

from mmpose.engine.monitors.core.whole_file import whole_file


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / 'entries.csv'
    path.write_text('old')
    with whole_file(str(path)) as file:
        file.write('관절\r\n')
        assert path.read_text() == 'old'
    assert path.read_bytes() == '관절\r\n'.encode()
    with whole_file(str(path), binary=True) as file:
        file.write(b'\x80')
    assert path.read_bytes() == b'\x80'


def test_a_file_that_cannot_be_written_whole_leaves_the_old_one(tmp_path):
    path = tmp_path / 'entries.json'
    path.write_text('old')
    with pytest.raises(OSError), whole_file(str(path)) as file:
        file.write('new')
        raise OSError('disk full')
    assert path.read_text() == 'old'
