//! Every parser of the engines and of the relay under strange bytes.
//!
//! A target is a function of bytes that panics when the engine does, or when it disagrees with a slow oracle. The same
//! functions run in `cargo test`, on seeds and on mutations of them, and under `cargo fuzz`, which is guided by coverage.
#![forbid(unsafe_code)]

pub mod bifrost_frames;
pub mod drawn;
pub mod eikthyrnir_restore;
pub mod heidrun_count;
pub mod heidrun_counter;
pub mod heidrun_register;
pub mod scoring_restore;
pub mod scoring_table;
pub mod source;

/// Something to be tried with bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, the same as that of the program.
    pub name: &'static str,
    /// Tries it.
    pub run: fn(&[u8]),
    /// Bytes that reach far into it, to be changed.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 7] = [
    Target {
        name: "heidrun_register",
        run: heidrun_register::run,
        seeds: heidrun_register::seeds,
    },
    Target {
        name: "heidrun_count",
        run: heidrun_count::run,
        seeds: heidrun_count::seeds,
    },
    Target {
        name: "heidrun_counter",
        run: heidrun_counter::run,
        seeds: heidrun_counter::seeds,
    },
    Target {
        name: "eikthyrnir_restore",
        run: eikthyrnir_restore::run,
        seeds: eikthyrnir_restore::seeds,
    },
    Target {
        name: "scoring_restore",
        run: scoring_restore::run,
        seeds: scoring_restore::seeds,
    },
    Target {
        name: "scoring_table",
        run: scoring_table::run,
        seeds: scoring_table::seeds,
    },
    Target {
        name: "bifrost_frames",
        run: bifrost_frames::run,
        seeds: bifrost_frames::seeds,
    },
];
