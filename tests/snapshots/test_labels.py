"""Labels of conditional networks, classes and vectors, and grey networks: in every command, and what networks know."""

import json
import pickle
import shutil

import numpy as np
import PIL.Image
import pytest
import torch

import small_images
import small_training
import unmodified
from commands import run
from sarigan_plugin.ablation import job as ablation_job
from sarigan_plugin.snapshots import label_kind, reading, unpickler
from sarigan_plugin.steering.edits import Edit
from sarigan_plugin.steering.recipe import EditRecipe
from sarigan_plugin.steering.sampling import label_vector, labels, latents, render, sample_ws
from sarigan_plugin.trainer import upstream_loop

from training import training_loop

VECTOR = (0.2, 0.8)
QUICK = ['--num-steps=1', '--features=none', '--space=w']
EDIT = ['--layer=b8.conv1', '--group=0', '--inter=2']

def refusal(result):
    assert result.exit_code == 2, result.output
    return result.stderr.strip().splitlines()[-1].removeprefix('Error: ')

def picture(path):
    with PIL.Image.open(path) as image:
        return np.array(image)

@pytest.fixture
def save(make_generator, make_discriminator, tmp_path):
    """save(name, kind, c_dim=..., img_channels=...) -> (G, path of its pickle). kind: of its labels, None = unknown."""
    def write(name, kind=None, **shape):
        G = make_generator(**dict(dict(grouping='blocks'), **shape)).requires_grad_(False)
        label_kind.remember(G, kind)
        path = tmp_path / f'{name}.pkl'
        D = make_discriminator(c_dim=G.c_dim, img_channels=G.img_channels)
        path.write_bytes(pickle.dumps(dict(G=G, D=D, G_ema=G, training_set_kwargs=None, augment_pipe=None)))
        return G, path
    return write

#----------------------------------------------------------------------------
# Every command, with every kind of network.

@pytest.fixture
def photo(tmp_path):
    path = tmp_path / 'photo.png'
    PIL.Image.fromarray(np.random.RandomState(0).randint(256, size=[40, 50, 3], dtype=np.uint8)).save(path)
    return path

def commands(path, photo, out):
    """{command: its arguments}, of all that make images with a class or label."""
    return {
        'generate':         [f'--network={path}', '--seeds=0', f'--outdir={out}'],
        'groups':           [path, '--seeds=0', f'--outdir={out}'],
        'edit':             [path, '--seed=0', f'--outdir={out}', *EDIT],
        'mix':              [path, '--rows=0', '--cols=1', f'--outdir={out}'],
        'directions':       [path, '--seeds=0', '--layer=b8.conv0', f'--outdir={out}'],
        'disentanglement':  [path, '--num-images=100', '--measures=codes', f'--outdir={out}'],
        'project':          [path, f'--target={photo}', *QUICK, f'--outdir={out}'],
    }

NETWORKS = {
    'grey':             (dict(img_channels=1), None, []),
    'classes':          (dict(c_dim=2), 'classes', ['--class=1']),
    'mixed-classes':    (dict(c_dim=2), 'classes', ['--class=0.2,0.8']),
    'grey-vectors':     (dict(c_dim=2, img_channels=1), 'vectors', ['--class=0.2,0.8']),
    'unknown':          (dict(c_dim=2), None, ['--class=0.2,0.8']),
}

SLOW = ['mixed-classes', 'unknown'] # They differ from the others in the label alone.

@pytest.mark.parametrize('name', [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
    for name in NETWORKS])
def test_every_command_works_with_grey_and_conditional_networks(save, photo, tmp_path, name):
    shape, kind, given = NETWORKS[name]
    _G, path = save('network', kind, **shape)
    for command, arguments in commands(path, photo, tmp_path / 'out').items():
        done = run(command, *arguments, *given)
        assert done.exit_code == 0, (command, done.output, done.exception)
        assert any((tmp_path / 'out').iterdir()), command
        shutil.rmtree(tmp_path / 'out')

@pytest.mark.parametrize('shape', [dict(img_channels=1), dict(c_dim=2, img_channels=1),
    pytest.param(dict(c_dim=2), marks=pytest.mark.slow)], ids=str)
