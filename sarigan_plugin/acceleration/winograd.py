"""Convolutions with 3x3 kernels in a quarter of the multiplications, for the CPU.

F(4x4, 3x3) of Lavin & Gray 2016 (1509.09308).

Each 4x4 pixels of an output depend on 6x6 of the input, a tile. Tiles d and kernels k become 36 numbers each, B d B^T
and K k K^T; these meet in 36 matrix products over channels, one for each position; and A m A^T are the 4x4 pixels. The
gradients need the same three matrices and no more. The matrices are those of polynomials taken at 0, 1, -1, 1/2, -2
and infinity, with which rounding is least (Barabasz et al. 2018, 1803.10986): it is as large as that of PyTorch's own.
"""

import torch

LEAST_CHANNELS = 128     # With fewer, matrix products are too small to be worth what comes before and after.
LEAST_FEATURES = 2 ** 19 # Numbers in x: with fewer, the kernels' 36 numbers cost more than is saved.
BLOCK          = 2 ** 21 # Numbers in a block of tiles, 8 MiB: small products are slow, large ones leave the cache.

B = torch.tensor([
    [2, -3, -4,  3, 2, 0],
    [0, -2,  1,  5, 2, 0],
    [0,  2, -5,  1, 2, 0],
    [0, -4, -2,  4, 2, 0],
    [0,  1, -2, -1, 2, 0],
    [0,  2, -3, -4, 3, 2]]) / 2
K = torch.tensor([
    [ 15,   0,  0],
    [  5,   5,  5],
    [ -5,   5, -5],
    [-16,  -8, -4],
    [  1,  -2,  4],
    [  0,   0, 15]], dtype=torch.float64) / 15
A = torch.tensor([
    [1, 1,  1, 1,    1, 0],
    [0, 1, -1, 1/2, -2, 0],
    [0, 1,  1, 1/4,  4, 0],
    [0, 1, -1, 1/8, -8, 1]])

PIXELS, TILE = A.shape # 4 pixels of the output need 6 of the input, along both axes.

def suits(x, w):
    """Whether convolve() does torch.nn.functional.conv2d() of x and w, [O, C, 3, 3], padded by 1, in less time."""
    return (x.dtype == torch.float32 and min(w.shape[:2]) >= LEAST_CHANNELS
        and x.shape[2] % PIXELS == x.shape[3] % PIXELS == 0 and x.numel() >= LEAST_FEATURES)

#----------------------------------------------------------------------------

def convolve(x, w, adjoint=False):
    """conv2d(x, w, padding=1) for x [N, C, H, W], whose H and W are multiples of four, and w [O, C, 3, 3].

    adjoint: of its gradient [N, O, H, W], that of x.
    """
    kernels = _for_both_axes(K.flip(1) if adjoint else K, w) @ w.reshape(-1, 9).t() # The adjoint turns kernels around
    kernels = kernels.view(TILE ** 2, *w.shape[:2])
    if adjoint:                                                                    # and swaps their channels.
        kernels = kernels.transpose(1, 2)
    to_tiles, to_pixels = _for_both_axes(B, x), _for_both_axes(A, x)
    padded = torch.nn.functional.pad(x, [1, 1, 1, 1])
    y = x.new_empty([len(x), kernels.shape[1], *x.shape[2:]])
    for images, rows in _blocks(x):
        products = torch.bmm(kernels, _tiles(padded, images, rows, to_tiles)) # [36, O, tiles]
        pixels = _pixels(y, images, rows)
        pixels.copy_((to_pixels @ products.flatten(1)).view(pixels.shape))
    return y

def kernel_gradient(x, dy):
    """The gradient [O, C, 3, 3] of w from x [N, C, H, W], whose H and W are multiples of four, and dy [N, O, H, W],
    that of conv2d(x, w, padding=1)."""
    to_tiles, from_pixels = _for_both_axes(B, x), _for_both_axes(A.t(), x)
    padded = torch.nn.functional.pad(x, [1, 1, 1, 1])
    kernels = x.new_zeros([TILE ** 2, dy.shape[1], x.shape[1]])
    for images, rows in _blocks(x):
        dproducts = (from_pixels @ _pixels(dy, images, rows).reshape(PIXELS ** 2, -1)).view(TILE ** 2, dy.shape[1], -1)
        torch.baddbmm(kernels, dproducts, _tiles(padded, images, rows, to_tiles).transpose(1, 2), out=kernels)
    return (_for_both_axes(K.t(), x) @ kernels.flatten(1)).t().reshape(*kernels.shape[1:], 3, 3)

def _for_both_axes(matrix, like):
    """The matrix that does to a flattened tile what matrix does to its rows and to its columns."""
    return torch.kron(matrix, matrix).to(like.dtype)

def _blocks(x):
    """Slices of images and of rows of tiles that cover x [N, C, H, W], about BLOCK numbers of tiles each,
    and one row at least."""
    num_rows, num_columns = x.shape[2] // PIXELS, x.shape[3] // PIXELS
    rows_at_once = max(BLOCK // (TILE ** 2 * x.shape[1] * num_columns), 1)
    images_at_once = max(rows_at_once // num_rows, 1)
    return [(slice(image, image + images_at_once), slice(row, min(row + rows_at_once, num_rows)))
        for image in range(0, len(x), images_at_once) for row in range(0, num_rows, rows_at_once)]

def _tiles(padded, images, rows, to_tiles):
    """B d B^T for a block of padded features [N, C, H + 2, W + 2]: [36, C, tiles]."""
    block = padded[images, :, PIXELS * rows.start : PIXELS * rows.stop + 2]
    tiles = block.unfold(2, TILE, PIXELS).unfold(3, TILE, PIXELS) # [n, C, rows, W / 4, 6, 6]
    return (to_tiles @ tiles.permute(4, 5, 1, 0, 2, 3).reshape(TILE ** 2, -1)).view(TILE ** 2, padded.shape[1], -1)

def _pixels(y, images, rows):
    """A view of a block of y [N, O, H, W] as [4, 4, O, n, rows, W / 4]."""
    block = y[images, :, PIXELS * rows.start : PIXELS * rows.stop]
    return block.unflatten(3, [-1, PIXELS]).unflatten(2, [-1, PIXELS]).permute(3, 5, 1, 0, 2, 4)

#----------------------------------------------------------------------------
