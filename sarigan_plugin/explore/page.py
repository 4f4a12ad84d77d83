"""The page of `sarigan explore`: what is on it, and what each part does to the visitor's session."""

import base64
import random
import warnings
import weakref
from pathlib import Path

import fastapi
import uvicorn
from nicegui import background_tasks, ui

from sarigan_plugin.errors import first_line
from sarigan_plugin.explore.guard import MAX_UPLOAD, Guard
from sarigan_plugin.explore.session import LOOKS
from sarigan_plugin.explore.studio import Newest
from sarigan_plugin.snapshots import label_kind
from sarigan_plugin.steering import groupings
from sarigan_plugin.steering.edits import WrongField
from sarigan_plugin.steering.sampling import is_vector, label_vector
from sarigan_plugin.support import look

STYLE               = Path(__file__).with_name('page.css')
RECONNECT_SECONDS   = 60    # A page that was cut off finds its session again for so long; then it is freed.
DRAW_SECONDS        = 120   # A first image may have to wait for those of many others.
NEW_INTRA_SEED      = 1     # Where the intra-group code comes from until a visitor chooses.

# What the fields of Edit and EditRecipe are called on the page.
LABELS = dict(inter_scale='Times', inter_shift='Plus', intra_seed='Seed to take from', intra_mix='Share', seeds='Seed',
    trunc='Truncation', class_idx='Class',
    photo='Photo', hole='Hole', stroke='Stroke')

#----------------------------------------------------------------------------

def serve(page, studio, listener, title):
    """Answer on a listening socket until SIGINT or SIGTERM, with a Page, or another class of pages, for each visitor.

    Raises KeyboardInterrupt after SIGINT.
    """
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @ui.page('/', title=f'{title} | sarigan explore', response_timeout=DRAW_SECONDS)
    async def _page():
        await page(studio, title).drawing.request()

    ui.run_with(app, dark=None, tailwind=False, reconnect_timeout=RECONNECT_SECONDS, message_history_length=20,
        show_welcome_message=False)
    # NiceGUI looks at all objects as it starts; one of PyTorch's warns of that.
    warnings.filterwarnings('ignore', r'.torch\.distributed', FutureWarning)
    config = uvicorn.Config(Guard(app), log_level='error', timeout_graceful_shutdown=2, server_header=False)
    uvicorn.Server(config).run(sockets=[listener])

#----------------------------------------------------------------------------
# Parts.

class Picture(ui.element):
    """An image whose pixels stay crisp. Its content travels inside the page: no address leads to it."""
    def __init__(self, alt, tag='img'):
        super().__init__(tag)
        self.props['alt'] = alt
        self.classes('picture')

    def show(self, png):
        source = as_address(png)
        if self.props.get('src') != source:
            self.props['src'] = source

def as_address(png):
    """A PNG as what <img> takes for its source."""
    return 'data:image/png;base64,' + base64.b64encode(png).decode()

class Slider(ui.slider):
    LOOPBACK = False # The browser need not ask where the thumb is: keys held down would get lost.

    def on(self, *args, **options):
        """As ui.slider.on(), at once: NiceGUI sends the last of several moves by a timer, and by then a visitor may
        have another group at hand."""
        return super().on(*args, **{**options, 'throttle': 0})

class Dial:
    """A slider, and a number box for what lies beyond it."""
    def __init__(self, label, low, high, step, tip, on_move, on_release):
        self.value = None
        self.on_move = on_move
        with ui.element('div').classes('dial'):
            ui.label(label).tooltip(tip)
            self.slider = Slider(min=low, max=high, step=step, on_change=self._moved).props(f'aria-label="{label}"').on(
                'change', on_release)
            self.number = (ui.number(step=step, on_change=self._moved)
                .props(f'dense borderless hide-bottom-space aria-label="{label}, number"').on('blur', on_release))

    def show(self, value):
        self.value = value
        self.slider.set_value(value)
        self.number.set_value(value)

    def _moved(self, event):
        if event.value not in [None, self.value]: # show() comes here as well.
            self.on_move(event.value)

def tile(on_click):
    """A button with what is put inside."""
    return ui.element('button').classes('tile').props('type=button').on('click', on_click)

#----------------------------------------------------------------------------

