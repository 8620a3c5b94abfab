//! What an operator can type.

pub mod serve;

use std::process::ExitCode;

/// Temporary.
pub fn main(builder: crate::app::Builder) -> ExitCode {
    let mut flags = crate::config::Flags::default();
    let args: Vec<String> = std::env::args().skip(1).collect();
    for pair in args.chunks(2) {
        let [name, value] = pair else { continue };
        for known in ["--port", "--workers", "--data-dir", "--env", "--host", "--log-level"] {
            if known == name {
                flags.settings.push((known, value.clone()));
            }
        }
    }
    match crate::config::load(&crate::config::Sources::of_process(flags, false)) {
        Ok(loaded) => serve::run(builder, &loaded),
        Err(faults) => {
            eprintln!("{faults}");
            ExitCode::from(78)
        }
    }
}
