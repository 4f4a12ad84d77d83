"""Pictures in a folder, a zip or a tar: which there are, and their bytes.

Archives are read in memory; no name in one ever becomes a path. A name is a path within the source, with slashes. What
opens a picture is small and can be sent to other processes.
"""

import collections
import contextlib
import functools
import io
import os
import posixpath
import stat
import tarfile
import zipfile
from dataclasses import dataclass

from sarigan_plugin.datasets import archive as dataset_zip
from sarigan_plugin.datasets.listing import ATTRIBUTES, LABELS
from sarigan_plugin.datasets.picture_conversion import UNREADABLE, Refused
from sarigan_plugin.errors import first_line
from sarigan_plugin.support import picture_files

TABLES = (LABELS, ATTRIBUTES) # What is said of pictures, beside them.

MAX_MEMBER_BYTES = 1 << 29 # Of a picture in an archive, unpacked: it is held in memory.

# Pictures by their names that Pillow can't read. They are listed, where a text or a video is only counted.
FOREIGN = {'.heic': 'HEIC', '.heif': 'HEIC', '.svg': 'SVG', '.jxl': 'JPEG XL',
    **dict.fromkeys(['.dng', '.cr2', '.cr3', '.nef', '.arw', '.raf', '.orf', '.rw2'], 'a raw format of cameras')}

# Beside the zip that is made: in a folder that is read again they are no pictures of the user's.
PREVIEW, REPORT = '.preview.png', '.report.json'

FORMAT = 'in a format that Pillow does not read (convert to JPEG)'

#----------------------------------------------------------------------------
# One picture. open() gives a binary stream that can seek, for a look at its head, load() one that costs nothing to
# seek in. Both raise Refused.

@dataclass(frozen=True, slots=True)
class InFolder:
    folder: str
    name:   str

    def open(self):
        path = os.path.join(self.folder, self.name)
        with _reading():
            if not stat.S_ISREG(os.stat(path).st_mode): # A pipe would be waited for.
                raise Refused(UNREADABLE, 'it is no regular file')
            return open(path, 'rb')

    load = open

@dataclass(frozen=True, slots=True)
class InZip:
    path:  str
    entry: zipfile.ZipInfo

    def open(self):
        _check_bytes(self.entry.file_size)
        with _reading():
            return _zip_at(self.path).open(self.entry)

    def load(self):
        with self.open() as stream, _reading():
            return io.BytesIO(stream.read()) # To the end, where the checksum is compared.

@functools.lru_cache(maxsize=1)
def _zip_at(path):
    """A zip whose directory has not been read: with a million entries that takes seconds, and half a gigabyte."""
    archive = zipfile.ZipFile(io.BytesIO(b'PK\5\6' + bytes(18)))
    archive.fp = open(path, 'rb')
    return archive

@dataclass(frozen=True, slots=True)
class InTar:
    path:   str
    offset: int # Of its bytes.
    size:   int

    def open(self):
        _check_bytes(self.size)
        member = tarfile.TarInfo()
        member.offset_data, member.size = self.offset, self.size
        with _reading():
            return _tar_at(self.path).extractfile(member)

    def load(self):
        with self.open() as stream, _reading():
            return io.BytesIO(stream.read())

@functools.lru_cache(maxsize=1)
def _tar_at(path):
    return tarfile.open(path, 'r:')

@contextlib.contextmanager
def _reading():
    try:
        yield
    except Refused:
        raise
    except OSError as error:
        raise Refused(UNREADABLE, f'it cannot be read: {error.strerror or first_line(error)}') from None
    except Exception as error: # Of zipfile and zlib; RuntimeError for what is encrypted.
        raise Refused(UNREADABLE, first_line(error)) from None

def _check_bytes(size):
    if size > MAX_MEMBER_BYTES:
        raise Refused(UNREADABLE, f'it has {size} bytes unpacked, more than the {MAX_MEMBER_BYTES} that are read')

#----------------------------------------------------------------------------
# All pictures.

@dataclass
class Source:
    pictures:   list                # (name, what opens it), sorted by the parts of names, as upstream sorts a folder.
    left_out:   list                # (name, Refused) of those that can't be opened.
    labels:     object              # What opens the dataset.json beside them, or None.
    attributes: object              # What opens the attributes.json beside them, or None.
    junk:       int                 # Hidden files and folders, and what systems leave.
    others:     collections.Counter # Files that are no pictures, by extension; previews of our own.

def find(path, unpacked):
    """The Source at a path.

    unpacked: where a file for the pictures of a compressed tar may be made, which can only be read from front to back.
    Raises ValueError, with one sentence, for what can't be read, and OSError for what can't be written there.
    """
    junk = []
    _zip_at.cache_clear() # What was read before may have been replaced.
    _tar_at.cache_clear()
    with _readable(path):
        if os.path.isdir(path):
            members = [(name, InFolder(path, name)) for name in picture_files.walk(path, junk)]
            return _sort_out(members, junk)
        with open(path, 'rb'): # It is there, and may be read.
            pass
        kind = next((kind for kind, is_one in KINDS.items() if is_one(path)), None)
    if kind is None:
        raise ValueError(f'{path} is neither a folder nor a zip or tar archive.')
    refused = _unpack(path, unpacked) if kind == 'compressed tar' else []
    with _readable(path):
        members = _members_of_zip(path) if kind == 'zip' else _members_of_tar(path if kind == 'tar' else unpacked)
        return _sort_out(_below_common_folder(members + refused), junk)

