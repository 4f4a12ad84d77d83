"""The styles of any layer of a SariGAN or of a StyleGAN2, read and changed."""

import contextlib

def styled_layers(G):
    """{name: layer} of the layers that are grouped, or would be: all convolutions but the first.

    Of SariGAN or upstream's StyleGAN2.
    """
    blocks = {res: getattr(G.synthesis, f'b{res}') for res in G.synthesis.block_resolutions[1:]}
    return {f'b{res}.{conv}': getattr(block, conv) for res, block in blocks.items() for conv in ['conv0', 'conv1']}

def all_styles(layer, w):
    """As the layer makes them, whatever changes them meanwhile: (styles [N, C],), or with shifts in the feature form.

    w: [N, w_dim].
    """
    if not hasattr(layer, 'styles'): # Upstream's.
        return layer.affine.forward(w),
    return _as_tuple(type(layer).styles(layer, w))

def layer_styles(layer, w):
    """A style for each channel that the layer reads, as it is by now. w: [N, w_dim]. Returns [N, C]."""
    return _as_tuple(layer.styles(w) if hasattr(layer, 'styles') else layer.affine(w))[0]

def _as_tuple(styles):
    return styles if isinstance(styles, tuple) else (styles,)

@contextlib.contextmanager
def restyled(layer, change):
    """Inside the `with`, the layer has other styles. change: [N, C] -> [N, C]."""
    with restyled_by_code(layer, lambda styles, _w: (change(styles[0]), *styles[1:])):
        yield

@contextlib.contextmanager
def restyled_by_code(layer, change):
    """As restyled(), with the shifts of the feature form, and the code that they come of.

    change: (styles, as of all_styles(), w [N, w_dim]) -> as many [N, C]. One inside another changes what that made.
    """
    if not hasattr(layer, 'styles'): # Upstream's.
        with hooked(layer.affine, lambda args, out: change((out,), args[0])[0]):
            yield
        return
    own, before = layer.styles, vars(layer).get('styles')
    def changed(w, *membership):
        styles = own(w, *membership)
        new = change(_as_tuple(styles), w)
        return new if isinstance(styles, tuple) else new[0]
    layer.styles = changed # Hides the method of that name,
    try:
        yield
    finally:
        del layer.styles # and no longer.
        if before is not None:
            layer.styles = before

@contextlib.contextmanager
def hooked(module, change):
    """Inside the `with`, what a module returns is changed. change: (its arguments, what it returned) -> the same."""
    handle = module.register_forward_hook(lambda _module, args, out: change(args, out))
    try:
        yield
    finally:
        handle.remove()

#----------------------------------------------------------------------------
