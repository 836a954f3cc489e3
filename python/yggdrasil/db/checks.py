"""Checks on the source itself: stores take `tx` first, and no SQL asks the database for time, ids or another
role.

`python -m yggdrasil.db.checks [directory]` prints what it finds and fails if that is anything.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).parent.parent

BANNED_SQL: Final[tuple[tuple[str, re.Pattern[str]], ...]] = tuple(
    (why, re.compile(pattern, re.IGNORECASE))
    for why, pattern in (
        ("takes the time from the database: pass it as a parameter", r"\b(now|timeofday)\s*\("),
        (
            "takes the time from the database: pass it as a parameter, leases use tx.clock()",
            r"\b(current_(timestamp|date|time)|localtime(stamp)?|(clock|statement|transaction)_timestamp)\b",
        ),
        (
            "makes an id: ids come from IdSource",
            r"\b(gen_random_uuid|uuidv[47]|uuid_generate_v\w+|nextval)\s*\(",
        ),
        ("makes chance: it comes from IdSource", r"\brandom\s*\("),
        ("changes the role", r"\b(SET|RESET)\s+(LOCAL\s+|SESSION\s+)?(ROLE|SESSION\s+AUTHORIZATION)\b"),
        ("sets the session: only SET LOCAL", r"(^|;)\s*SET\s+(?!LOCAL\b|CONSTRAINTS\b|TRANSACTION\b)\w"),
        ("sets a setting: the scope is set by transaction()", r"\bset_config\s*\("),
        ("ends or begins a transaction", r"(^|;)\s*(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|START\s+TRANSACTION)\b"),
        ("makes numbers in sequence", r"\b(small|big)?serial\b|\bGENERATED\b[^;]*\bAS\s+IDENTITY\b"),
        ("runs as its owner", r"\bSECURITY\s+DEFINER\b"),
        ("grants to everybody", r"\bTO\s+PUBLIC\b"),
        ("is refused on tables with row security", r"(^|;)\s*COPY\b"),
    )
)
BANNED_IN_STORES: Final = re.compile(r"(^|;)\s*(CREATE|ALTER|DROP|GRANT|REVOKE|TRUNCATE)\b", re.IGNORECASE)
SCOPES_IN_STORES: Final = re.compile(
    r"\b(leave_scope|enter_scope|admit_batch|finish_batch)\s*\(", re.IGNORECASE
)
READS_CATALOG: Final = re.compile(
    r"\b(pg_(?!(column_size|(try_)?advisory_xact_lock)\b)\w+|reltuples|relpages|information_schema)\b", re.I
)
"""Row estimates and the like count everybody's rows, and stay readable to every role."""
ASKS: Final = frozenset({"fetch", "fetchrow", "fetchval", "execute", "executemany"})
BANNED_CALLS: Final = frozenset({"save", "objects", "get_or_create"})
"""Piccolo's: they do not know composite keys, or are slow."""

_BODY: Final = re.compile(r"\$\$.*?\$\$|\bBEGIN\s+ATOMIC\b.*?\bEND\s*;", re.DOTALL | re.IGNORECASE)
_SETS_SCOPE: Final = re.compile(r"CREATE FUNCTION platform\.(leave|enter)_scope\([^;$]*;")
_LOOKS_LIKE_SQL: Final = re.compile(
    r"\s*(--|SELECT|INSERT|UPDATE|DELETE|WITH|SET|RESET|BEGIN|COMMIT|ROLLBACK|COPY|MERGE|VALUES|LOCK|CREATE|ALTER|DROP|GRANT|REVOKE|TRUNCATE|FROM|WHERE|AND|ORDER)\b",
    re.IGNORECASE,
)


def check(root: Path = PACKAGE) -> list[str]:
    """Everything found below `root`, as `file:line: message`."""
    found: list[str] = []
    for path in sorted(root.rglob("*.sql")):
        found += [f"{path}:{line}: {why}" for line, why in lint_sql(path.read_text())]
    for path in sorted(root.rglob("store*.py")):
        tree = ast.parse(path.read_text(), filename=str(path))
        found += [f"{path}:{line}: {why}" for line, why in lint_store(tree)]
    return found