class Page:
    """One visitor's. Nothing outlives it: when the browser has gone, session and pictures go as well."""

    LOOK_NAMES = {look: look.capitalize() for look in LOOKS}

    def __init__(self, studio, title):
        self.studio = studio
        self.session, self.view = studio.visit()
        self.drawing = Newest(self._draw)
        self.client = ui.context.client
        ui.add_css(look.editor_css() + STYLE.read_text(encoding='utf-8'))
        ui.keyboard(on_key=self._press)
        self._build_bar(title)
        with ui.element('div').classes('explore'):
            with ui.element('div').classes('column-left'):
                with ui.element('div').classes('stage') as self.stage:
                    self._build_pictures()
                with ui.element('div').classes('panel image'):
                    self._build_image()
                with ui.element('div').classes('panel edits'):
                    ui.label('Edits').classes('heading')
                    self.edits = ui.element('div').classes('list')
            with ui.element('div').classes('column-right'):
                with ui.element('div').classes('panel'):
                    self._build_groups()
                with ui.element('div').classes('panel'):
                    self._build_hand()
        self._show()

    #------------------------------------------------------------------------
    # What is there.

    def _build_bar(self, title):
        with ui.element('header').classes('bar'):
            ui.label('SariGAN').classes('brand')
            ui.label(title).classes('network')
            self.undo = self._button('Undo', 'undo', lambda: self._act(self.session.undo))
            self.redo = self._button('Redo', 'redo', lambda: self._act(self.session.redo))
            self.reset = self._button('Reset', 'restart_alt', lambda: self._act(self.session.reset),
                'Take all edits away')
            self._build_files()

    def _build_files(self):
        self._upload_button('Open', 'folder_open', self._open, 'A recipe (edit.json) or a projection (projected_w.npz)')
        self._save_button('The image as PNG, and its recipe for `sarigan edit`')

    def _save_button(self, tip):
        self._button('Save', 'save', self._save, tip).props('unelevated color=primary').props(remove='flat')

    def _upload_button(self, text, icon, on_upload, tip):
        """on_upload: a method of this page."""
        # FastAPI never forgets what an upload refers to.
        opened, rejected = weakref.WeakMethod(on_upload), weakref.WeakMethod(self._reject)
        upload = ui.upload(auto_upload=True, max_file_size=MAX_UPLOAD,
            on_upload=lambda event: opened()(event), on_rejected=lambda: rejected()()).classes('hidden')
        button = self._button(text, icon, None, tip)
        button.on('click', js_handler=f'() => runMethod({upload.id}, "pickFiles", [])')

    def _button(self, text, icon, on_click, tip=None):
        button = ui.button(text, icon=icon, on_click=on_click).props('flat no-caps dense')
        return button.tooltip(tip) if tip else button

    def _build_pictures(self):
        with ui.element('figure'):
            self.look = ui.toggle(self.LOOK_NAMES,
                on_change=lambda event: self._act(self.session.look_at, event.value)).props('no-caps dense unelevated')
            self.beside = self._build_beside()
        with ui.element('figure'):
            ui.label('After').classes('heading')
            self.after = Picture('After the edits')

    def _build_beside(self):
        return Picture('Before the edits')

    def _build_groups(self):
        ui.label('Layer').classes('heading')
        self.layers = dict()
        with ui.element('div').classes('layers'):
            for layer in self.session.groups:
                with tile(lambda layer=layer: self._act(self.session.select, layer)) as self.layers[layer]:
                    ui.label(layer)
        ui.label('Group').classes('heading')
        self.grid = ui.element('div').classes('grid')
        self.tiles, self.grid_layer = dict(), None # {group: (tile, picture, label)} of one layer.

    def _build_hand(self):
        """What is done to the group at hand."""
        def dial(label, field, low, high, tip):
            return Dial(label, low, high, 0.05, tip, lambda value: self._act(self._steer, field, value), self._release)

        with ui.element('div').classes('title'):
            self.place = ui.label().classes('heading')
            self.name = ui.input(placeholder='Give it a name').props(
                'dense borderless hide-bottom-space maxlength=40 aria-label="Name of the group"')
            self.name.on('blur', self._name).on('keydown.enter', self._name)
        self.note = ui.label().classes('note')
        ui.label('How much of it there is: its inter-group code').classes('note')
        self.dials = {
            'inter_scale': dial('Times', 'inter_scale', -2, 3,
                '1 = as it is, 0 = off, 2 = twice as much, below 0 = the opposite'),
            'inter_shift': dial('Plus', 'inter_shift', -3, 3, '0 = as it is'),
        }
        ui.label('What it looks like: the intra-group code of another seed').classes('note')
        self.dials['intra_mix'] = dial('Share', 'intra_mix', 0, 1, '0 = its own, 1 = the other\'s')
        self.intra_seed = self._seed_row('Seed', 'Seed to take from',
            lambda value: self._act(self._steer, 'intra_seed', value))

    def _build_image(self):
        self.seed = self._seed_row('Seed', 'Seed of the image', lambda value: self._act(self._change, seed=value))
        self.trunc = Dial('Truncation', 0, 1.5, 0.05, '0 = the mean image, 1 = as in training',
            lambda value: self._act(self._change, 'trunc', trunc=value), self._release)
        if self.studio.G.c_dim > 0:
            self._build_class()
        self.projected = ui.label('A projected image is in the place of the seed; '
            'another seed takes it away.').classes('note whole')

    def _build_class(self):
        """Classes to choose from, or a box for the numbers of a label."""
        self.classes = {index: f'class {index}' for index in range(self.studio.G.c_dim)}
        if label_kind.of(self.studio.G) != 'vectors':
            choose = lambda event: self._act(self._change, class_idx=event.value)
            self.class_idx = ui.select(self.classes, label='Class', on_change=choose)
        else:
            self.class_idx = ui.input('Label', placeholder='0.2,0.8')
            self.class_idx.on('change', lambda: self._act(self._change_label, self.class_idx.value))

    def _seed_row(self, label, description, on_change, below=10000):
        """A number box and a button that rolls dice, for less than `below`. Returns the box."""
        with ui.element('div').classes('dial'):
            ui.label(label)
            box = ui.number(step=1, on_change=lambda event: event.value is not None and on_change(_whole(event.value)))
            box.props(f'dense outlined hide-bottom-space debounce=250 aria-label="{description}"')
            ui.button(icon='casino', on_click=lambda: on_change(random.randrange(below))).props(
                f'flat dense round aria-label="{description}, random"')
        return box

    #------------------------------------------------------------------------
    # What it shows.

    def _show(self):
        """Set everything but the pictures to what the session says."""
        session, edit = self.session, self.session.edit
        self.undo.set_enabled(bool(session.past))
        self.redo.set_enabled(bool(session.future))
        self.reset.set_enabled(bool(session.scene.edits))
        self.look.set_value(session.look)
        self._show_image()
        self.place.set_text(f'{session.layer}, group {session.group}')
        self.name.set_value(self.studio.known.of(session.layer, session.group) or '')
        note = groupings.notes(self.studio.G, session.layer).get(session.group, '')
        self.note.set_text(note)
        self.note.set_visibility(note != '')
        self.dials['inter_scale'].show(edit.inter_scale)
        self.dials['inter_shift'].show(edit.inter_shift)
        self.dials['intra_mix'].show(edit.intra_mix if edit.intra_seed is not None else 0)
        self.intra_seed.set_value(edit.intra_seed if edit.intra_seed is not None else NEW_INTRA_SEED)
        for layer, button in self.layers.items():
            _mark(button, layer == session.layer)
        self._show_groups()
        self._show_edits()

    def _show_image(self):
        """What the image before the edits depends on."""
        scene = self.session.scene
        self.seed.set_value(scene.seed)
        self.trunc.show(scene.trunc)
        if self.studio.G.c_dim > 0:
            self._show_class(scene.class_idx)
        self.projected.set_visibility(scene.projected is not None)

    def _show_class(self, class_idx):
        numbers = ','.join(map(str, class_idx)) if is_vector(class_idx) else ''
        if label_kind.of(self.studio.G) == 'vectors':
            self.class_idx.set_value(numbers)
        else: # A recipe or --label may mix classes.
            mixed = {class_idx: f'label {numbers}'} if numbers else {}
            self.class_idx.set_options(self.classes | mixed, value=class_idx)

    def _show_groups(self):
        layer = self.session.layer
        if self.grid_layer != layer:
            self.grid_layer = layer
            self.grid.clear()
            with self.grid:
                self.tiles = {group: self._group_tile(layer, group) for group in self.session.groups[layer]}
        for group, (button, _picture, label) in self.tiles.items():
            _mark(button, group == self.session.group)
            label.set_text(self.studio.known.of(layer, group) or str(group))

    def _group_tile(self, layer, group):
        with tile(lambda: self._act(self.session.select, layer, group)) as button:
            picture = Picture(f'Attention of group {group}')
            return button, picture, ui.label()

    def _show_edits(self):
        """One line for each edit: a click puts its group at hand, the cross takes it away."""
        self.edits.clear()
        with self.edits:
            for index, edit in enumerate(self.session.scene.edits):
                with ui.element('div').classes('line'):
                    with tile(lambda edit=edit: self._act(self.session.select, edit.layers[0], edit.group)):
                        ui.label(f'{", ".join(edit.layers)}, {self.studio.known.label(edit.layers[0], edit.group)}')
                        ui.label(edit.changes or 'as it is').classes('note')
                    ui.button(icon='close', on_click=lambda index=index: self._act(self.session.remove, index)).props(
                        'flat dense round size=sm aria-label="Remove the edit"')
            if not self.session.scene.edits:
                ui.label('None yet: choose a group and move a slider.').classes('note')

    async def _draw(self):
        try:
            beside, after = await self.studio.run(self.view.draw)
        except (RuntimeError, ValueError) as error: # Such as memory that a GPU lacks, and numbers that are not finite.
            self._say(f'The image cannot be drawn ({first_line(error)}).', bad=True)
            return
        if self.client.is_deleted:
            return
        self.beside.show(beside)
        self.after.show(after)
        if self.view.layer == self.grid_layer:
            for group, (_button, picture, _label) in self.tiles.items():
                picture.show(self.view.thumbnails[group])

    def _say(self, sentence, bad=False, stays=False):
        with self.client:
            ui.notify(sentence, type='negative' if bad else 'positive', position='bottom',
                timeout=0 if stays else 8000 if bad else 4000, close_button='Close' if stays else False)

    #------------------------------------------------------------------------
    # What visitors do.

    def _act(self, job, *args, **fields):
        """Do something to the session, and show what came of it."""
        try:
            job(*args, **fields)
        except WrongField as error:
            self._say(f'{LABELS.get(error.field, error.field)}: {error.sentence}', bad=True)
        self._show()
        background_tasks.create(self.drawing.request())

    def _change(self, gesture=None, **fields):
        if 'seed' in fields:
            if fields['seed'] == self.session.scene.seed:
                return
            fields['projected'] = None
        self.session.change(gesture, **fields)

    def _change_label(self, text):
        try:
            label = label_vector(text)
        except ValueError as error:
            raise WrongField('class_idx', f'{error}.') from None
        self._change(class_idx=label)

    def _steer(self, field, value):
        """Sliders and boxes of the group at hand.

        A share of 0 needs no seed, and one who chooses a seed wants some of it.
        """
        fields, edit = {field: value}, self.session.edit
        if field == 'intra_seed':
            if value == (edit.intra_seed if edit.intra_seed is not None else NEW_INTRA_SEED):
                return
            fields['intra_mix'] = edit.intra_mix or 1
        elif field == 'intra_mix' and edit.intra_seed is None:
            fields['intra_seed'] = NEW_INTRA_SEED
        self.session.steer(field, **fields)

    def _release(self):
        self.session.settle()
        self._show()

    def _press(self, event):
        if (event.action.keydown and (event.modifiers.ctrl or event.modifiers.meta)
                and event.key.name.lower() in ['z', 'y']):
            self._act(self.session.redo if event.modifiers.shift
                or event.key.name.lower() == 'y' else self.session.undo)

    async def _name(self):
        layer, group, name = self.session.layer, self.session.group, (self.name.value or '').strip()
        if name != (self.studio.known.of(layer, group) or ''):
            try:
                await self.studio.run(self.studio.name, layer, group, name)
            except ValueError as error:
                self._say(str(error), bad=True)
            except OSError as error:
                self._say(f'The name cannot be written: {error.strerror}.', bad=True)
            self._show()

    async def _open(self, event):
        await self._read(event, self.studio.open, self._opened)

    def _opened(self, found):
        recipe, projected = found
        if recipe is not None:
            self._act(self.session.load, recipe, projected)
        else:
            self._act(self.session.change, projected=projected)

    async def _read(self, event, read, use):
        """Have the studio read what was uploaded, and use what comes of it."""
        try:
            use(await self.studio.run(read, await event.file.read()))
        except ValueError as error:
            self._say(f'{event.file.name:.60}: {error}', bad=True)
        event.sender.reset()

    def _reject(self):
        self._say(f'Files of more than {MAX_UPLOAD >> 20} MB are not taken.', bad=True)

    async def _save(self):
        try:
            paths = await self.studio.run(self.studio.save, self.session.scene, self.session.recipe())
            self._say_saved(paths)
        except OSError as error:
            self._say(f'{self.studio.outdir} cannot be written to: {error.strerror}.', bad=True)
        except ValueError as error:
            self._say(str(error), bad=True)

    def _say_saved(self, paths):
        self._say(f'Saved {" and ".join(paths)}')

def _whole(value):
    """The int that a box for numbers means by a float; another value stays what it is, to be complained of."""
    return int(value) if isinstance(value, float) and value.is_integer() else value

def _mark(button, chosen):
    """Show whether a tile is the chosen one."""
    if button.props.get('aria-pressed') != str(chosen).lower():
        button.props['aria-pressed'] = str(chosen).lower()

#----------------------------------------------------------------------------
