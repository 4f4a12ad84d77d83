"""attributes.json: what is a table, what is not, and its columns."""

import json

import pytest
from hypothesis import given, strategies as st

from sarigan_plugin.datasets import attribute_table

def columns(names, *rows):
    images = {f'{index}.png': row for index, row in enumerate(rows)}
    return attribute_table.columns(attribute_table.parse(json.dumps(dict(names=names, images=images))))

@pytest.mark.parametrize('content, says', [
    ('{"names": ["a"', 'is not JSON (Expecting'),
    ('[1, 2]', 'must be an object with "names" and "images"'),
    ('{"names": ["a"]}', 'must be an object with "names" and "images"'),
    ('{"names": "ab", "images": {"0.png": "xy"}}', 'must have a list of texts for "names"'),
    ('{"names": [], "images": {"0.png": []}}', 'must have a list of texts for "names"'),
    ('{"names": [5, null], "images": {"0.png": [1, 2]}}', 'must have a list of texts for "names"'),
    ('{"names": ["a", "b", "a"], "images": {"0.png": [1, 2, 3]}}', "has two attributes of the name 'a'"),
    ('{"names": ["a"], "images": ["0.png"]}', 'must have an object for "images", with a list of values for each'),
    ('{"names": ["a"], "images": {}}', 'must have an object for "images", with a list of values for each'),
    ('{"names": ["a"], "images": {"0.png": [1], "1.png": [1, 2]}}',
        "must have a list of as many values as names for each image: '1.png' has another"),
    ('{"names": ["a"], "images": {"0.png": "x"}}',
        "must have a list of as many values as names for each image: '0.png' has another"),
    ('[' * 100000, 'is not JSON'),
])
def test_what_is_no_table_is_said(content, says):
    with pytest.raises(ValueError) as caught:
        attribute_table.parse(content.encode())
    assert str(caught.value).startswith(says)

@given(st.recursive(st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(['names', 'images', 'a']),
    lambda inner: st.lists(inner, max_size=3) | st.fixed_dictionaries(dict(names=inner, images=inner))
        | st.dictionaries(st.sampled_from('ab'), inner, max_size=2), max_leaves=8))
def test_any_json_is_a_table_or_one_sentence(content):
    try:
        table = attribute_table.parse(json.dumps(content).encode())
        assert len(attribute_table.columns(table).targets) == len(table.rows)
    except ValueError as error:
        assert str(error)

def test_a_column_tells_one_value_or_whether_an_attribute_is_there():
    found = columns(['hat', 'tie', 'on', 'name'], *[['cap' if index else 'none', None, index % 2, index]
        for index in range(21)])
    assert found.names == ['hat cap', 'hat none', 'tie None', 'on'] and found.of_each == ['hat', 'hat', 'tie', 'on']
    assert found.too_many == ['name'] and found.reworded == []
    assert found.targets[:3].tolist() == [[False, True, True, False], [True, False, True, True],
        [True, False, True, False]]

def test_zero_and_one_are_values_as_others_where_there_is_a_third_or_no_other():
    found = columns(['a', 'b', 'c'], ['0', '1', True], ['1', '1', 'True'], ['2', '1', 1])
    assert found.names == ['a 0', 'a 1', 'a 2', 'b 1', 'c 1', 'c True'] and found.reworded == []

def test_two_columns_of_one_name_are_refused():
    with pytest.raises(ValueError, match="^has 'a b c' for 'a' and for 'a b': rename one of the two$"):
        columns(['a', 'a b'], ['b c', 'c'], ['d', 'e'])

def test_images_may_be_left_out():
    table = attribute_table.parse(b'{"names": ["a"], "images": {"0.png": [1], "1.png": [0]}}')
    assert table.without(['0.png', 'other.png']).rows == {'1.png': [0]}
