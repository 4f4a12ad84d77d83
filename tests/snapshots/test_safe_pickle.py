"""Hostile pickles run nothing and end in one sentence; honest ones come back as they were."""

import os
import pickle
import pickletools
import random
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import limits
import skips
import small_training
from commands import run, sarigan, sentence
from hostile import call, name, networks_of, record, text
from sarigan_plugin.errors import UserError
from sarigan_plugin.snapshots import reading, unpickler
from sarigan_plugin.trainer import upstream_loop
from small_networks import SIZE, assert_same, outputs, plain_networks, shaken, write

import dnnlib
import legacy
from torch_utils import persistence
from training import augment, networks as upstream_networks, training_loop

#----------------------------------------------------------------------------
# Pickles by hand: pieces of programs that each leave one thing on the stack.

class Pickled:
    """Pickled as what a program leaves."""
    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call

SYSTEM = name('os', 'system')

def touch(canary):
    return text(f'touch {canary}')

def writing(canary):
    return f'open({str(canary)!r}, "w").write("x")\n'

# Each is a function of a path, the canary, that comes into being when the code runs.

def system(canary):
    return call(SYSTEM, touch(canary)) + b'.'

def system_in_text_protocol(canary):
    return f"cos\nsystem\n(S'touch {canary}'\ntR.".encode()

def system_by_inst(canary):
    return f"(S'touch {canary}'\nios\nsystem\n.".encode()

def system_by_obj(canary):
    return b'(' + SYSTEM + touch(canary) + b'o.'

def system_in_the_data_set_of_honest_networks(canary):
    return pickle.dumps(dict(plain_networks(), training_set_kwargs=dict(path=Pickled(os.system, f'touch {canary}'))))

def evaluated_text(canary):
    return call(name('builtins', 'eval'), text(writing(canary).strip())) + b'.'

def executed_text(canary):
    return networks_of(call(name('builtins', 'exec'), text(writing(canary))))

def process(canary):
    return call(name('subprocess', 'check_output'), b'](' + text('touch') + text(canary) + b'e') + b'.'

def opened_file(canary):
    return networks_of(call(name('io', 'open'), text(canary), text('w')))

def embedded_source(canary):
    return networks_of(record(writing(canary) + 'class Generator: pass'))

def embedded_source_deep_inside(canary):
    inner = b'}(' + text('_modules') + b'}(' + text('mapping') + record(writing(canary) + 'class MappingNetwork: pass',
        'MappingNetwork') + b'uu'
    return networks_of(record('class Generator: pass', state=inner))

def import_hook(canary):
    """One that upstream calls at the next object."""
    hook = call(name('torch_utils.persistence', 'import_hook'),
        call(name('functools', 'partial'), name('builtins', 'exec'), text(writing(canary))))
    return hook + b'0' + networks_of(record('class Generator: pass'))

def pickle_in_a_tensor(canary):
    return networks_of(call(name('torch.storage', '_load_from_bytes'),
        b'B' + struct.pack('<I', len(system(canary))) + system(canary)))

def pickle_in_a_tensors_storage(canary):
    """Where torch.save() names the storage, after a magic number, a version and a description of the machine."""
    head = pickle.dumps(0x1950a86a20f9469cfc6c, 2) + pickle.dumps(1001, 2) + pickle.dumps(dict(little_endian=True), 2)
    content = head + system(canary)
    return networks_of(call(name('torch.storage', '_load_from_bytes'),
        b'B' + struct.pack('<I', len(content)) + content))

def hooks_of_a_parameter(canary):
    return networks_of(call(name('torch._utils', '_rebuild_parameter'), b'N', b'\x89', call(SYSTEM, touch(canary))))

def chain_of_getattr(canary):
    module = call(name('builtins', '__import__'), text('os'))
    return call(call(name('builtins', 'getattr'), module, text('system')), touch(canary)) + b'.'

def chain_through_upstream(canary):
    return call(call(name('dnnlib.util', 'get_obj_by_name'), text('os.system')), touch(canary)) + b'.'

