#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::heidrun_register::run(data));
