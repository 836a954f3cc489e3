//! The only place where an engine's error becomes a Python exception. The tree itself lives in `yggdrasil.errors`.
