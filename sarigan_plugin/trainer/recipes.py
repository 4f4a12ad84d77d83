"""What a --cfg name means: a `Recipe`. Upstream's six are listed here, ours are one TOML file each."""

import dataclasses
import os
from pathlib import Path
from typing import Any, Optional

from sarigan_plugin.errors import UserError
from sarigan_plugin.support import places, toml
from sarigan_plugin.trainer.options import Inpainting, Method, Networks, Training

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Recipe:
    """All that a --cfg name fixes. `method` is None for plain StyleGAN2-ADA, `inpainting` for unconditional images."""
    networks:       Networks
    training:       Training
    method:         Optional[Method]    = None
    inpainting:     Optional[Inpainting] = None
    summary:        str                 = ''

def _upstream_recipe(summary: str, kimg: int, mb: int, mbstd: int, fmaps: float, lrate: float, gamma: float, ema: float,
                     ramp: float | None, layers: int, ref_gpus: int, architecture: Any = None,
                     **training: Any) -> Recipe:
    return Recipe(summary=summary,
        networks=Networks(channel_base=int(fmaps * 32768), mapping_layers=layers, mbstd_group=mbstd,
            architecture=architecture),
        training=Training(kimg=kimg, batch=mb, learning_rate=lrate, r1_gamma=gamma, ema_kimg=ema, ema_rampup=ramp,
            ref_gpus=ref_gpus, **training))

def _auto_recipe(resolution: int, gpus: int) -> Recipe:
    """Upstream's --cfg=auto, from the resolution and the number of GPUs."""
    batch = max(min(gpus * min(4096 // resolution, 32), 64), gpus)
    return _upstream_recipe('', kimg=25000, mb=batch, mbstd=min(batch // gpus, 4),
        fmaps=1 if resolution >= 512 else 0.5, lrate=0.002 if resolution >= 1024 else 0.0025,
        gamma=0.0002 * resolution ** 2 / batch, ema=batch * 10 / 32, ramp=0.05, layers=2, ref_gpus=gpus)

_PAPER: dict[str, Any] = dict(kimg=25000, ramp=None, layers=8, ref_gpus=8)

UPSTREAM_RECIPES = {
    'auto':      None, # Made by _auto_recipe().
    'stylegan2': _upstream_recipe('StyleGAN2 config F, 1024x1024.',
                                  mb=32, mbstd=4,  fmaps=1,   lrate=0.002,  gamma=10,   ema=10,  **_PAPER),
    'paper256':  _upstream_recipe('ADA paper, FFHQ and LSUN Cat, 256x256.',
                                  mb=64, mbstd=8,  fmaps=0.5, lrate=0.0025, gamma=1,    ema=20,  **_PAPER),
    'paper512':  _upstream_recipe('ADA paper, BreCaHAD and AFHQ, 512x512.',
                                  mb=64, mbstd=8,  fmaps=1,   lrate=0.0025, gamma=0.5,  ema=20,  **_PAPER),
    'paper1024': _upstream_recipe('ADA paper, MetFaces, 1024x1024.',
                                  mb=32, mbstd=4,  fmaps=1,   lrate=0.002,  gamma=2,    ema=10,  **_PAPER),
    'cifar':     _upstream_recipe('ADA paper, CIFAR-10, 32x32.',
                                  mb=64, mbstd=32, fmaps=1,   lrate=0.0025, gamma=0.01, ema=500,
                                  kimg=100000, ramp=0.05, layers=2, ref_gpus=2,
                                  pl_weight=0, style_mixing=0, architecture='orig'),
}

#----------------------------------------------------------------------------
# Reading TOML.

TABLES = dict(method=Method, inpainting=Inpainting, networks=Networks, training=Training)

def config_dir() -> Path:
    """The folder of configs/*.toml."""
    return places.configs()

def our_configs() -> dict[str, Path]:
    """{name: path} of our own configs, sorted."""
    return {path.stem: path for path in sorted(config_dir().glob('*.toml'), key=lambda path: path.stem)}

def read_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Read one TOML file. Raises UserError naming the file and the key for anything that a recipe can't have."""
    tables = _inherit(path, toml.read(path))
    toml.check_names(path, 'the file', tables, ['base', 'summary', *TABLES])
    if isinstance(tables.get('method'), dict):
        tables['method'] = without_retired(path, tables['method'])
    summary = toml.typed(f'{path}: summary', toml.Text, tables.get('summary', ''))
    parts = {name: _read_table(path, name, cls, tables[name]) for name, cls in TABLES.items() if name in tables}
    for name in ['networks', 'training']:
        if name not in parts:
            raise UserError(f'{path}: the table [{name}] is missing')
    if 'inpainting' in parts and 'method' not in parts:
        raise UserError(f'{path}: [inpainting] needs the table [method]; grouping = "none" is the baseline')
    return Recipe(summary=summary, **parts)

def _read_table(path: str | os.PathLike[str], name: str, cls: type, table: Any) -> Any:
    if not isinstance(table, dict):
        raise UserError(f'{path}: {name} must be a table, [{name}]')
    return toml.read_table(path, f'[{name}]', cls, table)

def without_retired(path: str | os.PathLike[str], table: dict[str, Any]) -> dict[str, Any]:
    """A table of a file without options of earlier versions. Raises UserError where one asks for what is gone."""
    from sarigan_plugin.model.networks import drop_retired  # Here, as upstream's tree may come to sys.path late.
    table = dict(table)
    try:
        drop_retired(table)
    except ValueError as error:
        raise UserError(f'{path}: {error}') from None
    return table

def _inherit(path: str | os.PathLike[str], tables: dict[str, Any]) -> dict[str, Any]:
    """Where a file says `base = NAME`, what it leaves out is as in our config of that name, which may have a base."""
    tables = dict(tables)
    name = tables.pop('base', None)
    if name is None:
        return tables
    bases = our_configs()
    if name not in list(bases): # A list, as a name of the wrong type may not be hashable.
        raise UserError(f'{path}: base must be one of {", ".join(bases)}, not {name!r}')
    base = _inherit(bases[name], toml.read(bases[name]))
    both = {key: {**base[key], **tables[key]} for key in base.keys() & tables.keys()
        if isinstance(base[key], dict) and isinstance(tables[key], dict)}
    return {**base, **tables, **both}

def find_recipe(cfg: str, resolution: int, gpus: int) -> Recipe:
    """The recipe of a --cfg: a name of upstream's, one of ours, or the path of a TOML file."""
    if cfg == 'auto':
        return _auto_recipe(resolution, gpus)
    if cfg in UPSTREAM_RECIPES:
        return UPSTREAM_RECIPES[cfg] # type: ignore[return-value] # None is of auto alone.
    if cfg in our_configs():
        return read_recipe(our_configs()[cfg])
    if cfg.endswith('.toml'):
        return read_recipe(cfg)
    names = ', '.join([*our_configs(), *UPSTREAM_RECIPES])
    raise UserError(f'--cfg must be one of {names}, or the path of a .toml file, not {cfg!r}')

#----------------------------------------------------------------------------
