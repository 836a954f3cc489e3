"""What the application carries with it."""

from __future__ import annotations

from litestar import Litestar

from yggdrasil.app import Application


def test_litestars_plugins_for_other_libraries_models_are_left_out() -> None:
    def modules(app: Litestar) -> set[str]:
        return {type(plugin).__module__ for plugin in app.plugins}

    ordinary = modules(Litestar([], openapi_config=None))
    left_out = ordinary - modules(Application([], openapi_config=None))
    assert {name.split(".")[2] for name in left_out} == {"pydantic", "attrs"}
