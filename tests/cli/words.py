"""Words of commands: a flag may be given once, so that a test's own flags must take the place of the usual ones."""


def over(usual, flags):
    """Return the usual flags, each with one value, but those that are given again; then the given ones."""
    given = {str(word).partition("=")[0] for word in flags}
    kept = [pair for pair in zip(usual[::2], usual[1::2], strict=True) if pair[0] not in given]
    return [word for pair in kept for word in pair] + list(flags)
