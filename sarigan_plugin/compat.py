"""Old names of modules, from when all of them lay flat in this package. They keep resolving, since files ask for them:

network pickles (`sarigan_plugin.grouping.make_grouping` in the source that they hold), exports and run records (classes
such as `sarigan_plugin.networks.Generator`), trees that an earlier version patched (`sarigan_plugin.runtime`), and
people's own code (`from sarigan_plugin import snapshot`).

Class names in files are identifiers of their format. They stay what they are: file_name() gives the one of a class.
"""

import importlib
import importlib.abc
import importlib.util
import sys
import types

PACKAGE = 'sarigan_plugin'

# Old name -> where it is now, both below the package.
MOVED = {
    'networks':        'model.networks',        # Pickles, exports, run records.
    'grouping':        'model.grouping',
    'inpainting':      'model.inpainting',
    'inpainting_data': 'datasets.inpainting',
    'loss':            'losses.sarigan',        # Run records.
    'inpainting_loss': 'losses.inpainting',
    'monitor':         'trainer.progress',
    'ablation_job':    'ablation.job',          # python -m sarigan_plugin.ablation_job
    'runtime':         'trainer.upstream_loop', # Patched trees.
    'scripts':         'commands.upstream_scripts',
    'checkpoint':      'trainer.checkpoint',
    'train':           'commands.train',
    'generate':        'steering.sampling',     # The assembled tree's generate.py.

    # What people import, as the README and examples had it.
    'attributes':      'evaluation.attributes',
    'classical':       'evaluation.classical',
    'completion':      'steering.completion',
    'detectors':       'features.detectors',
    'directions':      'steering.directions',
    'disentanglement': 'evaluation.disentanglement',
    'edit':            'steering.edits',
    'fidelity':        'evaluation.fidelity',
    'groups':          'steering.attention',
    'masks':           'datasets.masks',
    'names':           'steering.names',
    'perceptual':      'features.perceptual',
    'project':         'steering.projector',
    'quality':         'evaluation.quality',
    'snapshot':        'snapshots.reading',
    'splits':          'datasets.splits',
    'units':           'steering.units',
}

# Old name of a module -> {name in it that is elsewhere now, or is called otherwise: (module, name)}.
RENAMED = {
    'edit':     {'Recipe':   ('steering.recipe', 'EditRecipe')},
    'generate': {'generate': ('commands.generate', 'generate_command')},
    'names':    {'Names':    ('steering.names', 'GroupNames'), 'Place': ('steering.names', 'NamedGroup')},
}

# Modules whose classes are named in files -> the name that files have for the module.
_IN_FILES = {f'{PACKAGE}.{MOVED[old]}': f'{PACKAGE}.{old}'
    for old in ['networks', 'grouping', 'inpainting', 'inpainting_data', 'loss', 'inpainting_loss']}
_IN_FILES[f'{PACKAGE}.model.discriminator'] = f'{PACKAGE}.networks'

def file_name(module, name):
    """What files call a class or function of a module."""
    return f'{_IN_FILES.get(module, module)}.{name}'

#----------------------------------------------------------------------------

class _View(types.ModuleType):
    """A module as it was before names in it were given to others."""

    def __getattr__(self, name):
        old = self.__name__.removeprefix(f'{PACKAGE}.')
        module, name = RENAMED[old].get(name, (MOVED[old], name))
        return getattr(importlib.import_module(f'{PACKAGE}.{module}'), name)

class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports a module under its old name, and only when somebody asks: the very module, or a view of it."""

    def find_spec(self, fullname, path=None, target=None):
        package, _, name = fullname.rpartition('.')
        return importlib.util.spec_from_loader(fullname, self) if package == PACKAGE and name in MOVED else None

    def exec_module(self, module):
        # import takes what stands in sys.modules in the end. The module itself could not be given to it at the start:
        # it would get another __spec__.
        name = module.__name__
        old = name.removeprefix(f'{PACKAGE}.')
        sys.modules[name] = _View(name) if old in RENAMED else importlib.import_module(f'{PACKAGE}.{MOVED[old]}')

    def get_code(self, fullname):
        """For `python -m`."""
        new = f'{PACKAGE}.{MOVED[fullname.removeprefix(PACKAGE + ".")]}'
        return compile(f'import runpy; runpy.run_module({new!r}, run_name="__main__", alter_sys=True)',
            fullname, 'exec')

def install():
    """Let old names be imported. New ones are found first."""
    if not any((type(finder).__module__, type(finder).__qualname__) == (__name__, _Finder.__qualname__)
            for finder in sys.meta_path):
        sys.meta_path.append(_Finder())

#----------------------------------------------------------------------------