def chain_through_operator(canary):
    path = call(name('pathlib', 'Path'), text(canary))
    return call(call(name('operator', 'methodcaller'), text('touch')), path) + b'.'

def chain_of_map(canary):
    return call(name('builtins', 'list'), call(name('builtins', 'map'), SYSTEM, b'](' + touch(canary) + b'e')) + b'.'

def state_set_on_a_class(canary):
    """BUILD on the class makes os.system its __setstate__, BUILD on an instance calls it."""
    return name('dnnlib.util', 'EasyDict') + b'(N}' + text('__setstate__') + SYSTEM + b'stb)R' + touch(canary) + b'b.'

def name_with_dots(canary):
    """STACK_GLOBAL follows the dots of a name from an allowed module."""
    return b'\x80\x04' + call(text('dnnlib.util') + text('os.system') + b'\x93', touch(canary)) + b'.'

DANGEROUS = [system, system_in_text_protocol, system_by_inst, system_by_obj, system_in_the_data_set_of_honest_networks,
    evaluated_text, executed_text, process,
    opened_file, embedded_source, embedded_source_deep_inside, import_hook, pickle_in_a_tensor,
    pickle_in_a_tensors_storage, hooks_of_a_parameter,
    chain_of_getattr, chain_through_upstream, chain_through_operator, chain_of_map,
    state_set_on_a_class, name_with_dots]

def embedded_source_of_honest_networks(canary):
    """All of an honest pickle, but for one more line in the source of its classes."""
    honest = pickle.dumps(plain_networks(), protocol=3)
    with open(upstream_networks.__file__, encoding='utf-8-sig') as f:
        source = text(f.read())
    assert honest.count(source) == 1
    return honest.replace(source, text(source[5:].decode() + '\n' + writing(canary)))

#----------------------------------------------------------------------------

def refusal(content, path):
    """The sentence that reading a pickle ends in."""
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        reading.load(str(path), '--network')
    told = caught.value.message
    assert (told.startswith(f"--network: '{path}' is not a network pickle") and told.endswith('.')
        and told.isprintable() and len(told) < 500), told
    return told

PLAIN_LOAD = """
import pickle, sys
import sarigan_plugin
from torch_utils import persistence
for path in sys.argv[1:]:
    try:
        with open(path, 'rb') as f:
            pickle.load(f)
    except Exception:
        pass
    persistence._import_hooks.clear()
    import dnnlib
    if '__setstate__' in vars(dnnlib.EasyDict):
        del dnnlib.EasyDict.__setstate__
"""

def test_the_corpus_is_dangerous(tmp_path):
    paths = []
    for make in DANGEROUS:
        paths.append(tmp_path / f'{make.__name__}.pkl')
        paths[-1].write_bytes(make(tmp_path / f'{make.__name__}.canary'))
    subprocess.run([sys.executable, '-c', PLAIN_LOAD, *paths], capture_output=True, check=False, timeout=limits.HANG)
    assert [path.stem for path in paths if not path.with_suffix('.canary').exists()] == []

@pytest.mark.parametrize('make', DANGEROUS, ids=lambda make: make.__name__)
def test_hostile_pickle_runs_nothing_and_ends_in_one_sentence(make, tmp_path):
    canary = tmp_path / 'canary'
    refusal(make(canary), tmp_path / 'evil.pkl')
    assert os.listdir(tmp_path) == ['evil.pkl']
    assert not persistence._import_hooks and '__setstate__' not in vars(dnnlib.EasyDict)

def test_source_in_the_pickle_of_honest_networks_is_not_run_and_ours_is(tmp_path):
    canary, path = tmp_path / 'canary', tmp_path / 'network.pkl'
    path.write_bytes(embedded_source_of_honest_networks(canary))
    G = reading.load(str(path), '--network')
    assert type(G) is upstream_networks.Generator and not canary.exists()
    reading.load(str(path), '--network', trust=True)
    assert canary.exists()

