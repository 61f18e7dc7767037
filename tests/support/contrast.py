"""Whether coloured text can be read: contrast as WCAG 2 defines it."""

LEAST = 4.5  # for text of normal size, level AA


def luminance(colour):
    """Relative luminance of a colour such as `#14471e`, from 0 (black) to 1 (white)."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def ratio(first, second):
    """Contrast of two colours, from 1 (none) to 21 (black on white)."""
    darker, lighter = sorted((luminance(first), luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)


def coloured(theme):
    """Names of the styles that have a text colour of their own."""
    return [name for name in theme.style_names if theme.styles[name].color is not None]


def faults(theme):
    """Styles that cannot be read on every page.

    No one text colour reaches 4.5:1 on both of JupyterLab's backgrounds (white and #111), so a
    coloured style brings its own background, and plain text leaves both colours to the page.
    """
    found = []
    for name in theme.style_names:
        style = theme.styles[name]
        if (style.color is None) != (style.bgcolor is None):
            found.append(f"{name} has one of text colour and background, not both")
        elif style.color and (got := ratio(style.color.name, style.bgcolor.name)) < LEAST:
            found.append(f"{name} has a contrast of {got:.1f}:1")
    return found
