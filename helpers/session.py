"""How a notebook starts, and how a reader tries sentences of their own."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from rich.console import Console

from . import charts, openai_api, settings
from .console import get_console
from .device import pick_device
from .language import given
from .language import marked as N_
from .language import translated as _
from .tokens import visible

RUN = N_("Run")
SHOWN = ("torch", "transformers", "sentence-transformers")


def start(*packages: str) -> Console:
    """Prepare a notebook: `.env` read, charts drawn offline, one status line printed.

    Args:
        packages: further packages whose versions the lesson depends on.

    Returns:
        the console of the series.

    Raises:
        ValueError: a setting in `.env` or the environment cannot be used; the message names it.
    """
    settings.load_env()
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # its bar would be stored
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if settings.source() == "bundled":
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    charts.enable()
    _explain_errors()
    names = dict.fromkeys([*packages, *SHOWN])
    *others, longest = (f"{name} {version(name).split('+')[0]}" for name in names)
    console = get_console()
    place = _("device {device} · source {source}").format(
        device=pick_device(), source=settings.source()
    )
    console.print(  # in lines that fit beside JupyterLab's file browser
        " · ".join([f"Python {platform.python_version()}", *others]) + f"\n{longest} · {place}"
    )
    return console


def fold() -> None:
    """Begin an output that is stored folded, so that its preview does not tell the answer.

    JupyterLab writes the first line that is not empty beside a folded output; this one is a space.
    """
    print(" ")


def _explain_errors() -> None:
    """Let the kernel say what to do about an error of the endpoint, and never show a key in one."""
    from IPython import get_ipython

    def show(
        shell: Any, kind: type, error: BaseException, trace: Any, tb_offset: int | None = None
    ) -> None:
        shell.showtraceback((kind, openai_api.clarify(error), trace), tb_offset=tb_offset)

    if shell := get_ipython():
        shell.set_custom_exc((Exception,), show)


def try_it(
    show: Callable[..., Any], *texts: str, labels: tuple[str, ...] = (), button: str = RUN
) -> None:
    """Let a reader call `show(*texts)` with texts of their own.

    In JupyterLab: one box per text and a button, with the answer below. Headless: one plain call.

    Raises:
        ValueError: there are not as many `labels` as `texts`.
    """
    if labels and len(labels) != len(texts):
        raise ValueError(
            _("{texts} texts need as many labels, got {labels}").format(
                texts=len(texts), labels=len(labels)
            )
        )
    if not settings.is_live():
        show(*texts)
        return
    import ipywidgets as widgets
    from IPython.display import display

    names = labels or tuple(_("text {i}").format(i=i + 1) for i in range(len(texts)))
    boxes = [
        widgets.Text(
            value=text,
            description=given(name),
            layout=widgets.Layout(width="90%"),
            style={"description_width": "8em"},
        )
        for name, text in zip(names, texts, strict=True)
    ]
    run, answer = (
        widgets.Button(description=_(given(button)), button_style="primary"),
        widgets.Output(),
    )

    def call(_click: Any = None) -> None:
        answer.clear_output(wait=True)
        with answer:
            _show_or_say_why(show, [box.value for box in boxes])

    run.on_click(call)
    display(widgets.VBox([*boxes, run, answer]))
    call()


def _show_or_say_why(show: Callable[..., Any], typed: list[str]) -> None:
    """Call `show` with what was typed; an error is printed in words, and the boxes stay usable."""
    texts = [text.encode("utf-8", "replace").decode() for text in typed]  # no lone surrogates
    try:
        show(*texts)
    except Exception as error:  # whatever a lesson's function raises
        said = [f"{type(error).__name__}: {openai_api.clarify(error)}"]
        print(*map(visible, [*said, *getattr(error, "__notes__", ())]), sep="\n")