def test_quality_and_exports_need_no_class(save, tmp_path, shape):
    G, path = save('network', 'vectors' if 'c_dim' in shape else None, grouping='similarity', **shape)
    (tmp_path / 'images').mkdir()
    for index in range(30):
        pixels = np.random.RandomState(index).randint(256, size=[32, 32, 3], dtype=np.uint8)
        image = PIL.Image.fromarray(pixels if G.img_channels == 3 else pixels[:, :, 0])
        image.save(tmp_path / 'images' / f'{index:03d}.png')
    if G.c_dim > 0:
        found = [[f'{index:03d}.png', [index, 1]] for index in range(30)]
        (tmp_path / 'images' / 'dataset.json').write_text(json.dumps(dict(labels=found)))
    detector = small_images.save_script(tmp_path / 'colours.pt')
    done = run('metrics', path, '--device=cpu', f'--data={tmp_path / "images"}', '--metrics=fd10k', '--num-samples=20',
        f'--detector={detector}')
    assert done.exit_code == 0, (done.output, done.exception)
    assert run('export', path, f'--to={tmp_path / "folder"}').exit_code == 0
    assert run('import', tmp_path / 'folder', f'--to={tmp_path / "again.pkl"}').exit_code == 0
    assert label_kind.of(reading.load(str(tmp_path / 'again.pkl'), 'PKL')) == label_kind.of(G)
    done = run('export', path, f'--to={tmp_path / "theirs.pt"}')
    assert done.exit_code == (2 if 'c_dim' in shape else 0), done.output # Theirs have no labels.

def test_a_class_is_refused_by_networks_of_vectors_wherever_one_is_taken(save, photo, tmp_path):
    _G, path = save('network', 'vectors', c_dim=2)
    sentence = ('the network was trained on label vectors, not on classes, and needs one of 2 numbers: '
        '--class=0.2,0.8 or --label=FILE.')
    jobs = {**commands(path, photo, tmp_path / 'out'), 'explore': [path, '--no-browser', '--port=0']}
    for command, arguments in jobs.items():
        for given in [['--class=1'], []]: # What is the default elsewhere is none here.
            assert refusal(run(command, *arguments, *given)) == f'--class: {sentence}', command
    assert not (tmp_path / 'out').exists()

@pytest.mark.parametrize('given, sentence', [
    (['--class=0.2,0.8,1'],             '--class: the label has 3 numbers, and those of the network have 2 (c_dim).'),
    (['--class=0.5'],                   '--class: the label has 1 number, and those of the network have 2 (c_dim).'),
    (['--label=three.txt'],             '--label: the label has 3 numbers, and those of the network have 2 (c_dim).'),
    (['--class=2'],                     '--class: 2 is out of range: the classes are 0 to 1.'),
    (['--class=1', '--label=two.txt'],  '--label takes the place of --class; give one of the two.'),
    (['--class=one'],                   "Invalid value for '--class': "
                                        "'one' is neither a class, as in 1, nor a label vector, as in 0.2,0.8"),
    (['--class=nan,1'],                 "Invalid value for '--class': "
                                        "'nan,1' is neither a class, as in 1, nor a label vector, as in 0.2,0.8"),
    (['--label=nowhere.txt'],           "Invalid value for '--label': "
                                        "'nowhere.txt' cannot be read (No such file or directory)"),
    (['--label=words.txt'],             "Invalid value for '--label': 'words.txt': "
                                        "'a few words' is not a list of numbers, as in 0.2,0.8"),
    (['--label=empty.txt'],             "Invalid value for '--label': 'empty.txt': "
                                        "'' is not a list of numbers, as in 0.2,0.8"),
    (['--label=photo.png'],             "Invalid value for '--label': 'photo.png' is no text: "
                                        "it must hold a list of numbers, as in 0.2,0.8"),
    (['--label=.'],                     "Invalid value for '--label': '.' cannot be read (Is a directory)"),
])
def test_what_is_no_label_gets_one_sentence_that_names_the_flag(save, photo, tmp_path, monkeypatch, given, sentence):
    monkeypatch.chdir(tmp_path)
    for name, text in dict(two='1 2', three='1\n2\n3\n', words='a few words', empty='').items():
        (tmp_path / f'{name}.txt').write_text(text)
    _G, path = save('network', 'classes', c_dim=2)
    arguments = commands(path, photo, tmp_path / 'out')
    for command in ['generate', 'edit']: # Each checks in a way of its own.
        assert refusal(run(command, *arguments[command], *given)).rstrip('.') == sentence.rstrip('.')
    assert not (tmp_path / 'out').exists()

