"""The page of `sarigan explore` for networks that complete images: one paints a hole into a photo,
and sees it filled."""

import random

import PIL.Image
from nicegui import background_tasks, ui

from sarigan_plugin.explore.inpaint_session import Stroke
from sarigan_plugin.explore.inpaint_studio import OTHERS
from sarigan_plugin.explore.page import Dial, Page, Picture, as_address, tile
from sarigan_plugin.explore.studio import Newest, as_png
from sarigan_plugin.steering.edits import WrongField

BRUSH       = 12                                        # Width at first, per cent of the photo's longer side.
SMOOTH      = 256                                       # Larger photos are scaled in the browser,
                                                        # smaller ones show their pixels.
READY_HOLES = {'centre': 'Centre', 'rectangle': 'Rectangles', 'free-form': 'Strokes'} # Of masks.KINDS.

#----------------------------------------------------------------------------

class Easel(Picture, component='easel.js'):
    """A photo that can be painted on."""
    def __init__(self, alt, on_stroke):
        super().__init__(alt, tag=None)
        self.scene = None   # Whose hole is shown.
        self.width = BRUSH  # Of the brush, per cent.
        self.props.update(hole=as_address(as_png(PIL.Image.new('1', (1, 1)), transparency=0)), width=1, height=1,
            brush=1, erase=False, veiled=False, done=0)
        self.on('stroke', on_stroke)

    def show_hole(self, scene):
        """scene: a HoledScene with a photo."""
        if self.scene is None or (scene.photo, scene.hole) != (self.scene.photo, self.scene.hole):
            self.scene = scene
            width, height = scene.photo.shown.size
            self.props.update(hole=as_address(as_png(PIL.Image.fromarray(scene.mask), transparency=0)),
                width=width, height=height)
            self.take_brush(self.width)

    def take_brush(self, width):
        """width: per cent of the photo's longer side."""
        self.width = width
        self.props['brush'] = max(self.props['width'], self.props['height']) * width / 100

