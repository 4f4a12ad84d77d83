"""Network pickles read without running anything that is in them.

A pickle is a program for a small machine with a stack, and the usual machine calls whatever function the program names;
StyleGAN's pickles moreover bring the source of their classes along, which is executed. The machine here knows the
instructions that network pickles use and, instead of functions, the ten names below: what these stand for keeps a
record or makes a tensor. The records then become networks of our installed code, see rebuild.py.

Memory and time are in proportion to the size of the file.
"""

import collections
import io
import pickletools
import struct

import numpy as np
import torch

from sarigan_plugin.model import networks
from sarigan_plugin.snapshots import label_kind, rebuild, stylegan2_of_stylegan3

import dnnlib

MAX_INSTRUCTIONS = 500_000 # The pickle of a SariGAN for 256x256 has 44,000.

#----------------------------------------------------------------------------

class ForeignCode(ValueError):
    """The file would need code that is not ours or upstream's."""

def read(data):
    """The networks in a pickle as upstream's training loop writes it.

    data: bytes of the file. Returns a dict of G, D, G_ema, augment_pipe and training_set_kwargs; all but G_ema may be
    None. A generator that was pickled alone is G_ema.
    Raises ForeignCode, ValueError, or any other Exception that a broken file leads to.
    """
    bytes_left = [len(data)] # A storage may be named many times and would be loaded as often.
    def load_storage(storage):
        bytes_left[0] -= len(storage)
        if bytes_left[0] < 0:
            raise ValueError('its tensors are larger than the file')
        return _load_storage(storage)

    content = _run(io.BytesIO(data), {**_NAMES, _LOAD_FROM_BYTES: load_storage})
    content = dict(G_ema=content) if isinstance(content, _Record) else _expect(content, dict)
    known = dict() # id of a record -> the network made of it, as G may be G_ema.

    def network(name, class_name, *classes):
        record = content.get(name)
        if record is None and name != 'G_ema':
            return None
        if record is None:
            raise ValueError(f'it has no {name}')
        if not isinstance(record, _Record):
            raise ValueError(f'its {name} is {_kind(record)}')
        if record.class_name != class_name:
            raise ForeignCode(f'its {name} is {_kind(record)}')
        if id(record) not in known:
            known[id(record)] = _network(record, classes, len(data))
        return known[id(record)]

    networks = dict(training_set_kwargs=rebuild.plain_dataset(content.get('training_set_kwargs')))
    for name in ['G', 'D', 'G_ema']:
        networks[name] = network(name, *(_DISCRIMINATOR if name == 'D' else _GENERATOR))
    networks['augment_pipe'] = network('augment_pipe', *_PIPE)
    return networks

#----------------------------------------------------------------------------
# From records to networks.

# What the pickle calls the class, and our classes of the same name: upstream's, SariGAN's,
# and SariGAN's for inpainting.
_GENERATOR = ('Generator', 'training.networks.Generator', 'sarigan_plugin.networks.Generator',
    'sarigan_plugin.inpainting.Generator')
_DISCRIMINATOR = ('Discriminator', 'training.networks.Discriminator', 'sarigan_plugin.networks.Discriminator',
    'sarigan_plugin.inpainting.Discriminator')
_PIPE = ('AugmentPipe', 'training.augment.AugmentPipe')

class _Record:
    """A persistent object of the pickle: what its class is called, and its state."""
    def __init__(self, meta):
        if (type(meta) is not dict or meta.get('type') != 'class' or type(meta.get('class_name')) is not str
                or type(meta.get('state')) is not dict):
            raise ValueError('an object in it has no class or no state')
        self.class_name = meta['class_name']
        self.state = meta['state']

    def part(self, name):
        """_modules, _parameters or _buffers, without those that are None."""
        found = self.state.get(name, {})
        if not isinstance(found, dict):
            raise ValueError(f'the {name[1:]} of an object in it are no dict')
        return {key: value for key, value in found.items() if value is not None}

def _class_index(record):
    """Whose the class is, by what only its networks have."""
    modules = record.part('_modules')
    inner = modules.get('synthesis')
    if 'trunk' in modules or (isinstance(inner, _Record) and 'encoder' in inner.part('_modules')):
        return 2
    return 1 if 'code_dim' in record.state or 'q' in modules else 0