def lint_sql(text: str) -> Iterator[tuple[int, str]]:
    """(line, message) for each banned thing outside comments and quoted text."""
    # Blanked and not removed, so that the lines still count.
    bare = re.sub(r"--[^\n]*|/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m.group()), text, flags=re.DOTALL)
    bare = re.sub(r"'(?:[^']|'')*'", lambda m: re.sub(r"[^\n]", " ", m.group()), bare)
    # The body of a function begins a block, not a transaction; two functions set the scope of items.
    bare = _BODY.sub(lambda m: re.sub(r"\bBEGIN\b", "     ", m.group(), flags=re.IGNORECASE), bare)
    bare = _SETS_SCOPE.sub(lambda m: m.group().replace("set_config", "          "), bare)
    for why, pattern in BANNED_SQL:
        for match in pattern.finditer(bare):
            yield bare.count("\n", 0, match.end()) + 1, f"{match.group().strip()!r} {why}"


def lint_store(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, message): functions without `tx: Tx` first, banned SQL in strings, Piccolo calls that are
    banned.
    """
    yield from _lint_functions(tree.body, method=False)
    yield from _lint_shapes(tree)
    documentation = {id(node) for node in _docstrings(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            if _LOOKS_LIKE_SQL.match(node.value):
                for line, why in lint_sql(node.value):
                    yield node.lineno + line - 1, why
                if BANNED_IN_STORES.search(node.value):
                    yield node.lineno, "changes the schema or its grants: that is a migration's"
                if READS_CATALOG.search(node.value):
                    yield node.lineno, "asks the catalog, which counts the rows of all networks"
                if SCOPES_IN_STORES.search(node.value):
                    yield (
                        node.lineno,
                        "sets another scope than its transaction's: use database.call()",
                    )
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in BANNED_CALLS
        ):
            yield node.lineno, f"calls {node.func.attr}(): use select, insert, update, delete"


def _lint_functions(body: list[ast.stmt], *, method: bool) -> Iterator[tuple[int, str]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _lint_functions(node.body, method=True)
        elif isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef):
            # A private function that awaits nothing cannot reach the database: it shapes a row.
            if isinstance(node, ast.FunctionDef) and node.name.startswith("_"):
                continue
            arguments = [*node.args.posonlyargs, *node.args.args][
                1 if method and not _is_static(node) else 0 :
            ]
            first = arguments[0] if arguments else None
            annotation = ast.unparse(first.annotation) if first is not None and first.annotation else ""
            if first is None or first.arg != "tx" or annotation.strip("\"'") not in ("Tx", "db.Tx"):
                yield node.lineno, f"{node.name}: the first argument of a store function is `tx: Tx`"


def _lint_shapes(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The text of every statement is written here: what a caller says is an argument and never SQL."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.AsyncFunctionDef | ast.FunctionDef):
            continue
        assigned: dict[str, list[ast.expr]] = {}
        for node in ast.walk(function):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        assigned.setdefault(target.id, []).append(node.value)
        for node in ast.walk(function):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ASKS
                and not (node.args and _is_fixed(node.args[0], assigned))
            ):
                yield node.lineno, "runs SQL whose text is not written here: pass values as arguments"


def _is_fixed(node: ast.expr, assigned: dict[str, list[ast.expr]]) -> bool:
    match node:
        case ast.Constant():
            return isinstance(node.value, str)
        case ast.Name():
            # A constant of the module, or a local name that only ever holds such text.
            values = assigned.get(node.id, [])
            return node.id.isupper() if not values else all(_is_fixed(value, {}) for value in values)
        case ast.BinOp(op=ast.Add()):
            return _is_fixed(node.left, assigned) and _is_fixed(node.right, assigned)
        case ast.IfExp():
            return _is_fixed(node.body, assigned) and _is_fixed(node.orelse, assigned)
        case ast.JoinedStr():
            return all(_is_fixed(part, assigned) for part in node.values)
        case ast.FormattedValue():
            return isinstance(node.value, ast.Name) and _is_fixed(node.value, assigned)
    return False


def _is_static(node: ast.AsyncFunctionDef | ast.FunctionDef) -> bool:
    return any(isinstance(each, ast.Name) and each.id == "staticmethod" for each in node.decorator_list)


def _docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    """String statements: documentation, wherever they stand."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value


def main(arguments: list[str]) -> int:
    """Exit status: 0 when nothing was found."""
    found = check(Path(arguments[0]) if arguments else PACKAGE)
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