def test_importing_a_pickle_makes_one_with_our_source_that_other_tools_may_open(tmp_path):
    canary = tmp_path / 'canary'
    (tmp_path / 'evil.pkl').write_bytes(embedded_source_of_honest_networks(canary))
    done = run('import', tmp_path / 'evil.pkl', f'--to={tmp_path / "clean.pkl"}')
    assert done.exit_code == 0, done.output
    with open(tmp_path / 'clean.pkl', 'rb') as f:
        G = legacy.load_network_pkl(f)['G_ema']
    assert_same(G, reading.load(str(tmp_path / 'evil.pkl'), 'PKL'))
    assert not canary.exists()

@pytest.mark.parametrize('content, words', [
    (call(SYSTEM, text('true')) + b'.', "(it asks for 'os.system', "
        "which no network of StyleGAN2-ADA or SariGAN needs); --trust-pickle runs the code inside it."),
    (networks_of(record('', 'StyleGAN-XL')), "(its G is of the class 'StyleGAN-XL'); "
        "--trust-pickle runs the code inside it."),
    (name('a\x1b[31mb', 'c' * 1000) + b'.', "(it asks for 'a\\x1b[31mb.ccc"),
])
def test_foreign_code_is_named_with_the_option_that_runs_it(content, words, tmp_path):
    assert words in refusal(content, tmp_path / 'foreign.pkl')

#----------------------------------------------------------------------------
# Pickles that run nothing but would not end well: wrong, broken, or larger than they look.

def tampered(change, resolution=8):
    """Honest networks, changed by a function."""
    data = plain_networks(resolution=resolution)
    change(data)
    return pickle.dumps(data)

def with_argument(key, value):
    def change(data):
        data['G']._init_kwargs[key] = value
    return tampered(change)

def with_tensor(module, key, value):
    def change(data):
        data['G'].get_submodule(module)._parameters[key] = value
    return tampered(change)

def with_attribute(key, value):
    return tampered(lambda data: setattr(data['G'].synthesis.b8.conv0, key, value))

def storage(*numbers):
    """A tensor as pickles have it, without the view of it."""
    tensor = torch.tensor(numbers, dtype=torch.float32)
    return next(arg for _instruction, arg, _position in pickletools.genops(pickle.dumps(tensor))
        if isinstance(arg, bytes))

def tensor_of(content, offset, size, stride):
    number = lambda n: b'\x8a\x08' + struct.pack('<q', n)
    numbers = lambda values: b'(' + b''.join(number(n) for n in values) + b't'
    loaded = call(name('torch.storage', '_load_from_bytes'), b'B' + struct.pack('<I', len(content)) + content)
    return networks_of(call(name('torch._utils', '_rebuild_tensor_v2'), loaded, number(offset), numbers(size),
        numbers(stride), b'\x89', b'}'))

def many_times(content, times):
    """One storage, loaded again and again."""
    load = name('torch.storage', '_load_from_bytes')
    return b'](' + call(load, b'B' + struct.pack('<I', len(content)) + content + b'q\x00') + call(load,
        b'h\x00') * times + b'e.'

def laughs():
    value = [1]
    for _level in range(60):
        value = [value, value]
    return value

def nested(depth):
    return b']' * depth + b'a' * (depth - 1)

def inside_itself():
    value = []
    value.append(value)
    return value