def _is_of_stylegan3(record):
    """Whether a network was made by stylegan3's code."""
    children = [child for child in record.part('_modules').values() if isinstance(child, _Record)]
    return stylegan2_of_stylegan3.MARK in record.state or any(map(_is_of_stylegan3, children))

def _network(record, classes, file_size):
    kwargs, other_attributes = record.state.get('_init_kwargs'), ()
    if len(classes) > 1 and isinstance(kwargs, dict) and _is_of_stylegan3(record): # There is one AugmentPipe.
        kwargs = stylegan2_of_stylegan3.arguments(record.class_name, kwargs)
        other_attributes = stylegan2_of_stylegan3.MORE_ATTRIBUTES
    class_name = classes[min(_class_index(record), len(classes) - 1)]
    if isinstance(kwargs, dict):
        try:
            networks.drop_retired(dict(kwargs))
        except ValueError as error: # The code in the pickle can still do it.
            raise ForeignCode(str(error)) from None
    try:
        network = rebuild.construct(class_name, record.state.get('_init_args'), kwargs, file_size)
    except TypeError as error: # Arguments that our class doesn't take.
        raise ForeignCode(str(error)) from None
    tensors, wanted_gradients = dict(), []
    _collect(record, network, '', tensors, wanted_gradients, other_attributes)
    rebuild.fill(network, tensors)
    label_kind.remember(network, label_kind.known(record.state.get(label_kind.ATTRIBUTE)))
    for name in wanted_gradients:
        network.get_parameter(name).requires_grad_(True)
    return network.train(record.state.get('training') is True)

def _collect(record, module, prefix, tensors, wanted_gradients, other_attributes):
    """Put the record's tensors into `tensors`, if it has the structure of `module`. Raises ForeignCode where it hasn't.

    other_attributes: names of those that may be in the record alone.
    """
    if not isinstance(record, _Record) or record.class_name != type(module).__name__:
        raise ForeignCode(f'{prefix[:-1] or "a network"} is {_kind(record)} where ours is {type(module).__name__}')
    for name, value in record.state.items():
        if name in other_attributes and not hasattr(module, name):
            continue
        ours = getattr(module, name, RETIRED_ATTRIBUTES.get(name, _MISSING))
        if not name.startswith('_') and name != 'training' and not _is_same(value, ours):
            raise ForeignCode(f'{prefix}{name} is {_shown(value)}, and ours {_shown(ours)}')
    for name, value in [*record.part('_parameters').items(), *record.part('_buffers').items()]:
        if type(value) not in (torch.Tensor, torch.nn.Parameter) or type(name) is not str:
            raise ValueError(f'{prefix}{rebuild.shorten(name)} is no tensor')
        tensors[prefix + name] = value
        if value.requires_grad:
            wanted_gradients.append(prefix + name)
    children = record.part('_modules')
    ours = dict(module.named_children())
    if set(children) != set(ours):
        name = min(set(children) ^ set(ours), key=str)
        raise ForeignCode(f'{prefix}{name} is in {"ours" if name in ours else "it"} alone')
    for name, child in ours.items():
        _collect(children[name], child, f'{prefix}{name}.', tensors, wanted_gradients, other_attributes)

_MISSING = object()
# Layers of earlier versions have them.
RETIRED_ATTRIBUTES = dict(norm_channels=networks.RETIRED['norm_channels'], norm_eps=networks.RETIRED['norm_eps'],
    q_log_variance=None)

def _is_same(theirs, ours):
    """Whether a plain attribute is what our constructor made of it:
    otherwise the class behind the record is another one."""
    return type(theirs) in (int, float, str, bool, type(None), list, tuple, dict, dnnlib.EasyDict) and theirs == ours

def _shown(value):
    if value is _MISSING:
        return 'has none'
    return rebuild.shorten(value) if isinstance(value, (int, float, str, type(None))) else type(value).__name__

def _kind(record):
    return (f'of the class {rebuild.shorten(record.class_name)}' if isinstance(record, _Record)
        else f'of the type {type(record).__name__}')

