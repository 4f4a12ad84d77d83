"""The training set of inpainting, whose labels are masked images, and what its sample sheets show."""

import functools

import numpy as np
import torch

from sarigan_plugin.datasets import masks, splits
from sarigan_plugin.model.inpainting import join_condition, split_condition

from training.dataset import ImageFolderDataset

#----------------------------------------------------------------------------

class InpaintingDataset(ImageFolderDataset):
    """Upstream's data set of a folder or zip; the label of an image is the condition of inpainting,
    see join_condition().

    An image has the same hole every time, so that metrics of two networks are about the same holes; their FID is that
    of completed images. Training draws its own holes, see losses/inpainting.py.
    """
    def __init__(self,
        path,                   # Directory or zip.
        mask_source = 'mixed',  # One of masks.KINDS, or a folder of masks.
        split       = 'all',    # Which of the images, see splits.SPLITS.
        **folder_kwargs,        # Other arguments of ImageFolderDataset.
    ):
        self.split = split
        self.has_conditions = True
        self._last_image = (None, None) # An image and its label are asked for one after the other.
        super().__init__(path, **folder_kwargs)
        self._last_image = (None, None) # It may be that of another, see bad_images._of_any_good_image().
        self.masks = masks.Source(mask_source, self.resolution)

    @property
    def _image_fnames(self):
        """Upstream's list of files, which it makes images of one by one: here those of the split."""
        return self._split_fnames

    @_image_fnames.setter
    def _image_fnames(self, names):
        self._split = splits.indices(len(names), self.split)
        self._split_fnames = [names[index] for index in self._split]

    def without_conditions(self):
        """From now on labels are empty and cost nothing: the training loop draws many, and the loss makes its own."""
        self.has_conditions = False

    @property
    def has_labels(self):
        """No classes, which sample sheets would sort the images by."""
        return False

    @property
    def label_shape(self):
        return [(self.num_channels + 1) * self.resolution ** 2]

    def get_label(self, idx):
        """[label_dim] float32, or [0]."""
        if not self.has_conditions:
            return np.zeros([0], dtype=np.float32)
        image = self._load_raw_image(self._raw_idx[idx])
        image = image[:, :, ::-1] if self._xflip[idx] else image
        return self.conditions(image[np.newaxis], [self._raw_idx[idx]])[0]

    def conditions(self, images, indices):
        """Labels [N, label_dim] of images [N, C, H, W] in uint8, with the holes of the images that have these indices
        in the split. After its last image the first one follows, as in sample sheets of small data sets."""
        holes = np.stack([self.masks.of_index(self._split[index % len(self._split)]) for index in indices])
        return join_condition(_as_tensor(images), torch.from_numpy(holes).unsqueeze(1)).numpy()

    def _load_raw_image(self, raw_idx):
        if self._last_image[0] != raw_idx:
            self._last_image = (raw_idx, super()._load_raw_image(raw_idx))
        return self._last_image[1]

def _as_tensor(images):
    """uint8 -> float32 in [-1, 1], as upstream's loop does."""
    return torch.from_numpy(np.ascontiguousarray(images)).to(torch.float32) / 127.5 - 1

#----------------------------------------------------------------------------

class Sheets:
    """Sample sheets of upstream's loop.

    Where it trains inpainting, each sample is input, output and truth side by side.
    """

    def __init__(self):
        self.images = None # The truth in [0, 255] and its labels, [N, ...].
        self.labels = None

    @functools.cache # noqa: B019 # One wrapper for one function, however often a process is prepared.
    def setting_up(self, setup_snapshot_image_grid):
        """In place of upstream's function, as saving() is."""
        def wrapper(training_set, **kwargs):
            size, images, labels = setup_snapshot_image_grid(training_set, **kwargs)
            self.images = None
            if isinstance(training_set, InpaintingDataset):
                labels = training_set.conditions(images, range(len(images)))
                self.images, self.labels = images, labels
            return size, images, labels
        return wrapper

    @functools.cache # noqa: B019
    def saving(self, save_image_grid):
        def wrapper(img, fname, drange, **kwargs):
            if self.images is not None and drange == [-1, 1]: # Those of reals.png are in [0, 255].
                truth = _as_tensor(self.images)
                shown, _hole = split_condition(torch.from_numpy(self.labels), *truth.shape[1:3])
                img = np.concatenate([shown.numpy(), img, truth.numpy()], axis=3)
            save_image_grid(img, fname, drange=drange, **kwargs)
        return wrapper

sheets = Sheets() # Of this process.

#----------------------------------------------------------------------------
