//! What a server is made with: all of its start that the operator can get wrong, done before the first thread runs. Must
//! not know actors.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::builder::{Builder, Guest};
use super::plugins::make::Maker;
use super::{StartError, data_folder, host, plugins, sealing};
use crate::access::Sealer;
use crate::actors::certificate::Certificate;
use crate::config::plugin::BundleFile;
use crate::config::{Config, Secret};
use crate::protocol::Eras;
use crate::protocol::render::ServerInfo;
use crate::storage::{self, Notary, folder};

/// In the data folder.
const SEALING_KEY: &str = "sealing.key";

/// The parts of a server that nothing runs on yet.
pub(super) struct Means {
    pub(super) info: ServerInfo,
    /// Where the plugins will find the house.
    pub(super) host: host::Slot,
    pub(super) guests: Vec<Guest>,
    pub(super) bundles: Vec<(String, BundleFile)>,
    pub(super) sealer: Sealer,
    /// Signs the checkpoints of the history, with the same keys.
    pub(super) notary: Notary,
    /// What keys of the cache differ by from those of other servers: out of the first of those keys, which servers that
    /// share a cache share, too.
    pub(super) salt: Vec<u8>,
    pub(super) eras: Eras,
    /// What the network is spoken to with, where that is over TLS.
    pub(super) certificate: Option<Arc<Certificate>>,
    /// What makes plugins of files, where there is something.
    pub(super) maker: Option<Arc<dyn Maker>>,
}

impl Means {
    /// Makes the plugins and reads the sealing key.
    ///
    /// # Errors
    /// When a built-in plugin cannot be made, or the key neither read nor made.
    pub(super) fn gather(
        builder: Builder,
        config: &Config,
        certificate: Option<Arc<Certificate>>,
    ) -> Result<Self, StartError> {
        let info = ServerInfo::new(builder.name(), env!("CARGO_PKG_VERSION"));
        let host = host::Slot::default();
        let secrets = secrets(config)?;
        let secrets = || secrets.iter().map(|key| key.expose().as_bytes());
        let (sealer, notary) = (Sealer::new(secrets()), Notary::new(secrets()));
        let salt = secrets().next().map(salt_of).unwrap_or_default();
        let (eras, maker) = (builder.spoken(), builder.maker(config));
        let bundles = builder.bundles().to_vec();
        let mut guests = builder.plugins(config, &host)?;
        if maker.is_some() {
            // Now, and not with the other files: what is denied must not be offered for a moment.
            let folder = plugins::folder_of(config);
            guests.iter_mut().for_each(|guest| guest.told = plugins::builtins::read(&folder, &guest.name));
        }
        Ok(Self { info, host, guests, bundles, sealer, notary, salt, eras, certificate, maker })
    }
}

/// Not the key, and nothing that says anything of it.
fn salt_of(key: &[u8]) -> Vec<u8> {
    Sha256::new().chain_update(b"waygate cache").chain_update([0]).chain_update(key).finalize().to_vec()
}

fn secrets(config: &Config) -> Result<Vec<Secret>, StartError> {
    match &config.access.sealing_key {
        Some(key) => Ok(vec![key.clone()]),
        None => sealing::keys(&data_folder(config).join(SEALING_KEY)).map_err(StartError::Key),
    }
}

/// The notary of the server on this data folder, for verbs that look at its history; without a key where there is none yet.
///
/// # Errors
/// A sentence, when there is a key and it cannot be read.
pub fn notary(config: &Config) -> Result<Notary, StartError> {
    let is_there = config.access.sealing_key.is_some() || data_folder(config).join(SEALING_KEY).exists();
    let secrets = if is_there { secrets(config)? } else { Vec::new() };
    Ok(Notary::new(secrets.iter().map(|key| key.expose().as_bytes())))
}

/// The same for verbs that write into it: with a key that is made if there is none yet, for the server to come. Where the database is
/// a server, those who serve may well be elsewhere, with a key of their own.
///
/// # Errors
/// A sentence, when it can be neither read nor made.
pub fn new_notary(config: &Config) -> Result<Notary, StartError> {
    if storage::is_server(&config.database) {
        return notary(config);
    }
    if config.access.sealing_key.is_none() {
        folder::make(&data_folder(config))?;
    }
    Ok(Notary::new(secrets(config)?.iter().map(|key| key.expose().as_bytes())))
}
