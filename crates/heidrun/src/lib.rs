//! heidrun
