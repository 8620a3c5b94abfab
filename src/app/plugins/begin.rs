//! Reloads from their making to their beginning: they are asked for as soon as the house stands. Must not know how one is
//! carried out.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};

use super::builtins::Builtins;
use super::make::Maker;
use super::reload::Reloader;
use super::teller::Teller;
use super::watch::watch;
use super::{Nursery, folder_of};
use crate::actors::db::Recorder;
use crate::actors::plugin::Roll;
use crate::actors::plugin::reload::{Asked, ReloadHandle};
use crate::app::{StartError, builder};
use crate::config::Config;
use crate::config::plugin::BundleFile;

/// How long a reload may take.
const RELOAD_WITHIN: Duration = Duration::from_secs(120);
/// How long plugins are waited for where another server serves meanwhile. One that takes longer appears when it is ready.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);

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

/// Waits until each plugin serves, or is known not to, but not forever. One that waits for the process of it that the other server
/// runs is known not to: the other one lets go of that when this one serves, and goes on with it if this one never does.
pub(in crate::app) async fn settle(starting: oneshot::Receiver<()>, roll: &Roll) {
    let settled = async {
        // It ends by being let go of.
        drop(starting.await);
        let members = roll.all();
        let waits = members.iter().map(|member| member.seat.settled());
        // Why one does not serve is logged, and shown with it.
        join_all(waits).await
    };
    if tokio::time::timeout(SETTLED_WITHIN, settled).await.is_err() {
        log::warn!(
            "not all plugins are ready after {} s; those that are not follow",
            SETTLED_WITHIN.as_secs()
        );
    }
}

/// Reloads that have not begun.
pub(in crate::app) struct Reloading {
    reloader: Reloader,
    asks: mpsc::Receiver<Asked>,
    handle: ReloadHandle,
    folder: PathBuf,
}

impl Reloading {
    /// Starts the plugins of the folder without holding anybody up, and watches it, until the server stops. What is given ends
    /// when all of them are starting.
    pub(in crate::app) fn begin(self) -> oneshot::Receiver<()> {
        let Self { reloader, asks, handle, folder } = self;
        let (starts, starting) = oneshot::channel();
        actix_rt::spawn(async move {
            let _watcher = watch(&folder, handle.clone());
            tokio::select! {
                () = reloader.run(starts, asks) => {}
                () = handle.ended() => {}
            }
        });
        starting
    }
}
