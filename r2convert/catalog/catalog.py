"""The contents of the mapping files, and looking them up by the names that people use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from r2convert.catalog.geometry import read_template
from r2convert.catalog.variant import (
    STANDARD_STAGES,
    Architecture,
    LayoutFacts,
    Lookalike,
    Program,
    StagedArchitecture,
    Variant,
)
from r2convert.errors import UnknownVariantError

_OFFERED = 6
"""Most names that an error suggests."""


class Catalog(Struct, frozen=True):
    """Everything that ``mappings/`` says.

    Args:
        variants: architecture id -> variant, in the order of the catalogue.
        layouts: layout name -> layout.
        programs: program id -> program, the authors' first.
        families: family -> the files that name its tensors: the table, then those that add columns.
        lookalikes: other networks, recognised by a tensor's name.
        folders: where the files came from, first the built-in folder.
        names: normalised name or alias -> architecture id and, for the name of particular weights, their id.
    """

    variants: Mapping[str, Variant]
    layouts: Mapping[str, LayoutFacts]
    programs: Mapping[str, Program]
    families: Mapping[str, tuple[Path, ...]]
    lookalikes: tuple[Lookalike, ...]
    folders: tuple[Path, ...]
    names: Mapping[str, tuple[str, str | None]]

    @property
    def publishers(self) -> tuple[str, ...]:
        """Every publisher in the catalogue."""
        return tuple(
            dict.fromkeys(weights.publisher for variant in self.variants.values() for weights in variant.weights)
        )

    def find(self, name: str) -> Variant:
        """The variant with this id, official name or alias; case, ``-``, ``_``, ``.`` and spaces do not matter.

        Returns:
            The variant. For the id of particular weights (``res2net50_w26_s8.timm``), it has those weights only.

        Raises:
            UnknownVariantError: no variant has this name; similar ones are suggested.
        """
        key = normalise(name)
        if key in self.names:
            architecture, weights_id = self.names[key]
            variant = self.variants[architecture]
            if weights_id is None:
                return variant
            return replace(variant, weights=tuple(each for each in variant.weights if each.id == weights_id))
        from difflib import get_close_matches

        # The start of a name is a better hint than letters in common: `res2net101` means none of the 50-layer networks.
        longer = [each for each in self.names if each.startswith(key)] if key else []
        close = longer or get_close_matches(key, self.names, n=4, cutoff=0.6)
        offered = list(dict.fromkeys(self.names[each][0] for each in close))[:_OFFERED] or list(self.variants)
        raise UnknownVariantError(
            f"no variant is called {name!r}",
            expected=f"one of {', '.join(offered)}",
            next_step="`r2convert list` shows every variant and its names",
        )

    def find_architecture(self, name: str) -> Variant:
        """The variant that a user says a file is: one of the catalogue, or an id such as ``res2net152_v1b_w26_s4``.

        Raises:
            UnknownVariantError: no variant has this name, nor does any program name one so.
        """
        try:
            return self.find(name)
        except UnknownVariantError:
            unlisted = unlisted_variant(name, self.programs)
            if unlisted is None:
                raise
            return unlisted

    def variant_of(self, architecture: Architecture, program: Program) -> Variant:
        """The variant with this architecture; one that no file lists is named by its program's pattern."""
        for variant in self.variants.values():
            if variant.architecture == architecture:
                return variant
        name = program.id_of(architecture)
        return Variant(name, name, (), architecture)


def unlisted_variant(name: str, programs: Mapping[str, Program]) -> Variant | None:
    """The variant that an id means by the pattern of a program, for the usual depths."""
    for program in programs.values():
        for family, semantics in program.families.items():
            for pattern in (semantics.id, semantics.grouped_id):
                words = read_template(pattern, name) if pattern and semantics.computed else None
                if words is None or int(words["depth"]) not in STANDARD_STAGES:
                    continue
                architecture = StagedArchitecture(
                    family=family,
                    depth=int(words["depth"]),
                    stage_blocks=STANDARD_STAGES[int(words["depth"])],
                    base_width=int(words["base_width"]),
                    scales=int(words["scales"]),
                    cardinality=int(words.get("cardinality", 1)),
                    **semantics.computed,  # type: ignore[arg-type]
                )
                if program.id_of(architecture) == name and architecture.scales > 1:
                    return Variant(name, name, (), architecture)
    return None


def normalise(name: str) -> str:
    """A name without case, hyphens, underscores, dots and spaces."""
    return re.sub(r"[-_. ]", "", name).lower()
