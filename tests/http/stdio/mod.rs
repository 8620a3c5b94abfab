//! What Waygate promises on standard streams, chapter by chapter: black-box tests against real `stdio` processes.

mod backing;
mod framing;
mod legacy;
mod lost;
mod modern;
mod rmcp;
mod shutdown;
