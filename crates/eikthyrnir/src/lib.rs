//! eikthyrnir