WRONG = {
    'empty file':                   (b'', 'it is an empty file'),
    'no end':                       (b'\x80\x04}', 'pickle exhausted before seeing STOP'),
    'text':                         (b'a picture of a cat', 'is not a network pickle'),
    'a number':                     (pickle.dumps(3), 'int stands where dict belongs'),
    'no networks':                  (pickle.dumps({}), 'it has no G'),
    'networks that are numbers':    (pickle.dumps(dict(G=1, D=2, G_ema=3)), 'its G is of the type int'),
    'another class':                (tampered(lambda data: data.update(G=data['D'])),
                                    "its G is of the class 'Discriminator'"),
    'unpicklable state':            (networks_of(record('', state=b'N')), 'an object in it has no class or no state'),
    'string longer than the file':  (b'\x80\x04\x8d' + struct.pack('<Q', 2 ** 62) + b'short', 'expected'),
    'bytes longer than the file':   (b'\x80\x04\x8e' + struct.pack('<Q', 2 ** 40) + b'short', 'expected'),
    'too many instructions':        (b'\x80\x04' + b'N' * 510_000 + b'.',
                                    'it has more instructions than a network needs'),
    'deeply nested lists':          (b'\x80\x04' + nested(100_000) + b'.', 'list stands where dict belongs'),
    'huge memo':                    (b'\x80\x04}r\xff\xff\xff\xff.', 'it has no G'),
    'lists of lists of lists':      (with_argument('mapping_kwargs', dict(num_layers=laughs())),
                                    'it has too many arguments'),
    'list inside itself':           (with_argument('mapping_kwargs', dict(num_layers=inside_itself())),
                                    'is not a network pickle'),
    'huge data set options':        (tampered(lambda data: data.update(training_set_kwargs=dict(
                                    class_name='training.dataset.ImageFolderDataset', path=laughs()))),
                                    'it has too many arguments'),
    'huge network':                 (with_argument('z_dim', 10 ** 6),
                                    'its arguments are for a network much larger than the file'),
    'huge number':                  (with_argument('z_dim', 10 ** 30), 'is none that networks have'),
    'huge image':                   (with_argument('img_resolution', 2 ** 20),
                                    'its arguments are for a network much larger than the file'),
    'a million layers':             (with_argument('mapping_kwargs', dict(num_layers=10 ** 6)),
                                    'its arguments are for a network much larger than the file'),
    'negative size':                (with_argument('z_dim', -5), 'is not a network pickle'),
    'long filter':                  (with_argument('synthesis_kwargs', dict(SIZE, resample_filter=[1] * 70000)),
                                    'the argument list is none that networks have'),
    'class in the arguments':       (with_argument('mapping_kwargs', dict(func_name='os.system')),
                                    'the argument dict is none that networks have'),
    'unknown argument':             (with_argument('magnitude_ema_beta', 0.9),
                                    "unexpected keyword argument 'magnitude_ema_beta'); --trust-pickle runs"),
    'unknown activation':           (with_argument('mapping_kwargs', dict(num_layers=2, activation='os.system')),
                                    "'os.system' is none of the activations linear, relu, "),
    'tensor of another shape':      (with_tensor('mapping.fc0', 'weight', torch.zeros(3, 5)),
                                    'mapping.fc0.weight is float32 [3, 5] where its network has float32 [32, 32]'),
    'tensor of another type':       (with_tensor('mapping.fc0', 'bias', torch.zeros(32, dtype=torch.float16)),
                                    'mapping.fc0.bias is float16 [32] where its network has float32 [32]'),
    'tensor too many':              (with_tensor('mapping.fc0', 'more', torch.zeros(1)),
                                    "its tensor 'mapping.fc0.more' has no place in the network"),
    'tensor too few':               (with_tensor('mapping.fc0', 'bias', None),
                                    'its tensor mapping.fc0.bias is missing'),
    'number for a tensor':          (with_tensor('mapping.fc0', 'bias', 1.0), "mapping.fc0.'bias' is no tensor"),
    'attribute of another code':    (with_attribute('conv_clamp', 256),
                                    "synthesis.b8.conv0.conv_clamp is 256, and ours None); --trust-pickle runs"),
    'attribute more':               (with_attribute('forward', 'x'),
                                    "synthesis.b8.conv0.forward is 'x', and ours method); --trust-pickle runs"),
    'layer of another class':       (tampered(
                                    lambda data: data['G'].mapping._modules.update(fc0=data['G'].synthesis.b4.torgb)),
                                    "mapping.fc0 is of the class 'ToRGBLayer' where ours is FullyConnectedLayer"),
    'layer too few':                (tampered(lambda data: data['G'].mapping._modules.pop('fc1')),
                                    'mapping.fc1 is in ours alone'),
    'tensor longer than its data':  (tensor_of(storage(1, 2, 3), 0, [4], [1]),
                                    'a tensor in it is longer than its data'),
    'tensor beyond its data':       (tensor_of(storage(1, 2, 3), 1, [3], [1]),
                                    'a tensor in it is longer than its data'),
    'tensor before its data':       (tensor_of(storage(1, 2, 3), -1, [3], [1]), 'a tensor in it has no sensible shape'),
    'tensor of one number':         (tensor_of(storage(1, 2, 3), 0, [2 ** 30, 2 ** 30], [0, 0]),
                                    'a tensor in it overlaps with itself'),
    'tensor of negative size':      (tensor_of(storage(1, 2, 3), 0, [-1], [1]), 'a tensor in it has no sensible shape'),
    'tensor that is cut off':       (tensor_of(storage(1, 2, 3)[:-1], 0, [3], [1]), 'a tensor in it is cut off'),
    'tensor many times over':       (many_times(storage(*range(2 ** 20)), 300), 'its tensors are larger than the file'),
    'tensor without a storage':     (tensor_of(pickle.dumps(1001) * 5, 0, [3], [1]), 'is not a network pickle'),
    'numbers of objects':           (networks_of(call(name('numpy', 'dtype'), text('O8'))),
                                    "it has numpy numbers of the type 'O8'"),
    'unhashable key':               (b'\x80\x04}]Ns.', 'a dict in it has list for a key'),
    'stack that is too short':      (b'\x80\x04R.', 'is not a network pickle'),
    'mark that is missing':         (b'\x80\x04t.', 'is not a network pickle'),
    'persistent id':                (b'\x80\x04}}(X\x01\x00\x00\x00GX\x01\x00\x00\x00xQu.', 'its G is of the type str'),
    'name that rings a bell':       (tampered(lambda data: data['G'].mapping._modules.update({'\x1b\x07': data['D']})),
                                    'mapping.?? is in it alone'),
    'extension registry':           (b'\x80\x04\x82\x01.', 'the instruction EXT1 is none that networks need'),
    'buffers from outside':         (b'\x80\x05\x97.', 'the instruction NEXT_BUFFER is none that networks need'),
}

