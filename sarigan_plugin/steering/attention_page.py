"""The figures and pictures of `sarigan groups` as a page for a browser, which needs no network and runs no script."""

import os
import xml.etree.ElementTree as ET
from pathlib import Path

from sarigan_plugin.steering.sampling import is_vector
from sarigan_plugin.support import files, look, pictures

# Of a group: heading, what the heading means, key in the figures, how to print it.
COLUMNS = [
    ('Channels', 'how many the group has', 'size', '{}'),
    ('Kernels within', 'mean cosine of the kernels of two of its channels', 'kernel_within', '{:.3f}'),
    ('Kernels between', 'mean cosine of the kernels of one of its channels and one of another group',
        'kernel_between', '{:.3f}'),
    ('Responses within', 'mean correlation of the feature maps of two of its channels', 'response_within', '{:.3f}'),
    ('Responses between', 'mean correlation of the feature maps of one of its channels and one of another group',
        'response_between', '{:.3f}'),
    ('Coherence', 'smoothness of its attention maps: 1 for one large blob, 0 for noise', 'coherence', '{:.3f}'),
    ('Effect', 'how much one part of the image changes, and the rest does not, when it is turned off',
        'effect', '{:.3f}'),
]

STYLE = Path(__file__).with_name('attention_page.css')

#----------------------------------------------------------------------------

def write(path, figures, images, overlays):
    """Write the page, and its pictures into the folder groups/ beside it.

    figures: as in attention.json, see attention.draw_all(). images: uint8 [N, H, W, 3].
    overlays: {layer name: [uint8 [N, H, W, 3] for each group]}.
    """
    folder = os.path.join(os.path.dirname(path), 'groups')
    os.makedirs(folder, exist_ok=True)
    size = _save_row(images, os.path.join(folder, 'images.png'))
    for layer in figures['layers']:
        for group in layer['groups']:
            of_group = overlays[layer['name']][group['group']]
            _save_row(of_group, os.path.join(folder, f'{layer["name"]}-{group["group"]}.png'))
    with files.atomic_open(path) as f:
        f.write(b'<!DOCTYPE html>\n' + ET.tostring(_page(figures, size), encoding='ascii', method='html') + b'\n')

def _save_row(images, path):
    """Write images beside each other. Returns the size of the picture."""
    row = pictures.sheet(pictures.enlarge(images, 96), columns=len(images))
    pictures.save(row, path)
    return row.size

def _element(tag, *content, **attributes):
    """An element with texts and elements inside. Whatever is in texts and attributes is escaped when it is written."""
    element = ET.Element(tag, {name.rstrip('_'): str(value) for name, value in attributes.items()})
    for part in content:
        if not isinstance(part, str):
            element.append(part)
        elif len(element):
            element[-1].tail = (element[-1].tail or '') + part
        else:
            element.text = (element.text or '') + part
    return element

#----------------------------------------------------------------------------

def _class_text(class_idx):
    """'; class 1', '; label 0.2, 0.8', or '' where there are no classes."""
    if class_idx is None:
        return ''
    if is_vector(class_idx):
        return f'; label {", ".join(f"{number:g}" for number in class_idx)}'
    return f'; class {class_idx}'

def _page(figures, size):
    """size: (width, height) of each row of images."""
    title = f'Channel groups of {figures["network"]}'
    head = _element('head', _element('meta', charset='utf-8'),
        _element('meta', name='viewport', content='width=device-width'), _element('title', title),
        _element('style', look.css() + STYLE.read_text(encoding='utf-8')))
    bar = _element('header', _element('div', 'SariGAN', class_='brand'),
        _element('div', figures['network'], class_='network'), class_='bar')
    layers = [_layer(layer, size) for layer in figures['layers']]
    main = _element('main', _intro(figures, title), _strip(figures), *layers)
    return _element('html', head, _element('body', bar, main), lang='en')

