"""Which files are pictures.

One rule for all that reads folders and archives: training, `data folder`, `inpaint`, `project`, `explore`.
"""

import functools
import os

import PIL.Image

# What systems and programs leave beside pictures, in lower case. Names that begin with a dot are hidden, and junk as
# well: ._img.png of macOS, .ipynb_checkpoints, .DS_Store.
JUNK = frozenset(['__macosx', '@eadir', 'thumbs.db', 'ehthumbs.db', 'desktop.ini', '$recycle.bin',
    'system volume information', 'lost+found'])

# Pillow knows the first bytes of these, but not how to read what follows.
UNREADABLE_FORMATS = frozenset(['BUFR', 'GRIB', 'HDF5', 'MPEG'])

def is_junk(name: str) -> bool:
    """Is it hidden, or left there by a system? name: a path within the folder or archive; each of its parts counts."""
    return any(part.startswith('.') or part.lower() in JUNK
        for part in name.replace('\\', '/').split('/') if part not in ('', '.'))

@functools.cache
def extensions() -> frozenset[str]:
    """The extensions of all formats that Pillow can read, in lower case, with their dots."""
    PIL.Image.init()
    return frozenset(extension for extension, kind in PIL.Image.EXTENSION.items() if kind in PIL.Image.OPEN
        and kind not in UNREADABLE_FORMATS)

def is_picture(name: str) -> bool:
    """Does its name say that a file is a picture, and is it no junk? The case of the extension does not count."""
    return os.path.splitext(name)[1].lower() in extensions() and not is_junk(name)

def walk(folder: str, junk: list[str] | None = None) -> list[str]:
    """The files in a folder and all folders below it, as paths relative to it, sorted.

    Links to folders are followed, and each real folder is read once, under its own name where it has one here.
    Folders that are junk are left alone; the list `junk` gets their paths.
    Raises OSError for a folder that can't be read.
    """
    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    links: list[tuple[str, str]] = []
    def enter(path: str, prefix: str) -> None:
        status = os.stat(path)
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(path) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                name = prefix + entry.name
                if not entry.is_dir(): # False for links that lead nowhere.
                    found.append(name)
                elif is_junk(entry.name):
                    if junk is not None:
                        junk.append(name)
                elif entry.is_symlink():
                    links.append((entry.path, name + '/'))
                else:
                    enter(entry.path, name + '/')
    enter(folder, '')
    while links: # After all real folders, so that these keep their names.
        enter(*links.pop(0))
    return sorted(found)
