"""Command line and TOML -> training options: upstream's names as upstream has them, ours as the files say."""

import dataclasses
import importlib
import inspect
import json
import re
import sys

import numpy as np
import PIL.Image
import pytest
import torch

import trees
from sarigan_plugin.commands import train
from sarigan_plugin.errors import UserError
from sarigan_plugin.losses import inpainting as inpainting_loss, sarigan as loss
from sarigan_plugin.model import networks
from sarigan_plugin.model.grouped import grouped_layers
from sarigan_plugin.trainer import arguments, options, recipes
from upstream_dry_run import dry_run

GOLDEN = trees.SUPPORT / 'upstream_options.json'

CASES = {
    **{cfg: [f'--cfg={cfg}'] for cfg in recipes.UPSTREAM_RECIPES},
    **{f'{cfg} on 8 GPUs': [f'--cfg={cfg}', '--gpus=8'] for cfg in recipes.UPSTREAM_RECIPES},
    'nothing': [],
    'data options': ['--cond=1', '--subset=5', '--mirror=1', '--seed=9', '--snap=3',
        '--metrics=kid50k_full,pr50k3_full'],
    'the whole subset': ['--subset=12'],
    'training options': ['--cfg=stylegan2', '--gamma=5', '--kimg=7', '--batch=16', '--gpus=4', '--metrics=none'],
    'fixed augmentation': ['--aug=fixed', '--p=0.25', '--augpipe=bgcfnc', '--freezed=2'],
    'no augmentation': ['--cfg=paper512', '--aug=noaug', '--fp32=1', '--allow-tf32=1', '--nobench=1', '--workers=2'],
    'ada target': ['--aug=ada', '--target=0.7', '--augpipe=color', '--resume=ffhq512', '--nhwc=1'],
    'no resume': ['--resume=noresume', '--cond=0', '--mirror=0', '--fp32=0', '--nhwc=0', '--nobench=0'],
}

@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """A folder of twelve 64x64 images with labels."""
    folder = tmp_path_factory.mktemp('data') / 'images'
    folder.mkdir()
    rng = np.random.RandomState(0)
    names = [f'{i:03d}.png' for i in range(12)]
    for name in names:
        PIL.Image.fromarray(rng.randint(256, size=[64, 64, 3], dtype=np.uint8)).save(folder / name)
    (folder / 'dataset.json').write_text(json.dumps(dict(labels=[[name, i % 3] for i, name in enumerate(names)])))
    return str(folder)

#----------------------------------------------------------------------------
# Upstream's own configs. The golden file was written by an unpatched checkout:
# python tests/support/upstream_dry_run.py TREE DATA CASES.json

@pytest.mark.parametrize('name', CASES)
def test_upstreams_configs_give_upstreams_options(images, name):
    assert dry_run(train.main, images, CASES[name]) == json.loads(GOLDEN.read_text())[name]

