//! The server on pipes behind the gateways of `scripts/bench`: see `lib.rs` for what it answers. It speaks 2025-11-25, and
//! with `--modern` 2026-07-28 too.
//!
//! One thread, and one write for all that was read at once: no server on pipes costs less.

use std::io::{BufRead as _, BufReader, BufWriter, Write as _};

use gateway_floor::{Answer, Offer, number_after};

const BUFFER_BYTES: usize = 64 << 10;

fn main() -> std::io::Result<()> {
    let speaks_modern = std::env::args().any(|argument| argument == "--modern");
    let offer = Offer::of(number_after("--tools").unwrap_or(1), speaks_modern);
    let mut asked = BufReader::with_capacity(BUFFER_BYTES, std::io::stdin().lock());
    let mut said = BufWriter::with_capacity(BUFFER_BYTES, std::io::stdout().lock());
    let mut line = Vec::new();
    while asked.read_until(b'\n', &mut line)? > 0 {
        if let Answer::Given(answer) | Answer::Refused(answer) = offer.answer(&line) {
            said.write_all(answer.as_bytes())?;
            said.write_all(b"\n")?;
        }
        line.clear();
        if !asked.buffer().contains(&b'\n') {
            said.flush()?;
        }
    }
    said.flush()
}
