//! Watches the plugins' folder, and asks for a reload when it has come to rest after a change. Must not read it.

use std::path::Path;
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use crate::actors::plugin::reload::ReloadHandle;

/// Who asks, in the history.
const WATCH: &str = "waygate: the folder changed";
/// So long nothing must change before the folder is read.
const REST: Duration = Duration::from_millis(300);
/// A folder that never rests is read after this.
const REST_MOST: Duration = Duration::from_secs(3);

/// Watches `folder` until what it returns is dropped; none when that cannot be done, which the log then says.
pub(in crate::app) fn watch(folder: &Path, reload: ReloadHandle) -> Option<RecommendedWatcher> {
    // One that waits says it all.
    let (tell, told) = mpsc::channel(1);
    let hear = move |event: notify::Result<notify::Event>| {
        if !matches!(event, Ok(notify::Event { kind: EventKind::Access(_), .. })) {
            let _one_waits = tell.try_send(());
        }
    };
    let watched = notify::recommended_watcher(hear).and_then(|mut watcher| {
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    match watched {
        Ok(watcher) => {
            actix_rt::spawn(wait_for_rest(told, reload));
            Some(watcher)
        }
        Err(error) => {
            log::warn!(
                "changes in {} are not noticed ({error}); run `waygate-mcp plugins reload` after a change",
                folder.display()
            );
            None
        }
    }
}

async fn wait_for_rest(mut told: mpsc::Receiver<()>, reload: ReloadHandle) {
    while told.recv().await.is_some() {
        let rest =
            async { while tokio::time::timeout(REST, told.recv()).await.is_ok_and(|more| more.is_some()) {} };
        // Either way it is time.
        let _rested = tokio::time::timeout(REST_MOST, rest).await;
        reload.nudge(WATCH);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep};

    use super::*;
    use crate::actors::plugin::reload::Asked;

    /// A watch that is told of changes by hand, and where its asks for a reload arrive.
    fn resting() -> (mpsc::Sender<()>, mpsc::Receiver<Asked>, tokio::task::JoinHandle<()>) {
        let (tell, told) = mpsc::channel(1);
        let (reload, asks) = ReloadHandle::new(Duration::from_secs(1));
        (tell, asks, tokio::spawn(wait_for_rest(told, reload)))
    }

    #[tokio::test(start_paused = true)]
    async fn many_changes_are_one_reload_once_the_folder_rests() {
        let (tell, mut asks, _watch) = resting();
        for _ in 0..8 {
            tell.send(()).await.unwrap();
            sleep(REST / 2).await;
            assert!(asks.try_recv().is_err(), "it does not rest yet");
        }
        sleep(REST).await;
        assert!(asks.try_recv().is_ok(), "it rests");
        sleep(REST_MOST * 2).await;
        assert!(asks.try_recv().is_err(), "all of them were one");
    }

    #[tokio::test(start_paused = true)]
    async fn a_folder_that_never_rests_is_read_all_the_same() {
        let (tell, mut asks, _watch) = resting();
        let began = tokio::time::Instant::now();
        while asks.try_recv().is_err() {
            assert!(began.elapsed() <= REST_MOST + REST, "nothing was read");
            tell.send(()).await.unwrap();
            advance(REST / 2).await;
            tokio::task::yield_now().await;
        }
        assert!(began.elapsed() >= REST_MOST, "it was given the time to rest");
    }
}
