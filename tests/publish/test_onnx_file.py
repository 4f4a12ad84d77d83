"""Generators as ONNX: run by onnxruntime they make PyTorch's images, whatever is edited."""

import builtins
import json
import re

import numpy as np
import onnx
import onnxruntime
import torch

import trees
from commands import run, sentence
from sarigan_plugin.model import inpainting
from sarigan_plugin.model.grouped import grouped_layers
from sarigan_plugin.publish import onnx_file
from sarigan_plugin.snapshots import reading
from sarigan_plugin.steering import groupings, names
from sarigan_plugin.steering.attention import attention_maps
from sarigan_plugin.steering.channel_sets import ChannelSet, ChannelSets
from sarigan_plugin.steering.edits import Edit, edited, intra_components
from sarigan_plugin.steering.sampling import latents, sample_ws
from sarigan_plugin.steering.styles import styled_layers
from small_networks import make_inpainter, plain_networks, shaken, write

TRUNC = 0.7

def session(content):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=['CPUExecutionProvider'])

def run_both(content, feeds):
    """The outputs {name: array} of a file, and its image where weights are stored in fp16."""
    full, half = session(content), session(onnx_file.halved(content))
    outputs = dict(zip([output.name for output in full.get_outputs()], full.run(None, feeds)))
    return outputs, half.run(['image'], feeds)[0]

def assert_close(content, feeds, image, maps):
    """Of what PyTorch makes."""
    outputs, from_halves = run_both(content, feeds)
    assert outputs.keys() == {'image', *[f'attention.{name}' for name in maps]}
    assert np.abs(outputs['image'] - image.numpy()).max() < 1e-4
    assert np.abs(from_halves - image.numpy()).max() < (image.max() - image.min()) / 255
    for name, x in maps.items():
        assert np.abs(outputs[f'attention.{name}'] - x.numpy()).max() < 1e-4 * max(x.abs().max().item(), 1), name

def feeds_of(G, seed, others=(), **fields):
    feeds = onnx_file.neutral(G)
    feeds['z'], feeds['truncation'] = latents(G, [seed]).numpy(), np.float32([TRUNC])
    if others:
        feeds['other_z'] = latents(G, others).numpy()
        for name in feeds:
            if '_share.' in name:
                feeds[name] = feeds[name].repeat(len(others), axis=0)
    return feeds | fields

def link(G):
    """Give it two linked groups."""
    names_of = list(styled_layers(G))
    groupings.attach(G, ChannelSets([ChannelSet('first', {names_of[0]: (0, 3), names_of[-1]: (1, 2, 5)}),
        ChannelSet(None, {names_of[1]: (2,), names_of[-1]: (0,)})], 'of this network'))

def linked_edits(G, feeds):
    """Edits of linked groups; the inputs that say the same go into feeds."""
    linked = groupings.of(G)[groupings.LINKED]
    feeds['inter_scale.linked'][0, 0], feeds['inter_shift.linked'][0, 0] = 1.5, 0.25
    feeds['inter_share.linked'][1, 0] = 1.5 # Half of each, times 3.
    feeds['intra_share.linked'][0, 1], feeds['intra_step.linked'][1] = 0.75, 2 * linked.components(1)[0][0]
    return [Edit('linked', 0, inter_seed=8, inter_mix=0.5, inter_scale=3, inter_shift=0.25),
        Edit('linked', 1, intra_seed=7, intra_mix=0.75, intra_component=0, intra_amount=2)]

def edits_and_feeds(G):
    """Edits of everything that can be edited, and the inputs that say the same."""
    first, second, *_rest = [name for name, _layer, _source in grouped_layers(G.synthesis)]
    edits = [Edit(first, 1, inter_scale=-2, inter_shift=0.5), Edit(second, 0, intra_seed=7, intra_mix=0.25),
        Edit(second, 2, inter_seed=8, inter_mix=0.5, inter_scale=3, intra_component=1, intra_amount=4)]
    feeds = feeds_of(G, 3, others=[7, 8])
    feeds[f'inter_scale.{first}'][0, 1], feeds[f'inter_shift.{first}'][0, 1] = -2, 0.5
    feeds[f'intra_share.{second}'][0, 0] = 0.25
    feeds[f'inter_scale.{second}'][0, 2], feeds[f'inter_share.{second}'][1, 2] = 1.5, 1.5 # Half of each, times 3.
    layer = next(layer for name, layer, _source in grouped_layers(G.synthesis) if name == second)
    feeds[f'intra_step.{second}'][2] = 4 * intra_components(layer, 2)[0][1]
    if groupings.LINKED in groupings.of(G):
        edits += linked_edits(G, feeds)
    return edits, feeds

#----------------------------------------------------------------------------

def check_edits(G, content, **label):
    """All edits, of a class where there are some."""
    class_idx = int(label['label'].argmax()) if label else 0
    ws = sample_ws(G, [3], TRUNC, class_idx)
    image, maps = attention_maps(G, ws)
    assert_close(content, feeds_of(G, 3, **label), image, maps)
    edits, feeds = edits_and_feeds(G)
    with edited(G, edits, TRUNC, class_idx):
        changed, maps = attention_maps(G, ws)
    assert (changed - image).abs().max() > 0.1
    assert_close(content, feeds | label, changed, maps)