def test_a_label_is_none_of_networks_without_classes(save, photo, tmp_path):
    _G, path = save('network')
    for command, arguments in commands(path, photo, tmp_path / 'out').items():
        sentence = '--class: the network has no classes, and takes no label.'
        assert refusal(run(command, *arguments, '--class=0.2,0.8')) == sentence, command

#----------------------------------------------------------------------------
# What a label vector does.

@pytest.mark.parametrize('text',
    ['0.2,0.8', '[0.2, 0.8]\n', ' 0.2 0.8 ', '0.2\n0.8\n', '2e-1,\t0.8,', '[\n0.2,\n0.8\n]'])
def test_numbers_are_read_however_they_are_written(text):
    assert label_vector(text) == VECTOR

def test_a_label_vector_is_what_the_mapping_network_gets(save):
    G, _path = save('network', c_dim=2)
    expected = G.mapping(latents(G, [3, 4]), torch.tensor([VECTOR, VECTOR]), truncation_psi=0.7)
    for vector in [VECTOR, list(VECTOR), np.array(VECTOR), torch.tensor(VECTOR)]:
        assert torch.equal(sample_ws(G, [3, 4], class_idx=vector), expected)
    assert torch.equal(sample_ws(G, [3], class_idx=(0, 1)), sample_ws(G, [3], class_idx=1)) # One-hot.
    assert torch.equal(labels(G, 2), torch.zeros(2, 2))

@pytest.mark.parametrize('kind', ['vectors', 'classes'])
def test_flag_file_recipe_and_python_make_the_same_image(save, tmp_path, kind):
    G, path = save('network', kind, c_dim=2)
    (tmp_path / 'label.json').write_text(json.dumps(VECTOR))
    expected = render(G, sample_ws(G, [5], 1, VECTOR))
    for number, given in enumerate(['--class=0.2,0.8', f'--label={tmp_path / "label.json"}']):
        done = run('generate', f'--network={path}', '--seeds=5', given, f'--outdir={tmp_path / str(number)}')
        assert done.exit_code == 0, done.output
        assert np.array_equal(picture(tmp_path / str(number) / 'seed0005.png'), expected)
    assert not np.array_equal(render(G, sample_ws(G, [5], 1, 1)), expected)

    done = run('edit', path, '--seed=5', '--trunc=1', f'--label={tmp_path / "label.json"}', *EDIT,
        f'--outdir={tmp_path / "edit"}')
    assert done.exit_code == 0 and np.array_equal(picture(tmp_path / 'edit' / 'before.png'), expected)
    recipe = EditRecipe.read(tmp_path / 'edit' / 'edit.json')
    assert recipe == EditRecipe([Edit('b8.conv1', 0, inter_scale=2)], [5], 1, VECTOR)
    assert np.array_equal(picture(tmp_path / 'edit' / 'after.png'), recipe.render(G)[0])
    again = run('edit', path, f'--recipe={tmp_path / "edit" / "edit.json"}', f'--outdir={tmp_path / "again"}')
    assert again.exit_code == 0 and np.array_equal(picture(tmp_path / 'again' / 'after.png'), recipe.render(G)[0])

def test_labels_are_kept_beside_pictures_and_figures(save, photo, tmp_path):
    _G, path = save('network', 'vectors', c_dim=2)
    for command, name in dict(groups='attention.json', directions='directions.json', project='project.json').items():
        out = tmp_path / command
        assert run(command, *commands(path, photo, out)[command], '--class=0.2,0.8').exit_code == 0
        assert json.loads((out / name).read_text())['class_idx'] == [0.2, 0.8]
    assert 'label 0.2, 0.8' in (tmp_path / 'groups' / 'index.html').read_text()