@pytest.mark.parametrize('kind', WRONG)
def test_what_is_wrong_with_a_pickle_is_said_in_one_sentence(kind, tmp_path):
    content, words = WRONG[kind]
    start = time.monotonic()
    assert words in refusal(content, tmp_path / 'wrong.pkl')
    assert time.monotonic() - start < limits.HANG # Not a time that doubles with each instruction.

LIMITED_LOAD = """
import os, resource, sys
from sarigan_plugin.snapshots import reading as snapshot
from training import networks, augment
from sarigan_plugin.errors import UserError
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 500 * 2 ** 20, resource.RLIM_INFINITY))
for path in sys.argv[1:]:
    try:
        snapshot.load(path, '--network')
    except UserError as error:
        assert 'MemoryError' not in error.message and 'allocate' not in error.message, error.message
"""

@pytest.mark.skipif(not os.path.exists('/proc/self/statm'), reason=skips.NO_PROC)
def test_no_pickle_takes_much_more_memory_than_its_size(tmp_path):
    paths = []
    for index, (content, _words) in enumerate(WRONG.values()):
        paths.append(tmp_path / f'{index}.pkl')
        paths[-1].write_bytes(content)
    done = subprocess.run([sys.executable, '-c', LIMITED_LOAD, *paths], capture_output=True, text=True, check=False,
        timeout=limits.HANG)
    assert done.returncode == 0, done.stderr

def test_groups_that_are_not_there_are_refused(make_generator, make_discriminator, tmp_path):
    G = make_generator(grouping='blocks')
    G.synthesis.b16.conv1.grouping.assignment[3] = 4
    told = refusal(pickle.dumps(dict(G=G, D=make_discriminator(), G_ema=G)), tmp_path / 'wrong.pkl')
    assert 'synthesis.b16.conv1.grouping.assignment names groups that are not there' in told

