"""Pickles written instruction by instruction."""

import struct

def text(value):
    value = str(value).encode()
    return b'X' + struct.pack('<I', len(value)) + value

def name(module, attribute):
    return f'c{module}\n{attribute}\n'.encode()

def call(function, *args):
    return function + b'(' + b''.join(args) + b'tR'

def record(source, class_name='Generator', state=b'}'):
    """An object of a persistent class, with its source."""
    meta = (b'}(' + text('type') + text('class') + text('version') + b'K\x06' + text('module_src') + text(source)
        + text('class_name') + text(class_name) + text('state') + state + b'u')
    return call(name('torch_utils.persistence', '_reconstruct_persistent_obj'), meta)

def networks_of(thing):
    return b'}(' + text('G') + thing + text('D') + b'N' + text('G_ema') + b'Nu.'
