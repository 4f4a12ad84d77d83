"""Names of upstream's modules and classes, exchanged for the rest of the process."""

#----------------------------------------------------------------------------

def once(owner, name, exchange):
    """Let `name` of a module or class be exchange(what stood there), unless it is exchanged already.

    What exchange() returns has __wrapped__, as functools.wraps() leaves it; upstream's profiled_function() wraps without a trace.
    """
    reference = getattr(owner, name)
    if not hasattr(reference, '__wrapped__'):
        setattr(owner, name, exchange(reference))

#----------------------------------------------------------------------------