#----------------------------------------------------------------------------
# What networks know of their training.

def constructed(tmp_path, of_index, cond):
    """What upstream's loop would make of a data set of such labels: (data set, G, D)."""
    small_training.write_images(tmp_path / 'images', count=6)
    found = [[f'{index:02d}.png', of_index(index)] for index in range(6)]
    (tmp_path / 'images' / 'dataset.json').write_text(json.dumps(dict(labels=found)))
    upstream_loop.prepare('cpu')
    construct = training_loop.dnnlib.util.construct_class_by_name
    data = construct(class_name='training.dataset.ImageFolderDataset', path=str(tmp_path / 'images'), use_labels=cond)
    common = dict(c_dim=data.label_dim, img_resolution=16, img_channels=3)
    size = dict(channel_base=64, channel_max=8)
    G = construct(class_name='training.networks.Generator', z_dim=8, w_dim=8, mapping_kwargs=dict(num_layers=1),
        synthesis_kwargs=size, **common)
    return data, G, construct(class_name='training.networks.Discriminator', **size, **common)

@pytest.mark.parametrize('of_index, cond, kind', [
    (lambda index: index % 3,           True,   'classes'),
    (lambda index: [index / 6, 0.5],    True,   'vectors'),
    (lambda index: [index / 6, 0.5],    False,  None),
])
def test_networks_remember_what_their_labels_were_with_every_reader(tmp_path, of_index, cond, kind):
    _data, G, D = constructed(tmp_path, of_index, cond)
    data = dict(G=G.eval(), D=D.eval(), G_ema=G, training_set_kwargs=None, augment_pipe=None)
    path = tmp_path / 'network.pkl'
    path.write_bytes(pickle.dumps(data))
    for trust in [False, True]:
        assert label_kind.of(reading.load(str(path), 'PKL', trust=trust)) == kind
    if kind == 'vectors':
        done = run('generate', f'--network={path}', '--seeds=0', '--class=1', f'--outdir={tmp_path}')
        assert 'needs one of 2 numbers' in refusal(done)

def test_samples_of_an_ablation_have_labels_that_the_network_was_trained_with(save, tmp_path):
    data, *_networks = constructed(tmp_path, lambda index: [index / 6, 0.5], cond=True)
    kwargs = dict(class_name='training.dataset.ImageFolderDataset', path=str(tmp_path / 'images'), use_labels=True)
    of_vectors, of_classes = (save(kind, kind, c_dim=c_dim)[0] for kind, c_dim in [('vectors', 2), ('classes', 3)])
    found = ablation_job.class_indices(of_vectors, kwargs, 8)
    assert np.array_equal(found, [data.get_label(index) for index in [0, 1, 2, 3, 4, 5, 0, 1]])
    assert ablation_job.class_indices(of_classes, kwargs, 4) == [0, 1, 2, 0]

def test_what_a_hostile_pickle_says_of_its_labels_is_not_believed(save):
    for nonsense in ['vector', ['vectors'], 3]:
        G, path = save('network', nonsense, c_dim=2)
        read = unpickler.read(path.read_bytes())['G_ema']
        assert not hasattr(read, label_kind.ATTRIBUTE) and label_kind.of(G) is None

def test_a_pickle_that_says_what_its_labels_were_loads_in_an_unmodified_tree(save, any_tree):
    _G, path = save('network', 'vectors', c_dim=2)
    code = ('import legacy, sys, torch\n'
        'G = legacy.load_network_pkl(open(sys.argv[1], "rb"))["G_ema"]\n'
        'print(tuple(G(torch.zeros(1, G.z_dim), torch.tensor([[0.2, 0.8]])).shape), sys.modules["sarigan_plugin"])')
    assert unmodified.run(any_tree, code, path) == '(1, 3, 32, 32) None\n'

#----------------------------------------------------------------------------
