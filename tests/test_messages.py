"""Every error speaks alike: it begins with a small letter, or a name, and ends without a full stop."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from r2convert import errors
from tests.test_architecture import PACKAGE, ROOT

ERRORS = {name for name in vars(errors) if name.endswith("Error")} | {"BadParameter", "UsageError", "ClickException"}
PARTS = {"what", "expected", "got", "next_step"}
NAMES = ("Content-Encoding", "Latin-1", "Paddle", "BatchNorms", "OpenCV", "NumPy", "MindSpore")
"""What may stand first, beside words that begin with two capitals such as SHA-256, TF32 and SRC."""


def texts(node: ast.expr, constants: dict[str, ast.expr]) -> Iterator[str]:
    """The text of a literal, of either branch of a condition, or of a constant of the module."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=values):
            yield "".join(str(each.value) if isinstance(each, ast.Constant) else "{}" for each in values)
        case ast.BinOp(left=left, right=right):
            yield from ("".join(pair) for pair in zip(texts(left, constants), texts(right, constants), strict=False))
        case ast.IfExp(body=body, orelse=orelse):
            yield from (*texts(body, constants), *texts(orelse, constants))
        case ast.BoolOp(values=values):
            for each in values:
                yield from texts(each, constants)
        case ast.Name(id=name) if name in constants:
            yield from texts(constants[name], {})


def messages(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of what is handed to an error's class, or to a function of the module that makes or raises one."""
    constants = {
        ast.unparse(target): node.value
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    }
    makers = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.returns is not None
        if ast.unparse(node.returns).endswith(("Error", "Exception", "NoReturn"))
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            keywords = {each.arg: each.value for each in node.keywords}
            if name in ERRORS | makers or keywords.keys() & PARTS:
                parts = [*node.args, *(value for part, value in keywords.items() if part in PARTS)]
                yield from ((node.lineno, text) for part in parts for text in texts(part, constants))


def well_begun(text: str) -> bool:
    """Whether a message begins with a small letter, a name, or no letter at all."""
    return not text[:1].isupper() or text.startswith(NAMES) or (text[1:2].isupper() and text[1:2].isalpha())


def test_messages_begin_small_and_end_without_a_full_stop() -> None:
    found, wrong = 0, []
    for path in sorted(PACKAGE.rglob("*.py")):
        for line, text in messages(ast.parse(path.read_text(encoding="utf-8"))):
            found += 1
            if not well_begun(text) or (text.endswith(".") and not text.endswith("...")):
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {text}")
    assert found > 500
    assert wrong == []