class InpaintPage(Page):
    """One visitor's."""

    LOOK_NAMES = Page.LOOK_NAMES | {'before': 'Photo'}

    def __init__(self, studio, title):
        self.index = 0 # Of the album's photo that was chosen last.
        self.other_seeds = Newest(self._draw_others)
        super().__init__(studio, title)

    #------------------------------------------------------------------------
    # What is there.

    def _build_files(self):
        self._upload_button('Open', 'folder_open', self._open,
            'A photo, whose hole is where it is transparent, or a recipe (edit.json)')
        hint = 'The image, or what `sarigan inpaint` makes it of'
        with self._button('Download', 'download', None, hint), ui.menu():
            for label, name, ending in [('Image', 'completed.png', '.png'), ('Mask', 'mask.png', '-mask.png'),
                    ('Recipe', 'recipe.json', '.json')]:
                ui.menu_item(label, lambda name=name, ending=ending: self._download(name, ending))
        self._save_button('The image as PNG, and what `sarigan inpaint` makes it of: photo, mask and recipe')

    def _build_beside(self):
        easel = Easel('The photo', lambda event: self._stroke(event.args))
        self.hint = ui.label().classes('note')
        return easel

    def _build_image(self):
        self.brush = Dial('Brush', 1, 50, 1, 'Its width, per cent of the photo', self.beside.take_brush, lambda: None)
        self.brush.show(BRUSH)
        self.tool = ui.toggle({False: 'Paint', True: 'Erase'},
            value=False, on_change=lambda event: self.beside.props.update(erase=event.value)).props(
                'no-caps dense unelevated').classes('tool')
        with ui.element('div').classes('holes whole'):
            ui.label('Hole')
            self._button('None', 'layers_clear', lambda: self._act(self.session.clear))
            for kind, label in READY_HOLES.items():
                self._button(label, None, lambda kind=kind: self._act(self.session.draw, kind, random.randrange(10000)))
            self._upload_button('From a file', None, self._open_mask, 'A mask of the size of the photo, white = hole')
        self.seed = self._seed_row('Seed', 'Seed of what fills the hole',
            lambda value: self._act(self._change, seed=value))
        self.trunc = Dial('Truncation', 0, 1.5, 0.05, '0 = the average way to fill the hole, 1 = as in training',
            lambda value: self._act(self._change, 'trunc', trunc=value), self._release)
        if self.studio.album is not None and len(self.studio.album.names) > 1:
            self.number = self._seed_row('Photo', 'Photo, by its number',
                lambda index: background_tasks.create(self._choose(index)), below=len(self.studio.album.names))
            self.number.set_value(self.index)
        with ui.element('div').classes('others whole'):
            ui.label('Others')
            self.others = [self._other_tile(place) for place in range(OTHERS)]

    def _other_tile(self, place):
        with tile(lambda: self._act(self._change, seed=self.view.other_seed(place))) as button:
            return button, Picture('Another way to fill the hole'), ui.label()

    #------------------------------------------------------------------------
    # What it shows.

    def _show_image(self):
        scene = self.session.scene
        self.seed.set_value(scene.seed)
        self.trunc.show(scene.trunc)
        self.beside.props['veiled'] = self.session.look != 'before'
        if scene.photo is None:
            self.hint.set_text('Open a photo to begin with.')
            return
        self.beside.show_hole(scene)
        self.hint.set_text('' if scene.mask.any() else 'Paint over what is to be filled.')
        self.stage.classes(**{'add' if max(scene.photo.shown.size) > SMOOTH else 'remove': 'smooth'})
        for place, (_button, _picture, label) in enumerate(self.others):
            label.set_text(f'Seed {self.view.other_seed(place)}')

    async def _draw(self):
        if self.session.scene.photo is not None:
            await super()._draw()
            background_tasks.create(self.other_seeds.request())

    async def _draw_others(self):
        """One by one, and only as long as nothing else is asked for."""
        for place, (_button, picture, _label) in enumerate(self.others):
            if self.drawing.running or self.client.is_deleted:
                return
            try:
                picture.show(await self.studio.run(self.view.draw_other, place))
            except (RuntimeError, ValueError):
                return # The image itself has complained already.

    #------------------------------------------------------------------------
    # What visitors do.

    def _stroke(self, stroke):
        """stroke: what the browser sends, which may be anything."""
        stroke = stroke if isinstance(stroke, dict) else {}
        if isinstance(stroke.get('number'), int):
            self.beside.props['done'] = stroke['number']
        self._act(self._paint, stroke)

    def _paint(self, stroke):
        self.session.look_at('before')
        self.session.paint(Stroke(stroke.get('points'), stroke.get('width'), stroke.get('erase') is True))

    def _opened(self, found):
        recipe, photo = found
        if recipe is not None:
            self._act(self.session.load, recipe)
        else:
            self._act(self.session.show, photo)

    async def _open_mask(self, event):
        await self._read(event, self._read_mask, lambda mask: self._act(self.session.take, mask))

    def _read_mask(self, content):
        if self.session.scene.photo is None:
            raise WrongField('photo', 'there is none yet; open one.')
        return self.session.scene.photo.read_mask(content)

    async def _choose(self, index):
        if index == self.index:
            return
        try:
            photo = await self.studio.run(self.studio.album.read, index)
            self.index = index
            self._act(self.session.show, photo)
        except ValueError as error:
            self._say(f'Photo: {error}', bad=True)
        self.number.set_value(self.index)

    async def _download(self, name, ending):
        try:
            contents = await self.studio.run(self.studio.contents, self.session.scene, self.session.recipe(), '')
        except ValueError as error:
            self._say(str(error), bad=True)
            return
        self.client.download(contents[ending], name)

    def _say_saved(self, paths):
        self._say(f'Saved {paths[0]}, and beside it mask, photo and recipe. The same again: '
            f'{self.studio.command(paths)}', stays=True)

#----------------------------------------------------------------------------
