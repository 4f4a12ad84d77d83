"""Images that a training goes without: left_out = {of: the stamp of the data set, images: names} among its options."""

from collections.abc import Sequence
from typing import Any

from sarigan_plugin.datasets import check as dataset_check, splits

def names(options: dict[str, Any]) -> list[str]:
    """Of images; none where options, of a file that somebody has edited, say nothing of the kind."""
    found = options.get('left_out')
    images = found.get('images') if isinstance(found, dict) else None
    return images if isinstance(images, list) and all(isinstance(name, str) for name in images) else []

def go_without(args: Any, images: Sequence[str]) -> None:
    """Let args train without these images of the data set, and with all others, as a run that goes on began."""
    data = args.training_set_kwargs
    args.left_out = dict(of=None, images=list(images)) # No look has found just these.
    if 'random_seed' not in data: # --subset is as large as before.
        count = dataset_check.images_without(data.path, images)
        data.max_size = len(splits.indices(count, data.get('split', 'all')))

#----------------------------------------------------------------------------
