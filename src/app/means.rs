//! What a server is made with: all of its start that the operator can get wrong, done before the first thread runs. Must
//! not know actors.

use std::sync::Arc;

use super::builder::{Builder, Guest};
use super::plugins::make::Maker;
use super::{StartError, data_folder, host, sealing};
use crate::access::Sealer;
use crate::config::Config;
use crate::config::plugin::BundleFile;
use crate::protocol::Eras;
use crate::protocol::render::ServerInfo;

/// The parts of a server that nothing runs on yet.
pub(super) struct Means {
    pub(super) info: ServerInfo,
    /// Where the plugins will find the house.
    pub(super) host: host::Slot,
    pub(super) guests: Vec<Guest>,
    pub(super) bundles: Vec<(String, BundleFile)>,
    pub(super) sealer: Sealer,
    pub(super) eras: Eras,
    /// What makes plugins of files, where there is something.
    pub(super) maker: Option<Arc<dyn Maker>>,
}

impl Means {
    /// Makes the plugins and reads the sealing key.
    ///
    /// # Errors
    /// When a built-in plugin cannot be made, or the key neither read nor made.
    pub(super) fn gather(builder: Builder, config: &Config) -> Result<Self, StartError> {
        let info = ServerInfo::new(builder.name(), env!("CARGO_PKG_VERSION"));
        let host = host::Slot::default();
        let (sealer, eras, maker) = (sealer(config)?, builder.spoken(), builder.maker(config));
        let bundles = builder.bundles().to_vec();
        let guests = builder.plugins(config, &host)?;
        Ok(Self { info, host, guests, bundles, sealer, eras, maker })
    }
}

fn sealer(config: &Config) -> Result<Sealer, StartError> {
    match &config.access.sealing_key {
        Some(key) => Ok(Sealer::new([key.expose().as_bytes()])),
        None => {
            let keys = sealing::keys(&data_folder(config).join("sealing.key")).map_err(StartError::Key)?;
            Ok(Sealer::new(keys.iter().map(|key| key.expose().as_bytes())))
        }
    }
}