#----------------------------------------------------------------------------
# What the names in a pickle stand for.

_Name = collections.namedtuple('_Name', 'module name')

class _Dtype:
    """numpy.dtype, of plain numbers."""
    def __init__(self, code, _align=False, _copy=True):
        if code not in ('f2', 'f4', 'f8', 'i1', 'i2', 'i4', 'i8', 'u1', 'b1'):
            raise ForeignCode(f'it has numpy numbers of the type {rebuild.shorten(code)}')
        self.code = code

def _strings(items):
    return {_expect(item, str) for item in items}

def _scalar(dtype, data):
    return np.frombuffer(data, dtype=f'<{dtype.code}', count=1)[0].item()

def _rebuild_tensor(storage, offset, size, stride, _requires_grad, _hooks):
    """A view of a storage, which is a tensor here.

    No element is in it twice, so that it can't be larger than the file.
    """
    if type(storage) is not torch.Tensor or len(size) != len(stride) or not all(type(n) is int and 0 <= n < 2 ** 40
            for n in (offset, *size, *stride)):
        raise ValueError('a tensor in it has no sensible shape')
    if 0 in size:
        return storage.new_empty(size)
    reach = 1 # How far the dimensions so far extend, with the smallest stride first.
    for length, step in sorted(((n, s) for n, s in zip(size, stride) if n > 1), key=lambda pair: pair[1]):
        if step < reach:
            raise ValueError('a tensor in it overlaps with itself')
        reach = step * (length - 1) + reach
    if offset + reach > len(storage):
        raise ValueError('a tensor in it is longer than its data')
    return storage.as_strided(size, stride, offset)

def _rebuild_parameter(tensor, requires_grad, _hooks):
    return torch.nn.Parameter(tensor, requires_grad=requires_grad is True)

_STORAGES = {_Name('torch', f'{name}Storage'): dtype
    for name, dtype in dict(Float=torch.float32, Double=torch.float64, Half=torch.float16,
    BFloat16=torch.bfloat16, Long=torch.int64, Int=torch.int32, Short=torch.int16, Char=torch.int8, Byte=torch.uint8,
    Bool=torch.bool).items()}

def _load_storage(data):
    """A storage as torch.save() writes it inside of pickles, in its old format: five small pickles, a length,
    the numbers.

    torch.load() would run a pickle of its own here, and before release 2.6 it could be tricked even with
    weights_only=True.
    """
    file = io.BytesIO(data)
    _magic, version, system, storage, _keys = [_run(file, _STORAGES, max_instructions=1000) for _part in range(5)]
    if version != 1001 or system.get('little_endian') is not True:
        raise ValueError('a tensor in it is in an unknown format')
    kind, name, _key, _device, count, *_view = storage
    if kind != 'storage' or name not in _STORAGES or type(count) is not int:
        raise ValueError('a tensor in it has no storage')
    dtype = _STORAGES[name]
    stored, = struct.unpack('<q', file.read(8))
    numbers = bytearray(memoryview(data)[file.tell():])
    if not stored == count == len(numbers) // dtype.itemsize:
        raise ValueError('a tensor in it is cut off')
    return torch.frombuffer(numbers, dtype=dtype, count=count) if count > 0 else torch.empty(0, dtype=dtype)

_LOAD_FROM_BYTES = _Name('torch.storage', '_load_from_bytes')
_NAMES = {_Name(*key.split(' ')): function for key, function in {
    'torch_utils.persistence _reconstruct_persistent_obj': _Record,
    # Without arguments: items come one by one and are looked at.
    'dnnlib.util EasyDict':             lambda: dnnlib.EasyDict(),
    'collections OrderedDict':          lambda: {},
    'builtins set':                     _strings,
    'torch._utils _rebuild_tensor_v2':  _rebuild_tensor,
    'torch._utils _rebuild_parameter':  _rebuild_parameter,
    'numpy dtype':                      _Dtype,
    'numpy.core.multiarray scalar':     _scalar,
    'numpy._core.multiarray scalar':    _scalar,
}.items()}

#----------------------------------------------------------------------------
# The machine.

