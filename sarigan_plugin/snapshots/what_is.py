"""What a file or folder is that somebody took for a network: its first bytes tell, or the names in it. Nothing runs.

Answers are phrases that go on after "it is", with the command that reads such a file where there is one.
"""

import codecs
import glob
import io
import os
import pickletools
import re
import shlex
import warnings
import zipfile

import PIL.Image

from sarigan_plugin.snapshots import exported
from sarigan_plugin.support import picture_files

import dnnlib

HEAD             = 4096             # Bytes that most formats are known by.
MAX_INSTRUCTIONS = 2_000_000        # Of pickles; those of networks have tens of thousands.
MAX_WORD         = 100              # Characters of a name in a pickle; source text is longer.

OLD_CHECKPOINT   = b'\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.' # How torch.save() began until PyTorch 1.6, after the protocol.
ARCHIVES         = {b'\x1f\x8b': 'gzip', b'BZh': 'bzip2', b'\xfd7zXZ\0': 'xz', b'\x28\xb5\x2f\xfd': 'Zstandard',
                    b'7z\xbc\xaf\x27\x1c': '7-Zip', b'Rar!': 'RAR'}
WEB_PAGE         = re.compile(rb'(\xef\xbb\xbf)?\s*<(!doctype|html|head|\?xml)', re.IGNORECASE)

#----------------------------------------------------------------------------

def other_format(file, path):
    """What an open file is whose format is another one than that of pickles, or None. path: what the user calls it."""
    try:
        return _other_format(file, path)
    except Exception: # Who knows what a broken or hostile file leads to.
        return None

def _other_format(file, path):
    head = _beginning(file)
    if not head:
        return 'an empty file'
    if head.startswith(b'version https://git-lfs'):
        return 'a Git LFS stub, which `git lfs pull` exchanges for the file itself'
    if WEB_PAGE.match(head):
        return 'a web page, not the file that the page offers for download'
    if head.startswith(b'sarigan training state '):
        run = _quoted(os.path.dirname(path) or '.')
        return (f'a training state: `sarigan train --resume={run}` goes on from it, '
            'and the networks of that run are its network-snapshot-*.pkl')
    if zipfile.is_zipfile(file):
        return _zip(file, path)
    if head.startswith(b'PK\x03\x04'):
        return 'a part of a zip file, as a download leaves that did not finish'
    if head[2:].startswith(OLD_CHECKPOINT):
        return _checkpoint(_words(_whole(file), pickles=5)[0], path)
    if len(head) > 8 and head[8:9] == b'{' and int.from_bytes(head[:8], 'little') < 2 ** 30:
        return _safetensors(path)
    archive = next((name for magic, name in ARCHIVES.items() if head.startswith(magic)), None)
    if head[257:262] == b'ustar':
        archive = 'tar'
    if archive is not None:
        return f'an archive ({archive}), which may have to be unpacked first'
    return _picture(file) if not head.startswith(b'\x80') else None # As all pickles begin since Python 2.3.

def other_pickle(file, path, converted=False):
    """What an open file is that proved to be no network pickle of ours, or None.

    converted: whether upstream's own reader has tried in vain, which knows StyleGAN2 of TensorFlow.
    """
    head = _beginning(file)
    if not head.startswith(b'\x80'):
        return 'a text file' if _is_text(head) else None
    words, flaw = _words(_whole(file))
    if {'dnnlib.tflib.network', 'tfutil'} & words:
        name = 'StyleGAN' if 'G_style' in words else 'Progressive GAN' if {'tfutil', 'G_paper'} & words else 'StyleGAN2'
        if name != 'StyleGAN2':
            return f'one of {name} in TensorFlow, which its own tools alone read'
        command = f'`python legacy.py --source={_quoted(path)} --dest=NEW.pkl`, in stylegan2-ada-pytorch,'
        return f'one of StyleGAN2 in TensorFlow, which {command} converts' if not converted else None
    if 'SuperresGenerator' in words:
        return 'one of StyleGAN-XL, which its own tools alone read'
    if 'SynthesisInput' in words:
        return 'one of StyleGAN3, which its own tools alone read: `python gen_images.py`'
    if 'pg_modules.discriminator' in words:
        return 'one of Projected GAN, which its own tools alone read'
    if flaw is not None and _last_byte(file) != b'.': # As the last of whole ones.
        return f'a part of a pickle, as a download leaves that did not finish ({flaw})'
    return None

