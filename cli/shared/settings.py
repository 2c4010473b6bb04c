"""Options of verbs from a TOML file: a table for each verb, whose keys are its options without dashes in front.

`[runs.show]` is the table of `mkfa runs show`. Values are what the command line takes; lists stand for options that may
be repeated and for values joined by commas, tables for repeated NAME=VALUE. Options of the command line win.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from mkfa.errors import MkfaError, nearest


@dataclass
class Settings:
    """The file that was named, its tables, the words of the command line, and options that were taken from the file."""

    path: Path | None = None
    tables: Mapping[str, Any] = field(default_factory=dict)
    words: Sequence[str] = ()
    taken: Sequence[str] = ()

    def start(self, words: Sequence[str]) -> None:
        """Forget the file of an earlier command; `words` are those of this one."""
        self.path, self.tables, self.words, self.taken = None, {}, words, ()

    def read(self, path: Path, verbs: Collection[str]) -> None:
        """Read a file; raises MkfaError: it cannot be read, is not TOML, or names something that is not a verb."""
        from mkfa.training.recipe import parse_toml

        try:
            tables = parse_toml(path.expanduser().read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise MkfaError(path, f"cannot be read ({reason})", "check the path") from None
        except ValueError as error:
            raise MkfaError(path, f"is not valid TOML ({error})", "correct the file") from None
        for name, table in tables.items():
            if not isinstance(table, dict):
                remedy = f"put it into the table of a verb, such as [{next(iter(verbs))}]"
                raise MkfaError(path, f"sets {name!r} outside of a table", remedy)
            if _spelled(name) not in verbs:
                remedy = nearest(_spelled(name), verbs) or "'mkfa --help' lists the verbs"
                raise MkfaError(path, f"has a table [{name}], which is not a verb", remedy)
        self.path, self.tables = path, tables

    def defaults(self, context: Any) -> dict[str, Any]:
        """Return what the file says about a verb: name of a parameter -> its value as words of the command line.

        Raises MkfaError: an option is unknown or named twice, or has a value that no option takes.
        """
        verb = _verb(context)
        table: Mapping[str, Any] = self.tables
        for name in verb:
            table = next((part for key, part in table.items() if _spelled(key) == name), {})
        parameters = [p for p in context.command.get_params(context) if p.param_type_name == "option"]
        known = {o.removeprefix("--"): p for p in parameters for o in p.opts if o not in ("--help", "--config")}
        below = getattr(context.command, "commands", {})
        values: dict[str, Any] = {}
        for key, value in table.items():
            name = _spelled(key)
            if name in below and isinstance(value, dict):
                continue
            if name not in known:
                remedy = nearest(name, [*known, *below]) or f"'{context.command_path} --help' lists the options"
                raise self._error(verb, f"has an unknown option {key!r}", remedy)
            if known[name].name in values:
                raise self._error(verb, f"sets {name!r} twice", "leave one of them out")
            problem = _problem(known[name], value)
            if problem:
                raise self._error(verb, f"sets {key!r} to {_word(value)[:80]}, {problem[0]}", problem[1])
            values[known[name].name] = _value(known[name], value)
        return values

    def parse(self, context: Any, args: Sequence[str], parse: Callable[[], list[str]]) -> list[str]:
        """Parse a verb with the file's options as its defaults; results record the command that needs no file."""
        context.default_map = self.defaults(context)
        try:
            rest = parse()
        except Exception as error:
            parameter = getattr(error, "param", None)
            if parameter is None or not _is_taken(context, parameter.name):
                raise
            what = f"sets {parameter.opts[0].removeprefix('--')!r} to a wrong value: {getattr(error, 'message', error)}"
            remedy = f"'{context.command_path} --help' says what it takes"
            raise self._error(_verb(context), what, remedy) from None
        if self.path is not None:
            self._record(context, args)
        return rest

    def _record(self, context: Any, args: Sequence[str]) -> None:
        from mkfa.storage.heading import set_command

        taken: list[str] = []
        for parameter in context.command.get_params(context):
            if _is_taken(context, parameter.name):
                value = context.default_map[parameter.name]
                if isinstance(value, bool):
                    taken += (parameter.opts if value else parameter.secondary_opts)[:1]
                else:
                    for word in value if isinstance(value, list) else [value]:
                        taken += [parameter.opts[0], word]
        before = _without_file(self.words[: len(self.words) - len(args)])
        if before[-1:] != [context.info_name]:  # a path stood for the verb
            before.append(context.info_name)
        self.taken = taken
        set_command(shlex.join(["mkfa", *before, *taken, *_without_file(args)]))

    def _error(self, verb: Sequence[str], problem: str, remedy: str) -> MkfaError:
        return MkfaError(self.path, f"[{'.'.join(verb)}] {problem}", remedy)


SETTINGS = Settings()


def read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Read the file of --config: before a verb for it, after a verb at once, as the other options need it."""
    if path is not None:
        root: Any = context.find_root().command
        SETTINGS.read(path, root.commands)
        if context.parent is not None:
            context.default_map = SETTINGS.defaults(context)
    return path


def _verb(context: Any) -> list[str]:
    """Return the names of a verb and of those that it belongs to, without the program's."""
    names: list[str] = []
    while context.parent is not None:
        names.insert(0, context.info_name)
        context = context.parent
    return names


def _spelled(name: str) -> str:
    return name.replace("_", "-")


def _problem(parameter: Any, value: Any) -> tuple[str, str] | None:
    """Return why an option cannot have a value, and what to do; None if the parser may judge."""
    if parameter.is_flag:
        return None if isinstance(value, bool) else ("but it is a switch", "give true or false")
    if isinstance(value, bool):
        return "but it is not a switch", "give a text or a number"
    items = value if isinstance(value, list) else value.values() if isinstance(value, dict) else [value]
    if isinstance(value, dict) and not parameter.multiple:
        return "but it takes one value", "give a text or a number"
    whole = isinstance(value, dict)
    plain = all(isinstance(item, str | int | float) or (whole and isinstance(item, list)) for item in items)
    return None if plain else ("which no option takes", "give a text, a number or a list of them")


def _value(parameter: Any, value: Any) -> Any:
    """Return a value as the command line has it: a switch as it is, else a word, or words if it may be repeated."""
    if isinstance(value, bool):
        return value
    if isinstance(value, dict):
        return [f"{name}={_word(item)}" for name, item in value.items()]
    if parameter.multiple:
        return [_word(item) for item in (value if isinstance(value, list) else [value])]
    return _word(value)


def _word(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_word, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_taken(context: Any, name: str) -> bool:
    return getattr(context.get_parameter_source(name), "name", "") == "DEFAULT_MAP"


def _without_file(words: Sequence[str]) -> list[str]:
    made: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*made, word, *rest]
        if word == "--config":
            rest = rest[1:]
        elif not word.startswith("--config="):
            made.append(word)
    return made