def _is_plain_tar(path):
    try:
        with tarfile.open(path, 'r:'):
            return True
    except tarfile.TarError:
        return False

KINDS = {'zip': zipfile.is_zipfile, 'tar': _is_plain_tar, 'compressed tar': tarfile.is_tarfile}

@contextlib.contextmanager
def _readable(path):
    """Inside the `with`, whatever goes wrong becomes ValueError."""
    try:
        yield
    except OSError as error:
        raise ValueError(f'{error.filename or path} cannot be read: {error.strerror or error}.') from None
    except Exception as error: # Of zipfile, tarfile, zlib, lzma; EOFError.
        raise ValueError(f'{path} is a broken archive ({first_line(error)}): is its download complete?') from None

def _members_of_zip(path):
    with zipfile.ZipFile(path) as archive:
        return [(_tidy(_name_in_zip(entry)), InZip(path, entry)) for entry in archive.infolist() if not entry.is_dir()]

def _name_in_zip(entry):
    """Macs write UTF-8 and don't say so, which zipfile takes for the code page of MS-DOS."""
    if not entry.flag_bits & 0x800:
        with contextlib.suppress(UnicodeError):
            return entry.filename.encode('cp437').decode()
    return entry.filename

def _members_of_tar(path):
    found = dict()
    with tarfile.open(path, 'r:') as tar:
        for member in _members(tar):
            name = _tidy(member.name)
            if member.islnk() and _tidy(member.linkname) in found: # The same file again, under another name.
                found[name] = found[_tidy(member.linkname)]
            elif _is_regular(member):
                found[name] = InTar(path, member.offset_data, member.size)
            else:
                found[name] = Refused(UNREADABLE, 'it is a link, or no regular file')
    return list(found.items())

def _members(tar):
    """The members of a tar that are no folders. tarfile forgets each: a million need not be in memory."""
    for member in iter(tar.next, None):
        tar.members.clear()
        if not member.isdir():
            yield member

def _is_regular(member):
    return member.isreg() and not member.issparse()

def _unpack(path, unpacked):
    """Make a plain tar of a compressed one: of files that are not wanted it has the names.

    Returns [(name, what refuses to open it)] of those that are too large.
    """
    refused = []
    with _readable(path):
        source = tarfile.open(path)
    with source, tarfile.open(unpacked, 'w') as dest:
        members = _members(source)
        while True:
            with _readable(path):
                member = next(members, None)
                if member is None:
                    return refused
                copy, content = tarfile.TarInfo(_tidy(member.name)), b''
                if not _is_regular(member):
                    copy.type = tarfile.LNKTYPE if member.islnk() else tarfile.SYMTYPE
                    copy.linkname = _tidy(member.linkname)
                elif member.size > MAX_MEMBER_BYTES:
                    refused.append((copy.name, InTar(path, 0, member.size)))
                elif picture_files.is_picture(copy.name) or posixpath.basename(copy.name) in TABLES:
                    content = source.extractfile(member).read()
            copy.size = len(content)
            dest.addfile(copy, io.BytesIO(content))

def _below_common_folder(members):
    """Members, with names that begin below the one folder that all are in, if there is one: people archive folders."""
    names = [name for name, _member in members if not picture_files.is_junk(name)]
    tops = {name.partition('/')[0] if '/' in name else None for name in names}
    if len(tops) == 1 and None not in tops:
        prefix = f'{tops.pop()}/'
        members = [(name.removeprefix(prefix), member) for name, member in members]
    return members

def _tidy(name):
    """A name in an archive, as Windows, tar and zip write it, with slashes between its parts and none before."""
    return posixpath.normpath('/' + name.replace('\\', '/')).lstrip('/')

def _sort_out(members, junk_folders):
    """Source of [(name, what opens it, or why not)]. Of equal names the last counts, as in an unpacked archive."""
    members = dict(members)
    source = Source(pictures=[], left_out=[], labels=members.get(LABELS), attributes=members.get(ATTRIBUTES),
        junk=0, others=collections.Counter())
    junk = set(junk_folders)
    for name in sorted(members, key=lambda name: name.replace('/', '\0')): # By their parts: before all other letters.
        extension = os.path.splitext(name)[1].lower()
        if posixpath.basename(name).startswith('.') and name.endswith(dataset_zip.UNFINISHED):
            continue
        if picture_files.is_junk(name):
            junk.add(_junk_part(name))
        elif name.endswith(PREVIEW) and name.removesuffix(PREVIEW) + REPORT in members:
            source.others[PREVIEW] += 1
        elif extension in FOREIGN:
            source.left_out.append((name, Refused(FORMAT, FOREIGN[extension])))
        elif not picture_files.is_picture(name):
            source.others[extension or 'without extension'] += name not in TABLES
        elif isinstance(members[name], Refused):
            source.left_out.append((name, members[name]))
        else:
            source.pictures.append((name, members[name]))
    source.junk = len(junk)
    return source

def _junk_part(name):
    """The name up to the first part that is junk: of a folder of junk it is the same for all that is in it."""
    parts = name.split('/')
    return '/'.join(parts[: next(index for index, part in enumerate(parts) if picture_files.is_junk(part)) + 1])

#----------------------------------------------------------------------------
