//! bifrost
