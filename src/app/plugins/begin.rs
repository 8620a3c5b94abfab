//! Reloads from their making to their beginning: they are asked for as soon as the house stands. Must not know how one is
//! carried out.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::builtins::Builtins;
use super::make::Maker;
use super::reload::Reloader;
use super::teller::Teller;
use super::watch::watch;
use super::{Nursery, folder_of};
use crate::actors::db::Recorder;
use crate::actors::plugin::reload::{Asked, ReloadHandle};
use crate::app::{StartError, builder};
use crate::config::Config;
use crate::config::plugin::BundleFile;

/// How long a reload may take.
const RELOAD_WITHIN: Duration = Duration::from_secs(120);

/// What carries out reloads, and how it is asked. It begins when the house stands.
pub(in crate::app) fn reloading(
    plugins: (Builtins, Nursery),
    maker: Arc<dyn Maker>,
    own_bundles: Vec<(String, BundleFile)>,
    config: &Config,
    recorder: Recorder,
) -> Result<(ReloadHandle, Reloading), StartError> {
    let folder = folder_of(config);
    builder::make_folder(&folder)
        .map_err(|error| StartError::Plugin(format!("{} cannot be made: {error}", folder.display())))?;
    let (handle, asks) = ReloadHandle::new(RELOAD_WITHIN);
    let reloader = Reloader::new(plugins, maker, own_bundles, folder.clone(), Teller(recorder));
    Ok((handle.clone(), Reloading { reloader, asks, handle, folder }))
}

/// Reloads that have not begun.
pub(in crate::app) struct Reloading {
    reloader: Reloader,
    asks: mpsc::Receiver<Asked>,
    handle: ReloadHandle,
    folder: PathBuf,
}

impl Reloading {
    /// Starts the plugins of the folder without holding anybody up, and watches it, until the server stops.
    pub(in crate::app) fn begin(self) {
        let Self { reloader, asks, handle, folder } = self;
        actix_rt::spawn(async move {
            let _watcher = watch(&folder, handle.clone());
            tokio::select! {
                () = reloader.run(asks) => {}
                () = handle.ended() => {}
            }
        });
    }
}
