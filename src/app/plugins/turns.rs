//! The turns of a program that bears no twin: waited for, kept until the program is started, and held by its guard from there on.
//! Must not know when a life begins.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::plugins::child::lock::{Lock, Taken};
use crate::plugins::upstream::{Claim, Unclaimed, Waits};

/// Where the locks are, in the data folder. They stay when a plugin goes: who waits for one that is removed would wait for nothing.
const FOLDER: &str = "exclusive";
/// Between two looks at whether it is this one's turn.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// The turns of one plugin's program, beside those of whoever has the same data folder.
pub(super) struct Turns {
    file: PathBuf,
    within: Duration,
    /// Had, and not used yet.
    had: Mutex<Option<Lock>>,
}

/// A turn that is had. What was not used is given back.
struct Had(Arc<Turns>);

impl Claim for Had {}

impl Drop for Had {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}

impl Turns {
    /// Those of the plugin of this name; one is waited for `within` this time.
    pub(super) fn of(plugin: &str, data_folder: &Path, within: Duration) -> Arc<Self> {
        let file = data_folder.join(FOLDER).join(format!("{plugin}.lock"));
        Arc::new(Self { file, within, had: Mutex::default() })
    }

    /// Waits for the next turn, and has it for who starts the program next.
    pub(super) async fn claim(self: Arc<Self>, waits: Waits<'_>) -> Result<Box<dyn Claim>, Unclaimed> {
        let lock = self.wait(waits).await?;
        *self.had.lock().unwrap_or_else(PoisonError::into_inner) = Some(lock);
        Ok(Box::new(Had(self)))
    }

    /// The turn that was claimed, or the next one: a program may be started more than once in a life, one after the other.
    pub(super) async fn next(&self) -> Result<Lock, Unclaimed> {
        match self.take() {
            Some(lock) => Ok(lock),
            None => self.wait(&|_| {}).await,
        }
    }

    fn take(&self) -> Option<Lock> {
        self.had.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn wait(&self, waits: Waits<'_>) -> Result<Lock, Unclaimed> {
        let until = Instant::now() + self.within;
        let mut told = None;
        loop {
            let file = self.file.clone();
            let taken = tokio::task::spawn_blocking(move || Lock::take(&file)).await;
            let taken = taken.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            let by = match taken {
                Ok(Taken::Ours(lock)) => return Ok(lock),
                Ok(Taken::Others(by)) => by,
                Err(error) => {
                    let file = self.file.display();
                    return Err(Unclaimed::Failed(format!(
                        "it is exclusive, and its lock {file} cannot be had: {error}; mend that, or remove exclusive from its file"
                    )));
                }
            };
            if told != Some(by) {
                waits(format!("it waits for {} to end, since two must never run at once", other(by)));
                told = Some(by);
            }
            if Instant::now() >= until {
                return Err(Unclaimed::Held(late(by, self.within)));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// In words, whose program it is that runs.
fn other(by: Option<u32>) -> String {
    match by {
        Some(own) if own == std::process::id() => {
            "the process of it that this server started before".to_owned()
        }
        Some(pid) => format!("the process of it that server process {pid} started"),
        None => "another process of it".to_owned(),
    }
}

fn late(by: Option<u32>, within: Duration) -> String {
    format!(
        "{} has not ended within {} s, and two must never run at once: stop that server, or, if it is gone, find what is left of it \
         with `waygate-mcp doctor`",
        other(by),
        within.as_secs_f64()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_turn_that_is_not_used_is_given_back_and_one_that_is_used_is_the_users() {
        let place = tempfile::tempdir().unwrap();
        let turns = Turns::of("some", place.path(), Duration::ZERO);
        let others = Turns::of("some", place.path(), Duration::ZERO);
        let told = Mutex::new(Vec::new());
        let waits = |why| told.lock().unwrap().push(why);
        let claim = Arc::clone(&turns).claim(&waits).await.unwrap();
        assert!(told.lock().unwrap().is_empty(), "nobody has it");
        let Err(Unclaimed::Held(why)) = Arc::clone(&others).claim(&waits).await else { panic!("it is had") };
        assert!(why.contains("this server") && why.contains("0 s"), "{why}");
        assert_eq!(told.lock().unwrap().len(), 1);
        drop(claim);
        drop(Arc::clone(&others).claim(&waits).await.unwrap());
        let claim = Arc::clone(&turns).claim(&waits).await.unwrap();
        let lock = turns.next().await.unwrap();
        drop(claim);
        assert!(matches!(others.next().await, Err(Unclaimed::Held(_))), "the program has it");
        drop(lock);
        assert!(others.next().await.is_ok());
    }

    #[tokio::test]
    async fn a_lock_that_cannot_be_made_is_a_failure_that_names_it() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join(FOLDER), "").unwrap();
        let turns = Turns::of("some", place.path(), Duration::from_secs(60));
        let Err(Unclaimed::Failed(why)) = turns.next().await else { panic!("there is no folder for it") };
        assert!(why.contains("some.lock"), "{why}");
    }
}
