"""`mkfa explain`: what a word means."""

from __future__ import annotations

from typing import Annotated

import typer

from mkfa.cli.shared.glossary import GLOSSARY
from mkfa.cli.shared.options import Json
from mkfa.cli.shared.printing import print_list, say


def explain(
    word: Annotated[list[str] | None, typer.Argument(metavar="WORD", help="A word; default: list all.")] = None,
    as_json: Json = False,
) -> None:
    """Explain a word, such as selffer, floor or null."""
    from mkfa.errors import UnknownNameError, nearest

    asked = " ".join(word or []).lower().strip()
    known = {name.lower(): name for name in GLOSSARY}
    name = known.get(asked) or known.get(asked.removesuffix("s")) or known.get(f"{asked} filter")
    if asked and name is None:
        near = nearest(asked, known) or "'mkfa explain' lists the words"
        raise UnknownNameError(asked, "is not in the glossary", near)
    shown = {name: GLOSSARY[name]} if name else GLOSSARY
    if as_json:
        print_list("glossary", "words", shown)
    elif name:
        say(f"{name}: {shown[name]}")
    else:
        say("Words: " + ", ".join(GLOSSARY) + ".")
        say("'mkfa explain WORD' explains one.")
