"""Writes docs/settings.md from `config.Settings`: the fields, their types, and the words beside them.

`python tools/settings_reference.py` after a setting has changed; a test holds the page against the class.
"""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import inspect as kinds

from yggdrasil.config import CONFIG_BYTES_MAX, PREFIX, SECRETS, Settings

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "settings.md"
HEAD: Final = f"""# Settings

Made by `python tools/settings_reference.py` from `python/yggdrasil/config.py`: change the words there.

A setting is a variable of the environment (`{PREFIX}` and its name in capitals), or a line of the TOML file
that `{PREFIX}CONFIG` names (its name as it stands here; at most {CONFIG_BYTES_MAX // 1024} KiB). The
environment wins. A name that does not exist, or a value that breaks a rule, is named, and the server does not
start. A **secret** is better kept in a file: `{PREFIX}DATABASE_URL_FILE` holds a path to read it from.
"""
KEYS: Final = """
A key file holds one key a line, `id:base64 of 32 bytes`. The first one signs and seals, the others still
verify and open: to rotate, put a new line on top. Development makes missing files itself, in `data_dir/keys`;
production refuses to start without each of them.
"""
HEADER: Final = "\n| setting | value | default | what it is |\n|---|---|---|---|\n"


def described(struct: type[msgspec.Struct]) -> dict[str, str]:
    """The text after each field of a class, by the field's name."""
    (tree,) = ast.parse(inspect.getsource(struct)).body
    assert isinstance(tree, ast.ClassDef)  # noqa: S101 - what the source of a class is
    found = {}
    for field, after in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            found[field.target.id] = " ".join(after.value.value.split())
    return found


def said(kind: kinds.Type) -> str:
    """What may stand in a setting of this type."""
    match kind:
        case kinds.UnionType(types=types):
            return " or ".join(said(each) for each in types if not isinstance(each, kinds.NoneType))
        case kinds.LiteralType(values=values):
            return ", ".join(f"`{value}`" for value in values)
        case kinds.IntType(ge=least, le=most) | kinds.FloatType(ge=least, le=most):
            return "number" if least is None or most is None else f"{least} to {most}"
        case kinds.BoolType():
            return "`true` or `false`"
        case kinds.StrType(max_length=most):
            return "text" if most is None else f"text, at most {most} characters"
        case kinds.CustomType(cls=cls) if cls is Path:
            return "path"
        case kinds.ListType(item_type=item) | kinds.VarTupleType(item_type=item):
            return f"list: {said(item)}"
        case _:
            raise TypeError(f"say in tools/settings_reference.py what {kind} is")


def default(field: msgspec.structs.FieldInfo) -> str:
    """The default as one would write it."""
    value: Any = field.default
    if value is None or value is msgspec.NODEFAULT:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def reference() -> str:
    """The whole page. Every field has a text: KeyError names one that has none."""
    texts = described(Settings)
    plain, keys = "", ""
    types = {field.name: field.type for field in kinds.type_info(Settings).fields}  # type: ignore[attr-defined]
    for field in msgspec.structs.fields(Settings):
        secret = " (secret)" if field.name in SECRETS else ""
        cells = (f"`{field.name}`{secret}", said(types[field.name]), default(field), texts[field.name])
        line = f"| {' | '.join(cells)} |\n"
        if field.name.endswith("_key_file"):
            keys += line
        else:
            plain += line
    return f"{HEAD}{HEADER}{plain}\n## Keys\n{KEYS}{HEADER}{keys}"


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