def test_pickle_that_is_cut_off_anywhere_gets_a_sentence(tmp_path):
    content = pickle.dumps(plain_networks(resolution=8))
    for length in np.linspace(0, len(content) - 1, 40).astype(int):
        refusal(content[:length], tmp_path / 'cut.pkl')

@pytest.mark.parametrize('seed', [0, *[pytest.param(seed, marks=pytest.mark.slow) for seed in [1, 2]]])
def test_pickle_with_a_few_wrong_bytes_is_read_or_gets_a_sentence(make_generator, make_discriminator, tmp_path, seed):
    rng = random.Random(seed)
    path = tmp_path / 'flipped.pkl'
    data = plain_networks(resolution=8) if seed < 2 else dict(G=make_generator(grouping='kmeans'),
        D=make_discriminator(), G_ema=make_generator(grouping='blocks'))
    content = pickle.dumps(data, protocol=3 + seed)
    program = [position for _instruction, arg, position in pickletools.genops(content) if not isinstance(arg, bytes)]
    for _trial in range(60):
        flipped = bytearray(content)
        for _byte in range(rng.choice([1, 1, 1, 5])):
            position = rng.choice([rng.choice(program) + rng.randrange(3), rng.randrange(len(content))])
            flipped[min(position, len(content) - 1)] = rng.randrange(256)
        path.write_bytes(flipped)
        try:
            G = reading.load(str(path), '--network')
        except UserError as error:
            assert error.message.isprintable() and len(error.message) < 500
        else: # What could be read can be used.
            assert G(torch.randn(1, G.z_dim), None, noise_mode='const').shape == (1, 3, G.img_resolution,
                G.img_resolution)
    assert os.listdir(tmp_path) == ['flipped.pkl']

#----------------------------------------------------------------------------
# Honest pickles.

def upstream_kind(G=None, D=None, synthesis=None, **common):
    common = dict(dict(c_dim=0, img_resolution=16, img_channels=3), **common)
    mapping, synthesis = dnnlib.EasyDict(num_layers=2), dnnlib.EasyDict(SIZE, **(synthesis or {}))
    make = lambda: shaken(upstream_networks.Generator(z_dim=32, w_dim=32, mapping_kwargs=mapping,
        synthesis_kwargs=synthesis, **common, **(G or {})))
    return lambda: dict(G=make(),
        D=shaken(upstream_networks.Discriminator(**common, **SIZE, **(D or {}))), G_ema=make())

UPSTREAM_KINDS = {
    'resnet':           upstream_kind(),
    'skip':             upstream_kind(D=dict(architecture='skip')),
    'orig':             upstream_kind(D=dict(architecture='orig'), synthesis=dict(architecture='orig')),
    'resnet generator': upstream_kind(synthesis=dict(architecture='resnet')),
    'conditional':      upstream_kind(c_dim=3),
    'grey':             upstream_kind(img_channels=1),
    'frozen':           upstream_kind(D=dict(block_kwargs=dnnlib.EasyDict(freeze_layers=3))),
    'no minibatch std': upstream_kind(D=dict(epilogue_kwargs=dnnlib.EasyDict(mbstd_num_channels=0))),
    'fp16':             upstream_kind(synthesis=dict(num_fp16_res=2, conv_clamp=256, fp16_channels_last=True),
                        D=dict(num_fp16_res=2, conv_clamp=256)),
    'no noise':         upstream_kind(synthesis=dict(use_noise=False)),
    'relu':             upstream_kind(synthesis=dict(activation='relu', resample_filter=[1, 2, 1])),
}

def read_both_ways(data, path, protocol=None):
    """What our reader and upstream's make of it."""
    path.write_bytes(pickle.dumps(data, protocol))
    with open(path, 'rb') as f:
        return unpickler.read(path.read_bytes()), legacy.load_network_pkl(f)

def assert_both_alike(data, path):
    ours, theirs = read_both_ways(data, path)
    assert ours.keys() == theirs.keys()
    for key in ['G', 'D', 'G_ema', 'augment_pipe']:
        if theirs[key] is not None:
            assert_same(ours[key], theirs[key])
            assert [p.requires_grad for p in ours[key].parameters()] == [p.requires_grad
                for p in theirs[key].parameters()]
            assert [module.training for module in ours[key].modules()] == [module.training
                for module in theirs[key].modules()]
    for a, b in zip(outputs(ours), outputs(theirs)):
        assert torch.equal(a, b)

