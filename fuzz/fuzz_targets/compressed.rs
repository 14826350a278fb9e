#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| minikv_fuzz::compressed(data));
