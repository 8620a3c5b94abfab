//! Tests of the plugin as a client sees it, by what they are about.
