#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::scoring_restore::run(data));
