"""Class labels of pictures: the folders that they are in, or a dataset.json in upstream's format beside them."""

import json
import unicodedata
from dataclasses import dataclass

from sarigan_plugin.datasets.listing import NUM_CLASSES, is_label_like
from sarigan_plugin.datasets.picture_conversion import Refused

KINDS = ('auto', 'folders', 'json', 'none')

NO_FOLDER = 'in no class folder'
NO_LABEL  = 'without a label in dataset.json'

@dataclass
class Labels:
    """What is known of pictures."""
    of:      dict           # {name of a picture: class, list of numbers, or name of a class}
    missing: Refused        # Of other pictures.
    names:   list = None    # What classes are called, in a dataset.json that says so, as ours do.
    unused:  list = ()      # Names in dataset.json that no file has.

    def get(self, name):
        """The label of a picture. Raises Refused where it has none."""
        label = self.of.get(key(name))
        if label is None:
            raise self.missing
        return label

def read(source, kind):
    """The Labels of the pictures of a source, or None.

    kind: one of KINDS; 'auto' is 'json' where there is one with labels. Raises ValueError, with one sentence.
    """
    names = [name for name, _picture in source.pictures]
    if kind == 'folders':
        return _of_folders(names)
    if kind == 'none' or (kind == 'auto' and source.labels is None):
        return None
    if source.labels is None:
        raise ValueError('--labels=json needs a dataset.json beside the pictures: SRC has none.')
    content = _read_json(source.labels)
    if content['labels'] is None and kind == 'auto':
        return None
    return _of_json(content, names, [name for name, _refused in source.left_out])

def _of_folders(names):
    labels = Labels({key(name): name.partition('/')[0] for name in names if '/' in name}, Refused(NO_FOLDER))
    classes = sorted(set(labels.of.values()))
    if len(classes) < 2:
        found = f'all pictures are in one, {classes[0]}' if classes else 'there are none'
        raise ValueError(f'--labels=folders takes the folders right below SRC for classes, and {found}: '
            'give the folder that holds the folders of classes, or leave --labels out.')
    return labels

def key(name):
    """A name as it is compared: with slashes, and one form of letters with accents, of which Macs have their own."""
    return unicodedata.normalize('NFC', name.replace('\\', '/')).removeprefix('./')

#----------------------------------------------------------------------------
# dataset.json

WAY_OUT = '; correct it, or give --labels=none.'

def _read_json(picture):
    try:
        with picture.load() as stream:
            content = json.loads(stream.read().decode('utf-8-sig'))
    except (Refused, AttributeError) as error: # A link in a tar has no load().
        raise ValueError(f'dataset.json cannot be read: {error}{WAY_OUT}') from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f'dataset.json is not JSON ({error}){WAY_OUT}') from None
    if not isinstance(content, dict) or 'labels' not in content:
        raise ValueError(f'dataset.json must be an object with a key "labels"{WAY_OUT}')
    return content

def _of_json(content, names, left_out):
    """Labels of {"labels": [[name, class or list of numbers], ...]}."""
    pairs = content['labels']
    is_pair = lambda pair: isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)
    if not isinstance(pairs, list) or not all(map(is_pair, pairs)):
        raise ValueError(f'"labels" in dataset.json must be a list of [file name, label] pairs{WAY_OUT}')
    labels = {key(name): label for name, label in pairs}
    _refuse_if('has two different labels for', [name for name, label in pairs if labels[key(name)] != label])
    _check_values(pairs)
    found = {key(name) for name in names}
    if not found & labels.keys():
        raise ValueError(f'dataset.json has labels for none of the pictures: it names {some(list(labels), 1)}, '
            f'they are called {some(names, 1)}{WAY_OUT}')
    known = found | {key(name) for name in left_out}
    class_names = content.get('label_names')
    if not (isinstance(class_names, list) and all(isinstance(name, str) for name in class_names)):
        class_names = None
    return Labels(labels, Refused(NO_LABEL), class_names, [name for name, _label in pairs if key(name) not in known])

def _check_values(pairs):
    first_name, first = pairs[0] if pairs else ('', 0)
    if isinstance(first, list):
        kind = f'{len(first)} numbers, as {first_name} has'
    else:
        kind = f'a class, an integer from 0 to {NUM_CLASSES - 1}'
    good = is_label_like(first)
    wrong = [f'{name} (not {shown(json.dumps(label))})' for name, label in pairs if not good(label)]
    _refuse_if(f'must have {kind}, for', wrong)

def _refuse_if(fault, names):
    """Raise ValueError about names in dataset.json, if there are any."""
    if names:
        raise ValueError(f'dataset.json {fault} {some(names)}{WAY_OUT}')

def some(names, most=5):
    """Names for a sentence: the first ones, and how many more."""
    more = len(names) - most
    return ', '.join(map(shown, names[:most])) + (f' and {more:,} more' if more > 0 and most > 1 else '')

def shown(text):
    """A name as a terminal can show it: short, and with nothing in it that would steer a terminal."""
    text = ''.join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return text if len(text) <= 60 else text[:57] + '...'

#----------------------------------------------------------------------------
