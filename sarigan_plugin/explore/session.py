"""What one visitor of `sarigan explore` has done: the scene that is shown, the steps that led there,
the group at hand."""

import dataclasses

from sarigan_plugin.steering import groupings
from sarigan_plugin.steering.edits import Edit, WrongField
from sarigan_plugin.steering.recipe import EditRecipe

MAX_STEPS   = 200                               # That can be undone.
LOOKS       = ('before', 'attention', 'change') # What the picture beside the edited one shows.

#----------------------------------------------------------------------------

class Projected:
    """An image that was projected. It equals nothing but itself, which spares Scenes the comparison of tensors."""
    def __init__(self, projection, content):
        self.projection = projection    # projection.Projection, of whose images the first is shown.
        self.content = content          # Bytes of its file.

@dataclasses.dataclass(frozen=True)
class Scene:
    """An image and the edits of it: one step of the history."""
    seed:       int         = 0     # Of the image.
    trunc:      float       = 0.7   # Truncation psi.
    class_idx:  int         = 0     # Class, or label vector, for a conditional network.
    projected:  Projected   = None  # In the place of the seed.
    edits:      tuple       = ()    # See edits.edited().

    @property
    def image(self):
        """What the image before the edits depends on."""
        return self.seed, self.trunc, self.class_idx, self.projected

    def settled(self):
        """The same without edits that change nothing."""
        return dataclasses.replace(self, edits=tuple(edit for edit in self.edits if _does_something(edit)))

def _does_something(edit):
    """Edits have fields that no slider of the page has, and which recipes may use:
    only what sliders leave behind is nothing."""
    if edit.intra_mix == 0:
        edit = dataclasses.replace(edit, intra_seed=None, intra_mix=1)
    return edit != Edit(edit.layers, edit.group)

#----------------------------------------------------------------------------

class Session:
    """Raises WrongField where a value won't do, and stays as it was."""

    def __init__(self,
        G,                  # Generator with channel groups.
        projected = None,   # Codes to begin with.
        class_idx = 0,      # Class or label vector to begin with.
    ):
        self.G = G
        # Those that have channels.
        self.groups = {name: groups.live for name, groups in groupings.of(G).items()}
        self.scene = Scene(projected=projected, class_idx=class_idx)
        self.past, self.future = [], []     # Scenes.
        self.gesture = None                 # What the hand is at, see change().
        self.look = LOOKS[0]
        # Neither the coarsest nor the finest layer; linked groups first.
        self.layer = (groupings.LINKED if groupings.LINKED in self.groups
            else list(self.groups)[len(self.groups) // 2])
        self.group = self.groups[self.layer][0]

    def select(self, layer, group=None):
        """Put a group at hand; without one, the first of the layer, or the same index if it is there."""
        if layer not in self.groups:
            raise WrongField('layers', f'{layer!r:.40} is not a grouped layer; they are {", ".join(self.groups)}.')
        if group is None:
            group = self.group if self.group in self.groups[layer] else self.groups[layer][0]
        Edit(layer, group).check(self.G)
        self.settle()
        self.layer, self.group = layer, group

    def look_at(self, look):
        """What the picture beside the edited one is to show."""
        if look not in LOOKS:
            raise WrongField('look', f'{look!r:.40} is none of {", ".join(LOOKS)}.')
        self.look = look

    #------------------------------------------------------------------------
    # Steps.

    def change(self, gesture=None, **fields):
        """Show another scene, with other `fields`.

        Changes of one gesture, such as moving a slider, are one step until settle().
        """
        scene = dataclasses.replace(self.scene, **fields)
        if scene == self.scene:
            return
        self._check(self._recipe_of(scene))
        if gesture is None or gesture != self.gesture:
            self.settle()
            self.past = [*self.past, self.scene][-MAX_STEPS:]
        self.scene, self.future, self.gesture = scene, [], gesture

    def settle(self):
        """The hand lets go: what comes next is another step."""
        self.gesture = None
        self.scene = self.scene.settled()
        if self.past and self.past[-1] == self.scene: # There and back again.
            self.past.pop()

    def undo(self):
        self.settle()
        if self.past:
            self.future.append(self.scene)
            self._go_to(self.past.pop())

    def redo(self):
        self.settle()
        if self.future:
            self.past.append(self.scene)
            self._go_to(self.future.pop())

    def _go_to(self, scene):
        """Show a scene, with the group at hand in which it differs."""
        different = [edit for edit in (*scene.edits, *self.scene.edits)
            if (edit in scene.edits) != (edit in self.scene.edits)]
        if different:
            self.layer, self.group = different[0].layers[0], different[0].group
        self.scene = scene

    #------------------------------------------------------------------------
    # Edits.

    @property
    def edit(self):
        """What is done to the group at hand; an Edit that does nothing if that is so."""
        index = self._index()
        return self.scene.edits[index] if index is not None else Edit(self.layer, self.group)

    def _index(self):
        """Of the edit at hand; the last one if a recipe had several of the group."""
        places = [(edit.layers, edit.group) for edit in self.scene.edits]
        here = ((self.layer,), self.group)
        return len(places) - 1 - places[::-1].index(here) if here in places else None

    def steer(self, gesture=None, **fields):
        """Change fields of the edit of the group at hand."""
        edit, index, edits = dataclasses.replace(self.edit, **fields), self._index(), list(self.scene.edits)
        if index is None:
            edits.append(edit)
        else:
            edits[index] = edit
        self.change(gesture and (gesture, self.layer, self.group), edits=tuple(edits))

    def remove(self, index):
        """Take one of the scene's edits away."""
        self.settle()
        self.change(edits=(*self.scene.edits[:index], *self.scene.edits[index + 1:]))

    def reset(self):
        """Take all edits away."""
        self.settle()
        self.change(edits=())

    #------------------------------------------------------------------------
    # Recipes.

    def recipe(self):
        """The scene as `sarigan edit` takes it. Without edits it has one that does nothing: a recipe needs one."""
        return self._recipe_of(self.scene.settled())

    def _recipe_of(self, scene):
        return EditRecipe(scene.edits or (Edit(self.layer, self.group),), (scene.seed,), scene.trunc, scene.class_idx)

    def _check(self, recipe):
        recipe.check(self.G)

    def load(self, recipe, projected=None):
        """Show the first image of a recipe, or `projected` with its edits."""
        self._check(recipe)
        self.change(seed=recipe.seeds[0], trunc=recipe.trunc, class_idx=recipe.class_idx, projected=projected,
            edits=recipe.edits)
        self.layer, self.group = recipe.edits[-1].layers[0], recipe.edits[-1].group

#----------------------------------------------------------------------------