@pytest.mark.parametrize('kind', UPSTREAM_KINDS)
def test_upstreams_networks_are_what_its_own_reader_makes_of_them(kind, tmp_path):
    if kind == 'fp16' and not torch.cuda.is_available():
        data = UPSTREAM_KINDS[kind]()
        ours, theirs = read_both_ways(data, tmp_path / 'network.pkl')
        for key in data:
            assert_same(ours[key], theirs[key]) # Its fused convolution has no fp16 on some CPUs.
        return
    assert_both_alike(UPSTREAM_KINDS[kind](), tmp_path / 'network.pkl')

@pytest.mark.parametrize('options', [dict(grouping='similarity'), dict(threshold='learned'),
    dict(threshold=0.1, inertia=0), dict(grouping='kmeans'), dict(grouping='blocks'), dict(num_groups='auto'),
    dict(grouping='random'), dict(grouping='effects'), dict(grouping='none'), dict(norm='feature'),
    dict(norm='feature', grouping='kmeans'),
    dict(c_dim=3), dict(num_groups={'8': 2, 16: 4, 'b32.conv0': 8, 32: 4})], ids=str)
def test_sarigan_of_every_kind_is_what_upstreams_reader_makes_of_it(make_generator, make_discriminator,
        options, tmp_path):
    D = make_discriminator(c_dim=options.get('c_dim', 0))
    assert_both_alike(dict(G=make_generator(**options).train().requires_grad_(False), D=D,
        G_ema=shaken(make_generator(**options))), tmp_path / 'network.pkl')

def test_a_q_of_styles_is_what_upstreams_reader_makes_of_it(make_generator, make_discriminator, tmp_path):
    G = make_generator()
    assert_both_alike(dict(G=G, D=make_discriminator(q_features=[3, 5]), G_ema=G), tmp_path / 'network.pkl')

def test_augmentation_and_the_data_set_come_along(tmp_path):
    images = dict(class_name='training.dataset.ImageFolderDataset', path='cats.zip', max_size=2 ** 33, xflip=False)
    data = dict(plain_networks(), augment_pipe=augment.AugmentPipe(xflip=1, imgfilter=1, imgfilter_bands=[1, 0, 1, 1]),
        training_set_kwargs=images)
    assert_both_alike(data, tmp_path / 'network.pkl')
    assert reading.load_all(str(tmp_path / 'network.pkl'), 'PKL')['training_set_kwargs'] == images

def test_a_data_set_of_another_class_is_left_out(tmp_path):
    write(dict(plain_networks(), training_set_kwargs=dict(class_name='os.system', command='true')),
        tmp_path / 'network.pkl')
    assert reading.load_all(str(tmp_path / 'network.pkl'), 'PKL')['training_set_kwargs'] is None

@pytest.mark.parametrize('protocol', [3, 4, 5])
def test_every_protocol_of_python_3_is_read(protocol, tmp_path):
    ours, theirs = read_both_ways(plain_networks(), tmp_path / 'network.pkl', protocol)
    assert_same(ours['G_ema'], theirs['G_ema'])

def test_one_network_under_two_names_stays_one(tmp_path):
    data = plain_networks()
    write(dict(data, G=data['G_ema']), tmp_path / 'network.pkl')
    back = reading.load_all(str(tmp_path / 'network.pkl'), 'PKL')
    assert back['G'] is back['G_ema'] is not back['D']

def test_networks_pickled_before_inertia_came_are_read(make_generator, make_discriminator, tmp_path):
    G = make_generator()
    for module in G.modules():
        if type(module).__name__ == 'ChannelGrouping':
            del module.steps, module.inertia
    write(dict(G=G, D=make_discriminator(), G_ema=G), tmp_path / 'network.pkl')
    assert reading.load(str(tmp_path / 'network.pkl'), 'PKL').synthesis.b8.conv0.grouping.steps == 0