def folder(path):
    """What a folder without the description of an exported network is."""
    newest = newest_network(path)
    if newest is not None:
        return f'the folder of a training, whose newest network is {newest!r}'
    if os.path.exists(os.path.join(path, exported.TENSORS)):
        return f'an exported network without its {exported.DESCRIPTION}'
    return f'a folder without the {exported.DESCRIPTION} that `sarigan export` writes'

def newest_network(folder):
    """The path of the last network that a training left in its folder, or None."""
    return max(glob.glob(os.path.join(glob.escape(folder), 'network-snapshot-*.pkl')), default=None)

def is_checkpoint(path):
    """Whether torch.save() wrote this file."""
    try:
        with open(path, 'rb') as f:
            if zipfile.is_zipfile(f):
                return _checkpoint_inside(_names_in(f)) is not None
            return _beginning(f)[2:].startswith(OLD_CHECKPOINT)
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return False

#----------------------------------------------------------------------------

def _beginning(file):
    file.seek(0)
    return file.read(HEAD)

def _whole(file):
    """In memory, where nothing is made ready for a string that only says that it is long."""
    file.seek(0)
    return io.BytesIO(file.read())

def _last_byte(file):
    file.seek(-1, os.SEEK_END)
    return file.read(1)

def _quoted(path):
    """For a command to be copied, from whichever folder."""
    whole = path if dnnlib.util.is_url(path, allow_file_urls=True) else os.path.abspath(path)
    return shlex.quote(whole) if whole.isprintable() else repr(whole)

def _words(file, pickles=1):
    """The names in as many pickles, one after the other: of modules, classes and keys, and of one class in source text.

    Returns a set, and why the last pickle can't be read to its end, or None.
    """
    words = set()
    try:
        for _pickle in range(pickles):
            for count, (_instruction, arg, _position) in enumerate(pickletools.genops(file)):
                if count >= MAX_INSTRUCTIONS:
                    return words, None
                if isinstance(arg, str) and len(arg) <= MAX_WORD:
                    words.update(arg.split(' '))
                elif isinstance(arg, str) and 'class SuperresGenerator' in arg:
                    words.add('SuperresGenerator')
    except Exception as error: # Who knows what a broken or hostile file leads to.
        return words, str(error)
    return words, None

def _names_in(file):
    with zipfile.ZipFile(file) as archive:
        return archive.namelist()

def _is_script(names):
    """Whether a zip of these files is of TorchScript."""
    return any(re.fullmatch(r'([^/]*/)?constants\.pkl', name) for name in names)

def _checkpoint_inside(names):
    """Which file of a zip that torch.save() wrote is the pickle, or None for other zips."""
    pickles = [name for name in names if re.fullmatch(r'([^/]*/)?data\.pkl', name)]
    return pickles[0] if pickles and not _is_script(names) else None

def _zip(file, path):
    names = _names_in(file)
    if _is_script(names):
        return 'a TorchScript file, as --detector takes it'
    inside = _checkpoint_inside(names)
    if inside is not None:
        with zipfile.ZipFile(file) as archive:
            if archive.getinfo(inside).compress_type != zipfile.ZIP_STORED: # PyTorch never compresses; this might grow.
                return _checkpoint(set(), path)
            with archive.open(inside) as f:
                return _checkpoint(_words(f)[0], path)
    pictures = sum(map(picture_files.is_picture, names))
    if pictures:
        return f'a zip of {pictures} pictures, as --data takes it'
    return 'a zip file, which may have to be unpacked first'

def _checkpoint(words, path):
    if {'g_ema', 'to_rgb1.conv.weight'} <= words:
        command = f'`sarigan import {_quoted(path)} --to=NEW.pkl`'
        return f'a checkpoint of rosinality\'s stylegan2-pytorch or of the released SariGAN, which {command} converts'
    return 'a PyTorch checkpoint of another project'

def _safetensors(path):
    inside = os.path.dirname(path)
    if exported.is_exported(inside):
        return f'the tensors of an exported network alone: its folder is what commands take, {inside or "."!r}'
    return ('a safetensors file, which has tensors alone; '
        f'`sarigan export` writes a folder with a {exported.DESCRIPTION} as well, and that is what commands take')

def _picture(file):
    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return f'a picture ({PIL.Image.open(file).format})'
    except Exception: # As for whatever Pillow says of what it doesn't know.
        return None

def _is_text(head):
    try:
        text = codecs.getincrementaldecoder('utf-8')().decode(head)
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter.isspace() for letter in text)

#----------------------------------------------------------------------------
