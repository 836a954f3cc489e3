"""Where Piccolo looks for its engine (`PICCOLO_CONF`, set by yggdrasil.db.engine)."""

from yggdrasil.db.engine import ENGINE

DB = ENGINE
