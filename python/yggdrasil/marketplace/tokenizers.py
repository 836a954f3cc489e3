"""The operator's tokenizers: a directory of `tokenizer.json` files, by which models are counted and billed
(docs/engines/heidrun.md)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from yggdrasil import heidrun
from yggdrasil.errors import ConfigurationError, InvalidInput

SUFFIX: Final = ".json"
FILE_BYTES_MAX: Final = 64 * 1024 * 1024


def load_tokenizers(directory: Path) -> list[str]:
    """Register every file below `directory` for the model that its path names, and return the models in
    order.

    The name is the path below the directory without `.json`: a model `meta-llama/Llama-3.1-8B` is counted by
    the file `Llama-3.1-8B.json` in the folder `meta-llama`. What begins with a dot is passed over.

    Errors: ConfigurationError with the file and the rule that it breaks.
    """
    models = []
    for file in _files(directory):
        model = file.relative_to(directory).as_posix().removesuffix(SUFFIX)
        try:
            heidrun.register(model, _content(file))
        except InvalidInput as error:
            raise _refused(file, error.detail) from None
        models.append(model)
    return models


def _files(directory: Path) -> list[Path]:
    def unreadable(error: OSError) -> None:
        raise _refused(Path(error.filename), f"cannot be read: {error.strerror}")

    found = []
    for folder, folders, names in os.walk(directory, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.startswith("."):
                continue
            file = Path(folder, name)
            if name == SUFFIX or not name.endswith(SUFFIX):
                raise _refused(file, "must be named by its model, and end in .json")
            found.append(file)
    return sorted(found)


def _content(file: Path) -> bytes:
    try:
        if not file.is_file():
            raise _refused(file, "must be a file")
        if file.stat().st_size > FILE_BYTES_MAX:
            raise _refused(file, "must be at most 64 MiB")
        return file.read_bytes()
    except OSError as error:
        raise _refused(file, f"cannot be read: {error.strerror}") from None


def _refused(place: Path, rule: str) -> ConfigurationError:
    return ConfigurationError(f"tokenizers_dir: {place}: {rule}", field="tokenizers_dir")