def test_reading_leaves_the_callers_random_numbers_as_they_were(make_generator, make_discriminator, tmp_path):
    write(dict(G=make_generator(grouping='random'), D=make_discriminator(), G_ema=make_generator()),
        tmp_path / 'network.pkl')
    state = torch.get_rng_state()
    reading.load(str(tmp_path / 'network.pkl'), 'PKL')
    assert torch.equal(torch.get_rng_state(), state)

def test_a_url_is_read_like_a_file(tmp_path):
    data = plain_networks()
    write(data, tmp_path / 'network.pkl')
    assert_same(reading.load(f'file://{tmp_path}/network.pkl', 'PKL'), data['G_ema'])

#----------------------------------------------------------------------------
# The command line.

def test_a_pickle_of_foreign_code_is_opened_when_it_is_trusted(tmp_path):
    (tmp_path / 'network.pkl').write_bytes(with_attribute('conv_clamp', 256))
    command = ['generate', f'--network={tmp_path / "network.pkl"}', '--seeds=0',
        f'--outdir={tmp_path / "out"}', '--device=cpu']
    assert '--trust-pickle runs the code inside it.' in sentence(run(*command))
    assert not (tmp_path / 'out').exists()
    done = run(*command, '--trust-pickle')
    assert done.exit_code == 0 and (tmp_path / 'out/seed0000.png').exists(), done.output

def test_training_takes_an_exported_folder(images, tmp_path):
    data = plain_networks(resolution=16)
    cfg = tmp_path / 'fitting.toml'
    cfg.write_text(small_training.config(method=dict(code_dim=32), networks=SIZE))
    write(data, tmp_path / 'network.pkl')
    assert run('export', tmp_path / 'network.pkl', f'--to={tmp_path / "folder"}').exit_code == 0
    (tmp_path / 'empty').mkdir()
    command = ['train', f'--cfg={cfg}', f'--data={images}', f'--outdir={tmp_path / "out"}', '--metrics=none',
        '--device=cpu', '--dry-run']
    assert run(*command, f'--resume={tmp_path / "folder"}').exit_code == 0
    assert "has no training state; give a run's folder, a network pickle, latest or noresume" in sentence(run(*command,
        f'--resume={tmp_path / "empty"}'))

    upstream_loop.prepare('cpu') # What upstream's training loop then does:
    with training_loop.dnnlib.util.open_url(str(tmp_path / 'folder')) as f:
        assert_same(training_loop.legacy.load_network_pkl(f)['G_ema'], data['G_ema'])

def test_training_runs_nothing_of_a_hostile_pickle(images, cfg, tmp_path):
    canary = tmp_path / 'canary'
    (tmp_path / 'evil.pkl').write_bytes(system(canary))
    done = sarigan('train', f'--cfg={cfg}', f'--data={images}', f'--outdir={tmp_path / "out"}', '--metrics=none',
        '--device=cpu', f'--resume={tmp_path / "evil.pkl"}')
    assert done.returncode == 2 and 'Traceback' not in done.stderr
    assert "Error: --resume: " in done.stderr and "it asks for 'os.system'" in done.stderr
    assert not canary.exists()

def test_training_runs_a_pickle_that_is_trusted(images, cfg, tmp_path):
    done = run('train', f'--cfg={cfg}', f'--data={images}', f'--outdir={tmp_path / "out"}', '--metrics=none',
        '--dry-run', '--trust-pickle', '--resume=ffhq256')
    assert done.exit_code == 0 and '"trust_pickle": true' in done.stdout, done.output
    canary = tmp_path / 'canary'
    (tmp_path / 'evil.pkl').write_bytes(system(canary))
    upstream_loop.prepare('cpu', trust=True)
    with open(tmp_path / 'evil.pkl', 'rb') as f, pytest.raises(UserError): # It holds no networks.
        training_loop.legacy.load_network_pkl(f)
    assert canary.exists()

#----------------------------------------------------------------------------
