"""The contextual model of the chosen source: the small one that ships, or the published one."""

from __future__ import annotations

from math import prod
from pathlib import Path

from safetensors import safe_open

from ..artifacts import fetch, record
from ..device import pick_device, use_threads
from ..files import ArtifactError
from ..language import translated as _
from ..settings import source
from .encoding import ContextualEncoder
from .mini import load_mini_cde
from .native import CDE

CDE_REPO, CDE_REVISION = "jxm/cde-small-v2", "287bf0ea6ebfecf2339762d0ef28fb846959a8f2"
CDE_TOKENIZER = "answerdotai/ModernBERT-base"
CDE_TENSORS, CDE_PARAMETERS = 280, 305_706_240  # of the published checkpoint


def load_cde(*, variant: str = "hub") -> ContextualEncoder:
    """The contextual model of the chosen source.

    `bundled`: the small one that ships; `hub`: `jxm/cde-small-v2`.

    Args:
        variant: of the published model, as in `CDE.load`.

    Raises:
        ArtifactError: the Hub cannot be reached, or its files are not the published ones.
    """
    if source() == "bundled":
        return load_mini_cde()
    fallback = _("use the small model: set EMBEDDINGS_SOURCE=bundled and restart the kernel")
    weights = fetch(
        CDE_REPO,
        CDE_REVISION,
        ["config.json", "model.safetensors"],
        size=_("1.22 GB, about 8 minutes at 20 Mbit/s"),
        fallback=fallback,
    )
    tokenizer = fetch(
        CDE_TOKENIZER,
        "main",
        ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"],
        fallback=fallback,
    )
    record(CDE_REPO, weights)
    record(CDE_TOKENIZER, tokenizer)
    check_published(weights / "model.safetensors")
    use_threads()
    return CDE.load(weights, variant=variant, tokenizer=tokenizer).to(pick_device())


def check_published(path: Path) -> None:
    """Refuse anything but the published checkpoint: 280 tensors and 305,706,240 parameters.

    Raises:
        ArtifactError: other counts.
    """
    with safe_open(str(path), "pt") as file:
        names = list(file.keys())
        shapes = [file.get_slice(name).get_shape() for name in names]
    tensors, parameters = len(shapes), sum(prod(shape) for shape in shapes)
    if (tensors, parameters) != (CDE_TENSORS, CDE_PARAMETERS):
        raise ArtifactError(
            _(
                "{name} has {tensors} tensors and {parameters:,} parameters; the "
                "published {cde_repo} has {cde_tensors} and {cde_parameters:,}. Fix "
                "it: hf cache rm model/{cde_repo}, then run this cell again"
            ).format(
                name=path.name,
                tensors=tensors,
                parameters=parameters,
                cde_repo=CDE_REPO,
                cde_tensors=CDE_TENSORS,
                cde_parameters=CDE_PARAMETERS,
            )
        )
