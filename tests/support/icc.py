"""Colour profiles, made by hand from the numbers of sRGB (ICC.1:2001)."""

import itertools
import struct

def profile(space, tags, connection=b'XYZ ', kind=b'mntr'):
    start = 128 + 4 + 12 * len(tags)
    body, table = b'', struct.pack('>I', len(tags))
    for name, content in tags.items():
        table += struct.pack('>4sII', name, start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack('>I4sI4s4s4s12s4s4sI4s4s8sI3i4s', start + len(body), bytes(4), 0x02100000, kind, space,
        connection, bytes(12), b'acsp', bytes(4), 0, bytes(4), bytes(4), bytes(8), 0,
        63190, 65536, 54061, bytes(4)) # The last: D50.
    return header.ljust(128, b'\0') + table + body

def fixed(*numbers):
    return struct.pack(f'>{len(numbers)}i', *(round(number * 65536) for number in numbers))

XYZ = lambda *numbers: b'XYZ \0\0\0\0' + fixed(*numbers)
GAMMA = lambda gamma: b'curv\0\0\0\0' + struct.pack('>IH', 1, round(gamma * 256))
NAME = lambda name: b'desc\0\0\0\0' + struct.pack('>I', len(name) + 1) + name + bytes(1 + 4 + 4 + 2 + 1 + 67)
# Of sRGB, seen in D50.
PRIMARIES = [(0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)]
WHITE = {b'desc': NAME(b'ours'), b'wtpt': XYZ(0.9642, 1, 0.8249)}

def rgb_profile(order, gamma=2.2, name=b'ours'):
    """order: which of sRGB's primaries red, green and blue are."""
    return profile(b'RGB ', WHITE | {b'desc': NAME(name)} | {bytes([channel]) + tag: value
        for channel, index in zip(b'rgb', order)
        for tag, value in [(b'XYZ', XYZ(*PRIMARIES[index])), (b'TRC', GAMMA(gamma))]})

GREY_LINEAR = profile(b'GRAY', WHITE | {b'kTRC': GAMMA(1)})

def cmyk_profile():
    """Its inks are all grey: L* = 100 (1 - K) (1 - (C + M + Y) / 3)."""
    curves = bytes(range(256))
    nodes = b''.join(bytes([round(255 * (1 - k) * (1 - (c + m + y) / 3)), 128, 128])
        for c, m, y, k in itertools.product((0, 1), repeat=4))
    table = b'mft1\0\0\0\0' + bytes([4, 3, 2, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + curves * 4 + nodes + curves * 3
    return profile(b'CMYK', WHITE | {b'A2B0': table, b'A2B1': table}, b'Lab ', b'prtr')
