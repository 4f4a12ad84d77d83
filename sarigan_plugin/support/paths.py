"""Paths as people type them."""

import os

#----------------------------------------------------------------------------

def expanded(path: str) -> str:
    """The path with ~ and ~user as a shell has them, which leaves them alone in --data=~/x.

    URLs and words stay as they are.

    Raises ValueError, with one sentence, where a folder named ~ would be made.
    """
    found = os.path.expanduser(path)
    if found.startswith('~') and not os.path.lexists(found):
        user = path.partition('/')[0]
        raise ValueError(f'no home folder is known for {user!r}; a name that begins with ~ is given as {"./" + path!r}')
    return found

#----------------------------------------------------------------------------
