//! HTTP over the socket in a data folder, for the client of `remote`: whoever may open it needs neither key nor certificate.
//!
//! Must not know what is asked.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use ureq::config::Config;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

use crate::storage::socket;

/// What stands in a request's URL; nobody is looked for there.
pub const URL: &str = "http://127.0.0.1/mcp";

/// An agent that reaches the server on this data folder, and nobody else.
pub fn agent(config: Config, folder: PathBuf) -> ureq::Agent {
    ureq::Agent::with_parts(config, Door { folder }, DefaultResolver::default())
}

#[derive(Debug)]
struct Door {
    folder: PathBuf,
}

impl Connector<()> for Door {
    type Out = Line;

    fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Line>, ureq::Error> {
        let stream = socket::connect(&self.folder, socket::SERVER)?;
        stream.set_nonblocking(false)?;
        let buffers =
            LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Line { stream, buffers }))
    }
}

#[derive(Debug)]
struct Line {
    stream: UnixStream,
    buffers: LazyBuffers,
}

/// What is left of a time; none where there is no limit.
fn left(timeout: NextTimeout) -> Result<Option<Duration>, ureq::Error> {
    if timeout.after.is_zero() {
        return Err(ureq::Error::Timeout(timeout.reason));
    }
    Ok(timeout.not_zero().map(|left| *left))
}

/// Says of an I/O error whether it was the time.
fn failed(error: std::io::Error, timeout: NextTimeout) -> ureq::Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => ureq::Error::Timeout(timeout.reason),
        _ => error.into(),
    }
}

impl Transport for Line {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.set_write_timeout(left(timeout)?)?;
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        self.stream.write_all(output).map_err(|error| failed(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.set_read_timeout(left(timeout)?)?;
        let read = self.stream.read(self.buffers.input_append_buf());
        let amount = read.map_err(|error| failed(error, timeout))?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        // Each request has a connection of its own: there are few, and the socket is near.
        false
    }
}
