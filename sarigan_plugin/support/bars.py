"""The bar that shows how far a list of jobs is: click's, and all that libraries take from click beside its errors."""

from click import progressbar

__all__ = ['progressbar']