def test_the_golden_options_are_what_an_unpatched_checkout_prints(images, submodule_tree, tmp_path):
    cases = tmp_path / 'cases.json'
    cases.write_text(json.dumps(CASES))
    done = trees.run([sys.executable, trees.SUPPORT / 'upstream_dry_run.py', submodule_tree, images, cases], tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(GOLDEN.read_text())

#----------------------------------------------------------------------------
# Our configs.

def test_sarigan_is_the_papers_setting(images):
    _desc, args = arguments.training_options(data=images, cfg='sarigan', gpus=8)
    assert (args.batch_size, args.batch_gpu) == (32, 4)
    assert args.G_opt_kwargs.lr == args.D_opt_kwargs.lr == 0.002
    assert args.G_kwargs.class_name == 'sarigan_plugin.networks.Generator'
    assert args.G_kwargs.mapping_kwargs.num_layers == 8
    G = args.G_kwargs
    assert (G.num_groups, G.code_dim, G.grouping, G.norm) == (16, 512, 'similarity', 'weight')
    assert args.loss_kwargs == dict(class_name='sarigan_plugin.loss.SariGANLoss', lambda_group=2, lambda_info=10,
        similarity='kernels', info_mixing='mean', r1_gamma=10, pl_weight=2, style_mixing_prob=0.9)
    assert args.ema_kimg == 10 and args.ema_rampup is None
    assert 'augment_kwargs' not in args and 'ada_target' not in args

def test_fewer_gpus_than_the_papers_take_turns(images):
    for gpus in [1, 2, 8, 16]:
        _desc, args = arguments.training_options(data=images, cfg='sarigan', gpus=gpus)
        assert args.batch_size == 32 and args.batch_gpu == min(4, 32 // gpus)

def test_options_of_the_command_line_overrule_the_file(images):
    desc, args = arguments.training_options(data=images, cfg='sarigan', num_groups=8, lambda_group=0.5, lambda_info=0.0,
        grouping='blocks', norm='feature')
    assert (args.G_kwargs.num_groups, args.G_kwargs.grouping, args.G_kwargs.norm) == (8, 'blocks', 'feature')
    assert (args.loss_kwargs.lambda_group, args.loss_kwargs.lambda_info) == (0.5, 0)
    assert 'numgroups8' in desc and 'lambdainfo0.0' in desc
    _desc, args = arguments.training_options(data=images, cfg='sarigan', similarity='responses')
    assert args.loss_kwargs.similarity == 'responses'

@pytest.mark.parametrize('method, of_each', [
    (dict(), 1),
    (dict(norm='feature'), 2),
    (dict(num_groups='auto'), 1),
    (dict(num_groups={'8': 2, '16': 4, 'b32.conv0': 8, '32': 4, '64': 4}), 1),
])
def test_q_has_a_number_for_each_style_that_layers_make_of_the_codes(images, method, of_each):
    _desc, args = arguments.training_options(data=images, cfg='tiny', info_target='styles', **method)
    kwargs = {name: value for name, value in args.G_kwargs.items() if name != 'class_name'}
    G = networks.Generator(c_dim=0, img_resolution=64, img_channels=3, **kwargs)
    inter, intra = loss.info_targets(torch.zeros(1, G.num_ws, G.w_dim), G.synthesis)
    assert args.D_kwargs.q_features == [inter.shape[1], intra.shape[1]] and args.loss_kwargs.info_target == 'styles'
    layers = [layer for _name, layer, _source in grouped_layers(G.synthesis)]
    assert intra.shape[1] == of_each * sum(layer.weight.shape[1] for layer in layers)

def test_what_a_laptop_trains_has_no_metrics_unless_they_are_asked_for(images, tmp_path):
    metrics = lambda **given: arguments.training_options(data=images, **given)[1].metrics
    assert [metrics(cfg=cfg) for cfg in ['tiny', 'tiny-mixing', 'tiny-inpaint', 'drawn32']] == [[]] * 4
    assert [metrics(cfg=cfg) for cfg in ['auto', 'sarigan', 'stylegan2']] == [['fid50k_full']] * 3
    assert metrics(cfg='tiny', metrics=['kid50k_full']) == ['kid50k_full']
    assert metrics(cfg='sarigan', metrics=[]) == []
    mine = tmp_path / 'mine.toml'
    mine.write_text('base = "tiny"\n[training]\nmetrics = ["fd10k_lite0"]\n')
    assert metrics(cfg=str(mine)) == ['fd10k_lite0']
    assert metrics(cfg=str(mine), metrics=[]) == []
    for names, sentence in [('["fid"]', 'takes none, or of fid50k_full, '),
            ('"fid"', "must be a list of names, as in [\"fd10k_lite0\"], or [] for none, not 'fid'")]:
        mine.write_text(f'base = "tiny"\n[training]\nmetrics = {names}\n')
        with pytest.raises(UserError, match=re.escape(f'{mine}: metrics {sentence}')):
            metrics(cfg=str(mine))

@pytest.mark.parametrize('cfg', ['tiny', 'tiny-mixing', 'tiny-inpaint'])
def test_no_layer_of_tiny_has_fewer_than_four_channels_a_group_unless_a_number_is_typed(images, cfg):
    _desc, args = arguments.training_options(data=images, cfg=cfg)
    found = args.G_kwargs.num_groups # Of 64x64, where 8 channels are left.
    assert found == {'b64.conv1': 2, 'b64.conv0': 4, 'b32.conv1': 4, 'b32.conv0': 8, 'b16.conv1': 8, 'b16.conv0': 8,
        'b8.conv1': 8, 'b8.conv0': 8}
    for name, number in found.items():
        resolution, conv = int(name.split('.')[0][1:]), name[-1]
        source = resolution // (1 if conv == '1' else 2)
        assert options.channels_at(args.G_kwargs.synthesis_kwargs, source) >= 4 * number
    _desc, args = arguments.training_options(data=images, cfg=cfg, num_groups=8)
    assert args.G_kwargs.num_groups == 8
    _desc, args = arguments.training_options(data=images, cfg=cfg, num_groups='auto')
    assert args.G_kwargs.num_groups == 'auto'

def test_forms_of_the_inter_group_code_reach_the_generator_and_runs_without_them_have_no_such_options(images, tmp_path):
    mine = tmp_path / 'mine.toml'
    mine.write_text('base = "tiny"\n[method]\ninter_form = "exp"\ngroup_torgb = true\n')
    _desc, args = arguments.training_options(data=images, cfg=str(mine))
    assert (args.G_kwargs.inter_form, args.G_kwargs.group_torgb, args.loss_kwargs.inter_share) == ('exp', True, 0.3)
    G = networks.Generator(c_dim=0, img_resolution=64, img_channels=3,
        **{name: value for name, value in args.G_kwargs.items() if name != 'class_name'})
    assert hasattr(G.synthesis.b64.conv1.group_affine, 'beta')
    assert hasattr(G.synthesis.b32.torgb.affine, 'read_groups_of')
    for given in [dict(cfg='tiny'), dict(cfg=str(mine), grouping='none')]:
        _desc, args = arguments.training_options(data=images, **given)
        assert not {'inter_form', 'group_torgb'} & set(args.G_kwargs) and 'inter_share' not in args.loss_kwargs
    mine.write_text('base = "tiny"\n[method]\ninter_form = "tanh"\n')
    with pytest.raises(UserError, match="inter_form must be one of affine, exp, not 'tanh'"):
        arguments.training_options(data=images, cfg=str(mine))
    for share in [0, 1]:
        mine.write_text(f'base = "tiny"\n[method]\ninter_form = "exp"\ninter_share = {share}\n')
        with pytest.raises(UserError, match=f'inter_share must be between 0 and 1, not {share}'):
            arguments.training_options(data=images, cfg=str(mine))

def test_the_released_codes_config_flips_images_unless_told_not_to(images):
    for said, flips in [(None, True), (False, False), (True, True)]:
        desc, args = arguments.training_options(data=images, cfg='sarigan-released', mirror=said)
        assert args.training_set_kwargs.xflip is flips and ('-mirror' in desc) == bool(said)
    _desc, args = arguments.training_options(data=images, cfg='sarigan')
    assert args.training_set_kwargs.xflip is False

@pytest.mark.parametrize('whom, takers', [
    ('G', [networks.Generator]),
    ('D', [networks.Discriminator]),
    ('loss', [loss.SariGANLoss, inpainting_loss.InpaintingLoss]),
])
def test_networks_and_loss_have_the_defaults_of_the_options_that_they_are_given(whom, takers):
    constructors = [cls.__init__ for taker in takers for cls in taker.__mro__] # Some have a decorator's in front.
    known = {name: parameter.default for constructor in reversed(constructors)
        for name, parameter in inspect.signature(constructor).parameters.items()}
    given = {**options.given_to(whom, options.Method()), **options.given_to(whom, options.Inpainting())}
    assert given and {name: known[name] for name in given} == given
    for name in ['info_target', 'inter_share', 'regroup_kimg'] if whom == 'loss' else []: # Given where they are of use.
        assert known[name] == getattr(options.Method(), name)

def test_every_option_says_what_it_does():
    for field in options.FIELDS.values():
        assert len(field.metadata['help']) > 5, field.name

def test_without_groups_q_predicts_the_only_code(images):
    _desc, args = arguments.training_options(data=images, cfg='tiny', info_target='styles', grouping='none')
    assert 'q_features' not in args.D_kwargs and 'info_target' not in args.loss_kwargs

def test_every_config_file_can_be_read_and_summarised():
    for name, path in recipes.our_configs().items():
        recipe = recipes.read_recipe(path)
        assert recipe.summary.endswith('.') and (recipe.method is None) == (name == 'stylegan2-e'), name

@pytest.mark.parametrize('cfg, resolution, kimg, layers_of_d', [
    ('sarigan-cats256', 256, 1_400_000 * 32 // 1000, 16),
    ('sarigan-cars512', 512, 1_000_000 * 32 // 1000, 18),
    ('sarigan-ffhq1024', 1024, 25000, 20),
])
def test_configs_of_the_papers_data_sets_train_as_long_and_as_deep_as_it_says(cfg, resolution, kimg, layers_of_d):
    recipe = recipes.read_recipe(recipes.our_configs()[cfg])
    sarigan = recipes.read_recipe(recipes.our_configs()['sarigan'])
    training = dataclasses.replace(sarigan.training, kimg=kimg)
    assert recipe == dataclasses.replace(sarigan, summary=recipe.summary, training=training)
    D = networks.Discriminator(c_dim=0, img_resolution=resolution, img_channels=3, channel_base=8 * resolution,
        channel_max=8)
    layers = [name for name, module in D.named_modules()
        if type(module).__name__ in ['Conv2dLayer', 'FullyConnectedLayer'] and not name.endswith(('.skip', 'q'))]
    assert len(layers) == layers_of_d

def test_the_papers_baseline_is_upstreams_own_generator_and_loss_at_half_of_config_f(images):
    _desc, baseline = arguments.training_options(data=images, cfg='stylegan2-e', gpus=8)
    _desc, ours = arguments.training_options(data=images, cfg='sarigan-cats256', gpus=8)
    assert baseline.G_kwargs.class_name == 'training.networks.Generator'
    assert baseline.loss_kwargs.class_name == 'training.loss.StyleGAN2Loss'
    assert baseline.G_kwargs.synthesis_kwargs == ours.G_kwargs.synthesis_kwargs
    assert baseline.G_kwargs.synthesis_kwargs.channel_base == 16384
    for name in ['total_kimg', 'batch_size', 'batch_gpu', 'ema_kimg', 'ema_rampup']:
        assert baseline[name] == ours[name], name
    for name in ['G_opt_kwargs', 'D_opt_kwargs']:
        assert dict(baseline[name], fused=True) == ours[name], name # The same optimizer, in one pass over memory.

def test_sarigan_ada_augments_and_sarigan_released_weighs_as_the_released_code_does(images):
    _desc, ada = arguments.training_options(data=images, cfg='sarigan-ada')
    assert ada.ada_target == 0.6 and ada.augment_kwargs.class_name == 'training.augment.AugmentPipe'
    _desc, released = arguments.training_options(data=images, cfg='sarigan-released')
    assert (released.loss_kwargs.lambda_group, released.loss_kwargs.lambda_info) == (2.56, 20)

@pytest.mark.parametrize('cfg', ['sarigan', 'sarigan-ada', 'sarigan-cats256'])
def test_upstreams_pickles_of_256x256_have_the_size_of_our_networks(cfg):
    theirs = recipes.UPSTREAM_RECIPES['paper256'].networks # ffhq256 and two more.
    ours = recipes.read_recipe(recipes.our_configs()[cfg]).networks
    for name in ['channel_base', 'channel_max', 'mapping_layers', 'architecture']:
        assert getattr(theirs, name) == getattr(ours, name), name

def test_a_toml_file_says_only_what_differs_from_its_base(images, tmp_path):
    mine = tmp_path / 'mine.toml'
    mine.write_text('base = "sarigan"\n[method]\nnum_groups = 4\n')
    _desc, args = arguments.training_options(data=images, cfg=str(mine))
    _desc, sarigan = arguments.training_options(data=images, cfg='sarigan')
    assert args.G_kwargs == {**sarigan.G_kwargs, 'num_groups': 4} and args.loss_kwargs == sarigan.loss_kwargs

def test_a_base_may_have_a_base(tmp_path):
    mine = tmp_path / 'mine.toml'
    mine.write_text('base = "tiny-inpaint"\n[training]\nbatch = 8\n')
    ours, tiny = recipes.read_recipe(mine), recipes.read_recipe(recipes.our_configs()['tiny'])
    assert ours.training.batch == 8 and ours.training.ema_kimg == 0.5 # Of itself, and of its base.
    assert ours.training.r1_gamma == tiny.training.r1_gamma           # Of its base's base.
    assert ours.method == tiny.method
    assert ours.inpainting == recipes.read_recipe(recipes.our_configs()['tiny-inpaint']).inpainting

def test_a_toml_file_of_ones_own_works_like_a_name(images, tmp_path):
    mine = tmp_path / 'mine.toml'
    mine.write_text(recipes.our_configs()['sarigan'].read_text().replace('num_groups          = 16', 'num_groups = 4'))
    desc, args = arguments.training_options(data=images, cfg=str(mine))
    assert args.G_kwargs.num_groups == 4 and desc == 'images-mine'

def test_the_commands_of_the_documentation_are_understood():
    dataset_tool = importlib.import_module('dataset_tool')
    text = (trees.ROOT / 'docs' / 'datasets.md').read_text()
    commands = [line.split()[1:] for line in text.replace('\\\n', ' ').splitlines() if line.startswith('python ')]
    assert len(commands) >= 8
    for script, *words in commands:
        if script == 'dataset_tool.py':
            dataset_tool.convert_dataset.make_context(script, words) # Raises if there is no such option.
        else:
            cfg = train.main.make_context(script, words).params['cfg']
            recipes.find_recipe(cfg, resolution=256, gpus=8)

def test_the_table_of_the_paper_names_code_and_tests_that_exist():
    text = (trees.ROOT / 'docs' / 'paper-to-code.md').read_text()
    names = re.findall(r'`((?:model|losses|steering|trainer)\.[\w.]+)`', text)
    assert len(names) > 20
    for name in names:
        room, module, *path = name.split('.')
        found = importlib.import_module(f'sarigan_plugin.{room}.{module}')
        for part in path:
            found = getattr(found, part) # Raises if it isn't there.
    for file, test in re.findall(r'`(tests/[\w/]+\.py)::(\w+)`', text):
        assert f'def {test}(' in (trees.ROOT / file).read_text(), test
    for file in re.findall(r'`(configs/[\w-]+\.toml)`', text):
        assert (trees.ROOT / file).is_file(), file

#----------------------------------------------------------------------------
# Mistakes.

def broken(text, tmp_path):
    path = tmp_path / 'broken.toml'
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        recipes.read_recipe(path)
    sentence = str(caught.value)
    assert sentence.startswith(str(path)) and '\n' not in sentence
    return sentence[len(str(path)):]

GOOD = '''[networks]
channel_base = 256
mapping_layers = 2
mbstd_group = 4
[training]
kimg = 1
batch = 8
learning_rate = 0.002
r1_gamma = 1.0
ema_kimg = 1.0
'''

@pytest.mark.parametrize('text, sentence', [
    ('kimg = = 3', ' is not valid TOML: '),
    (GOOD + '[methods]\n', ": unknown key 'methods' in the file; did you mean method?"),
    (GOOD + 'kimgs = 3\n', ": unknown key 'kimgs' in [training]; did you mean kimg?"),
    (GOOD + '[method]\nxyzzy = 3\n', ": unknown key 'xyzzy' in [method]; it takes num_groups, grouping, attributes, "
        'lambda_group, lambda_info, code_dim, norm, threshold, inertia, similarity, info_target, info_mixing, '
        'regroup_kimg'),
    (GOOD + '[method]\nnum_groups = 0\n', ': num_groups must be at least 1, not 0'),
    (GOOD + '[method]\nnum_groups = 2.5\n', ': num_groups must be an integer, not 2.5'),
    (GOOD + '[method]\nnum_groups = true\n', ': num_groups must be an integer, not True'),
    (GOOD + '[method]\nlambda_info = -1\n', ': lambda_info must be at least 0, not -1.0'),
    (GOOD + '[method]\nlambda_info = nan\n', ': lambda_info must be a number, not nan'),
    (GOOD + '[method]\nlambda_info = inf\n', ': lambda_info must be a number, not inf'),
    (GOOD + '[method]\nlambda_info = "much"\n', ": lambda_info must be a number, not 'much'"),
    (GOOD + '[method]\ngrouping = "best"\n',
        ": grouping must be one of similarity, effects, attributes, kmeans, blocks, random, none, not 'best'"),
    (GOOD + 'grid = [8]\n', ': grid must be two positive integers, not [8]'),
    (GOOD.replace('kimg = 1\n', ''), ': [training] lacks kimg'),
    (GOOD.split('[training]', maxsplit=1)[0], ': the table [training] is missing'),
    ('networks = 3\n', ': networks must be a table, [networks]'),
    ('summary = 3\n' + GOOD, ': summary must be a string'),
    ('base = "sarigam"', f": base must be one of {', '.join(recipes.our_configs())}, not 'sarigam'"),
    ('base = ["sarigan"]', f": base must be one of {', '.join(recipes.our_configs())}, not ['sarigan']"),
    ('base = "sarigan"\ntraining = 3', ': training must be a table, [training]'),
])
def test_a_broken_toml_names_its_file_and_key(text, sentence, tmp_path):
    assert broken(text, tmp_path).startswith(sentence)

@pytest.mark.parametrize('given, sentence', [
    (dict(cfg='sarigam'), f"--cfg must be one of {', '.join([*recipes.our_configs(), *recipes.UPSTREAM_RECIPES])}, "
        "or the path of a .toml file, not 'sarigam'"),
    (dict(cfg='missing.toml'), 'missing.toml: No such file or directory'),
    (dict(gpus=3), '--gpus must be a power of two, not 3'),
    (dict(gpus=0), '--gpus must be a power of two, not 0'),
    (dict(snap=0), '--snap must be at least 1, not 0'),
    (dict(metrics=['fid']), "--metrics takes none, or of fid50k_full, kid50k_full, "),
    (dict(subset=13), '--subset must be between 1 and 12, not 13'),
    (dict(gamma=-1.0), '--gamma must be non-negative, not -1.0'),
    (dict(kimg=0), '--kimg must be at least 1, not 0'),
    (dict(batch=3, gpus=2), '--batch must be at least 1 and divisible by --gpus, not 3'),
    (dict(cfg='tiny', batch=18), '--batch must give each GPU a multiple of 4 images, which the minibatch '
        'standard deviation compares, not 18'),
    (dict(seed=-1), '--seed must be between 0 and 4294967295, not -1'),
    (dict(gpus=2, seed=2 ** 31), '--seed must be between 0 and 2147483647, not 2147483648'),
    (dict(cfg='tiny', gpus=32), '--gpus must divide the batch of 16, not be 32; --batch sets another'),
    (dict(aug='fixed'), '--aug=fixed requires specifying --p'),
    (dict(p=0.3), '--p can only be specified with --aug=fixed'),
    (dict(aug='fixed', p=1.5), '--p must be between 0 and 1, not 1.5'),
    (dict(aug='noaug', target=0.3), '--target can only be specified with --aug=ada'),
    (dict(target=2.0), '--target must be between 0 and 1, not 2.0'),
    (dict(aug='noaug', augpipe='bg'), '--augpipe cannot be specified with --aug=noaug'),
    (dict(freezed=-1), '--freezed must be non-negative, not -1'),
    (dict(workers=-1), '--workers must be at least 0, not -1'),
    (dict(resume='ffhq128'), "--resume must be a network pickle's path or URL, or one of ffhq256, ffhq512, ffhq1024, "
        "celebahq256, lsundog256, not 'ffhq128'"),
    (dict(data='missing.zip'), '--data: '),
    (dict(cfg='sarigan', num_groups=0), '--num-groups must be at least 1, not 0'),
    (dict(cfg='sarigan', num_groups=-4), '--num-groups must be at least 1, not -4'),
    (dict(cfg='tiny', num_groups=9),
        '--num-groups must be between 1 and 8, the channels of the layers at 64x64, not 9'),
    (dict(cfg='sarigan', lambda_group=-0.1), '--lambda-group must be at least 0, not -0.1'),
    (dict(cfg='sarigan', lambda_info=float('nan')), '--lambda-info must be a number, not nan'),
    (dict(cfg='stylegan2', num_groups=8), '--num-groups: only for the configs of SariGAN, drawn32, drawn64, sarigan, '
        'sarigan-ada, sarigan-cars512, sarigan-cats256, sarigan-ffhq1024, sarigan-inpaint, sarigan-released, tiny, '
        'tiny-inpaint, tiny-mixing'),
])
def test_a_mistaken_option_is_named_with_what_it_takes(images, given, sentence):
    with pytest.raises(UserError) as caught:
        arguments.training_options(**dict(dict(data=images), **given))
    assert str(caught.value).startswith(sentence)

#----------------------------------------------------------------------------
