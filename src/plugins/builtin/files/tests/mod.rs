//! Tests of the plugin as a client sees it, by what they are about.

mod hostile;
mod listing;
mod offering;
mod reading;
mod searching;
mod watching;
mod writing;