def test_the_feature_form_classes_and_linked_groups_give_the_images_and_attention_maps_of_pytorch(make_generator):
    G = shaken(make_generator(norm='feature', c_dim=3, img_resolution=8))
    link(G)
    check_edits(G, onnx_file.as_bytes(G), label=np.float32([[0, 0, 1]]))

def test_the_command_writes_a_grey_network_that_describes_itself_and_nothing_of_this_machine(make_generator,
        make_discriminator, tmp_path, monkeypatch):
    G = shaken(make_generator(img_channels=1, img_resolution=16))
    network, dest = tmp_path / 'network.pkl', tmp_path / 'network.onnx'
    D = make_discriminator(img_channels=1, img_resolution=16)
    write(dict(G=G, D=D, G_ema=G, training_set_kwargs=None, augment_pipe=None), network)
    known = names.read(network, G)
    layer, group = 'b16.conv0', G.synthesis.b16.conv0.grouping.live_groups[0].item()
    known.set(layer, group, 'glasses')
    known.write()
    before = G.synthesis(sample_ws(G, [4]), noise_mode='const')
    done = run('export', network, f'--to={dest}')
    assert done.exit_code == 0 and done.stdout == f'Wrote {dest}\n', done.output
    # PyTorch goes on as if nothing had been exported.
    assert torch.allclose(G.synthesis(sample_ws(G, [4]), noise_mode='const'), before, atol=1e-5)
    check_edits(G, dest.read_bytes())

    model = onnx.load_from_string(dest.read_bytes())
    sizes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    # On scalars ONNX Runtime aborts with WebGPU.
    assert [] not in [sizes.get(node.input[2]) for node in model.graph.node if node.op_type == 'Gemm']
    opened = session(dest.read_bytes())
    assert [entry.name for entry in opened.get_inputs()] == list(onnx_file.neutral(G))
    description = json.loads(opened.get_modelmeta().custom_metadata_map['sarigan'])
    assert description == json.loads(json.dumps(onnx_file.described(G, known)))
    assert {str(group): 'glasses'} in [of_layer['names'] for of_layer in description['layers']]
    assert b'site-packages' not in dest.read_bytes() and str(tmp_path).encode() not in dest.read_bytes()
    monkeypatch.chdir(tmp_path)
    example = re.search(r'```python\n(.*?)```', (trees.ROOT / 'docs' / 'onnx.md').read_text(), flags=re.DOTALL)[1]
    exec(compile(example, 'onnx.md', 'exec'), {})
    assert 'exists already' in sentence(run('export', network, f'--to={dest}'))

def test_stylegan2_has_seeds_and_truncation():
    G = reading.put(plain_networks(c_dim=2, resolution=8)['G_ema'], 'cpu')
    feeds = feeds_of(G, 5, label=np.float32([[0, 1]]))
    assert list(feeds) == ['z', 'truncation', 'label']
    assert_close(onnx_file.as_bytes(G), feeds, G.synthesis(sample_ws(G, [5], TRUNC, 1), noise_mode='const'), {})

def test_linked_groups_of_stylegan2_give_the_images_and_attention_maps_of_pytorch():
    G = reading.put(plain_networks(resolution=16)['G_ema'], 'cpu')
    link(G)
    feeds = feeds_of(G, 3, others=[7, 8])
    edits = linked_edits(G, feeds)
    with edited(G, edits, TRUNC):
        image, maps = attention_maps(G, sample_ws(G, [3], TRUNC))
    assert list(maps) == ['linked']
    assert_close(onnx_file.as_bytes(G), feeds, image, maps)

def test_a_network_that_completes_images_takes_the_condition():
    G = shaken(make_inpainter(img_channels=1, img_resolution=8))
    hole = torch.zeros([1, 1, 8, 8], dtype=torch.bool)
    hole[:, :, 2:5, 2:7] = True
    c = inpainting.join_condition(torch.rand([1, 1, 8, 8]) * 2 - 1, hole)
    link(G)
    edits, feeds = edits_and_feeds(G)
    feeds['condition'] = c.reshape(1, 2, 8, 8).numpy()
    with edited(G, edits, TRUNC, label=c):
        image, maps = attention_maps(G, G.mapping(latents(G, [3]), c, truncation_psi=TRUNC), c=c)
    assert_close(onnx_file.as_bytes(G), feeds, image, maps)

#----------------------------------------------------------------------------

def test_a_missing_package_gets_the_command_that_installs_it(network, tmp_path, monkeypatch):
    real = builtins.__import__
    def without(name, *args, **kwargs):
        if name == 'onnxscript':
            raise ModuleNotFoundError("No module named 'onnxscript'", name='onnxscript')
        return real(name, *args, **kwargs)
    monkeypatch.setattr(builtins, '__import__', without)
    assert sentence(run('export', network, f'--to={tmp_path / "network.onnx"}')) == (
        "Error: ONNX needs the Python package onnxscript, which is not installed: "
        "pip install 'onnx>=1.17' 'onnxscript>=0.5'")

def test_only_onnx_files_store_fp16_and_have_linked_groups(network, tmp_path):
    assert sentence(run('export', network, f'--to={tmp_path / "folder"}', '--fp16')) == (
        'Error: --fp16 is for ONNX files alone, as in --to=network.onnx.')
    assert sentence(run('export', network, f'--to={tmp_path / "folder"}', '--groups=none')) == (
        'Error: --groups is for ONNX files alone, as in --to=network.onnx.')
    assert not (tmp_path / 'folder').exists()