def _intro(figures, title):
    """What the page shows, and links to the layers."""
    seeds = ', '.join(map(str, figures['seeds']))
    made_with = f'seeds {seeds}; truncation {figures["trunc"]:g}{_class_text(figures["class_idx"])}'
    text = _element('p', 'Each row is one group of the channels that a layer reads, each column one image. Red is '
        'where the mean of the feature maps of the group is high (Fig. 3 of the paper), scaled for each group alone. '
        'The bars show how many channels each group has.')
    meanings = _facts({heading: meaning for heading, meaning, _key, _form in COLUMNS})
    layers = [_element('li', _element('a', layer['name'], href=f'#{layer["name"]}')) for layer in figures['layers']]
    return _element('section', _element('h1', title), _element('p', made_with, class_='note'), text,
        _element('details', _element('summary', 'What the figures of a group mean'), meanings),
        _element('nav', _element('ul', *layers, class_='layers')), class_='panel')

def _strip(figures):
    """The group that moves one part of the image most."""
    layer, index = figures['strongest']['layer'], figures['strongest']['group']
    label = next(group['label'] for of_layer in figures['layers'] for group in of_layer['groups']
        if (of_layer['name'], group['group']) == (layer, index))
    return _element('figure',
        _element('figcaption', 'Moves one part of the image most: ', _link(layer, index, f'{layer}, {label}')),
        _element('img', src='strip.png', alt='Its inter-group code, from negative to three times what it is.'),
        class_='panel')

def _facts(facts):
    return _element('dl', *[_element(tag, text) for fact in facts.items() for tag, text in zip(['dt', 'dd'], fact)])

def _link(layer, group, text, **attributes):
    return _element('a', text, href=f'#{layer}-{group}', **attributes)

def _layer(layer, size):
    name = layer['name']
    groups = layer['groups']
    side = layer['resolution']
    read = f'{side}x{side}' if side is not None else 'of all layers: each has one knob in several'
    facts = {
        'Reads':        f'{layer["channels"]} channels in {len(groups)} groups, {read}',
        'Kernels':      f'cosine {_within_and_between(layer, "kernel")}',
        'Responses':    f'correlation {_within_and_between(layer, "response")}',
        'Coherence':    f'{_figure(layer["coherence"])}, of random groups {_figure(layer["coherence_random"])}',
        'Temperature':  f't = {_figure(layer["temperature"])}',
        'Threshold':    f'r = {_figure(layer["threshold"])}',
    }
    if layer['temperature'] is None: # Groups that are not learned.
        del facts['Temperature'], facts['Threshold']
    if side is None:
        del facts['Kernels'], facts['Responses']
    sizes = [_element('li', _link(name, group['group'], str(group['group']),
        title=f'{group["label"]}: {group["size"]} channels'), style=f'flex-grow: {group["size"]}')
        for group in groups if group['size'] > 0]
    headings = ['Group', 'Attends to', *[heading for heading, _meaning, _key, _form in COLUMNS]]
    head = [_element('th', heading, scope='col') for heading in headings]
    images = _element('tr', _element('th', 'images', scope='row'),
        _element('td', _picture('images', 'The images.', size)), _element('td', colspan=len(COLUMNS)))
    rows = [_group(name, group, size) for group in groups]
    table = _element('table', _element('thead', _element('tr', *head)), _element('tbody', images, *rows))
    return _element('section', _element('h2', name), _facts(facts), _element('ol', *sizes, class_='sizes'), table,
        id=name, class_='panel')

def _within_and_between(layer, what):
    within, between = _figure(layer[f'{what}_within']), _figure(layer[f'{what}_between'])
    return f'{within} within groups, {between} between'

def _group(layer, group, size):
    cells = [_element('td', _figure(group[key], form), **{'data-label': heading})
        for heading, _meaning, key, form in COLUMNS]
    picture = 'It has no channels.'
    if group['size'] > 0:
        picture = _picture(f'{layer}-{group["group"]}', f'What {group["label"]} of {layer} attends to.', size)
    return _element('tr', _element('th', group['label'], scope='row'), _element('td', picture), *cells,
        id=f'{layer}-{group["group"]}')

def _picture(name, alt, size):
    return _element('img', src=f'groups/{name}.png', alt=alt, width=size[0], height=size[1], loading='lazy')

def _figure(value, form='{:.3f}'):
    return '–' if value is None else form.format(value)

#----------------------------------------------------------------------------