_CONSTANTS = dict(NONE=None, NEWTRUE=True, NEWFALSE=False)
_LITERALS = ('BININT', 'BININT1', 'BININT2', 'LONG1', 'LONG4', 'BINFLOAT', 'SHORT_BINUNICODE',
    'BINUNICODE', 'BINUNICODE8',
    'SHORT_BINBYTES', 'BINBYTES', 'BINBYTES8')
_EMPTY = dict(EMPTY_DICT=dict, EMPTY_LIST=list, EMPTY_TUPLE=tuple, EMPTY_SET=set)

def _run(file, names, max_instructions=MAX_INSTRUCTIONS):
    """Run the next pickle in a file of bytes and return what it leaves.

    names: {_Name: function or anything else to know}.
    """
    stack, marks, memo = [], [], dict()

    def since_mark():
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    for count, (instruction, arg, _position) in enumerate(pickletools.genops(file)):
        op = instruction.name
        if count >= max_instructions:
            raise ValueError('it has more instructions than a network needs')
        if op in _LITERALS:
            stack.append(arg)
        elif op in _CONSTANTS:
            stack.append(_CONSTANTS[op])
        elif op in _EMPTY:
            stack.append(_EMPTY[op]())
        elif op == 'MARK':
            marks.append(len(stack))
        elif op in ('MEMOIZE', 'BINPUT', 'LONG_BINPUT'):
            memo[len(memo) if op == 'MEMOIZE' else arg] = stack[-1]
        elif op in ('BINGET', 'LONG_BINGET'):
            stack.append(memo[arg])
        elif op in ('TUPLE1', 'TUPLE2', 'TUPLE3'):
            length = int(op[-1])
            stack[-length:] = [tuple(stack[-length:])]
        elif op == 'TUPLE':
            stack.append(tuple(since_mark()))
        elif op in ('SETITEM', 'SETITEMS'):
            items = since_mark() if op == 'SETITEMS' else [stack.pop(-2), stack.pop()]
            _set_items(stack[-1], items)
        elif op in ('APPEND', 'APPENDS'):
            items = since_mark() if op == 'APPENDS' else [stack.pop()]
            _expect(stack[-1], list).extend(items)
        elif op == 'ADDITEMS':
            items = since_mark()
            _expect(stack[-1], set).update(_strings(items))
        elif op in ('GLOBAL', 'STACK_GLOBAL'):
            stack.append(_look_up(arg.split(' ', maxsplit=1) if op == 'GLOBAL'
                else [stack.pop(-2), stack.pop()], names))
        elif op in ('REDUCE', 'NEWOBJ'):
            args = _expect(stack.pop(), tuple)
            function = names[_expect(stack.pop(), _Name)]
            stack.append(function(*args))
        elif op == 'BUILD':
            state = stack.pop()
            if type(stack[-1]) is not _Dtype or state[1] not in ('<', '|'):
                raise ValueError('it sets the state of something that has none')
        elif op == 'BINPERSID':
            pass # The tuple on the stack says which storage it is.
        elif op == 'STOP':
            return stack.pop()
        elif op not in ('PROTO', 'FRAME'):
            raise ValueError(f'the instruction {op} is none that networks need')
    raise ValueError('it has no end')

def _expect(value, kind):
    if type(value) is not kind:
        raise ValueError(f'{type(value).__name__.strip("_")} stands where {kind.__name__.strip("_")} belongs')
    return value

def _set_items(target, items):
    if type(target) not in (dict, dnnlib.EasyDict) or len(items) % 2 != 0:
        raise ValueError('a key or a dict is missing')
    for key, value in zip(items[::2], items[1::2]):
        # Numbers beyond could collide on purpose.
        if type(key) is not str and not (type(key) is int and abs(key) < 2 ** 31):
            raise ValueError(f'a dict in it has {type(key).__name__.strip("_")} for a key')
        target[key] = value

def _look_up(words, names):
    name = _Name(*[_expect(word, str) for word in words])
    if name not in names:
        raise ForeignCode(f'it asks for {rebuild.shorten(".".join(name))}, '
            'which no network of StyleGAN2-ADA or SariGAN needs')
    return name

#----------------------------------------------------------------------------
